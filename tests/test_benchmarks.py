"""The benchmarks run, on the tiny checkpoint; their figures are for the machines that they are meant for."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import TINY

from musicldm import audio

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
CLIP = "0.16"  # seconds: four rows of latents
SUMMED = 1e-5  # float32 sums in another order, relative


@pytest.fixture
def script(bench, monkeypatch, tmp_path):
    """A benchmark's main, in this process: importing torch again would cost more than all of it."""

    def run(name: str, *arguments: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", "--folder", str(TINY), *arguments])
        assert not bench(name).main()
        stored = json.loads((tmp_path / f"{name}.json").read_text())
        assert stored["machine"]["torch"] == torch.__version__
        return stored["rows"]

    return run


def test_operations_are_counted_as_executed_and_as_published(bench):
    workload = bench("workload")
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    found = workload.count(lambda: conv(torch.ones(2, 3, 8, 4)), conv)
    assert found["convolution"] == pytest.approx(2e-9 * 2 * 3 * 5 * 9 * 8 * 4)
    assert found["linear"] == found["attention"] == found["extra_gflop"] == 0

    q = torch.ones(1, 2, 6, 4)  # two products of (n, d) x (d, n)
    found = workload.count(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q), conv)
    assert found["attention"] == pytest.approx(2e-9 * 2 * 2 * 6 * 6 * 4)

    up = workload.Upsample(4)
    found = workload.count(lambda: up(torch.ones(1, 4, 6, 2)), up)
    assert found["convolution"] == pytest.approx(2e-9 * 16 * 4 * 4 * 6 * 2)
    assert found["convolution"] + found["extra_gflop"] == pytest.approx(2e-9 * 9 * 4 * 4 * 12 * 4)


def test_roofline_and_the_pipeline_with_its_floor(script, tmp_path):
    rows = script("roofline", "--quick", "--rounds", "1", "--seconds", CLIP)
    ceilings, networks = [row for row in rows if "ceiling" in row], [row for row in rows if "what" in row]
    assert len(ceilings) == 5
    assert [row["what"] for row in networks] == ["U-Net guided step", "VAE decode", "vocoder"]
    for row in networks:
        assert row["gflop"] == pytest.approx(sum(row["gflop_by_kind"].values()), abs=1e-3)
        assert sum(row["profiled_share"].values()) == pytest.approx(1, abs=0.01)
        assert row["floor_s"]["float32"] > 0
    assert networks[1]["gflop_of_published_layers"] > networks[1]["gflop"]

    rows = script("bench_pipeline", "--lengths", "0.08,0.16", "--batches", "1,2,3", "--steps", "1,2,3",
                  "--few-steps", "1", "--clip", CLIP)  # fmt: skip
    assert [row["series"] for row in rows] == ["length"] * 2 + ["batch"] * 3 + ["steps"] * 3
    assert all(row["floor_s"] > 0 for row in rows)
    one, two, three = (row["floor_s"] for row in rows[2:5])
    assert three - two == pytest.approx(two - one, abs=2e-6)  # rounded to microseconds
    fits = json.loads((tmp_path / "bench_pipeline.json").read_text())["fits"]
    assert set(fits) == {"batch", "steps"}


def test_a_straight_line_has_an_r_squared_of_one(bench):
    line = bench("bench_pipeline").line
    fit = line([{"steps": x, "median_s": 2 * x + 3} for x in (5, 10, 20)], "steps")
    assert fit == {"slope_s": 2, "intercept_s": 3, "r_squared": 1}
    assert line([{"steps": x, "median_s": x**2} for x in (5, 10, 20, 40)], "steps")["r_squared"] < 0.97


def test_modules_in_other_precisions_and_layouts(script):
    rows = script(
        "bench_modules", "--variants", "float32-channels-last,bfloat16", "--rounds", "1", "--seconds", CLIP
    )
    assert [row["variant"] for row in rows] == 3 * ["float32", "float32-channels-last", "bfloat16"]
    for exact, layout, half in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert exact["difference"] == 0 <= layout["difference"] < 1e-5 < half["difference"] < 0.1
        assert exact["ratio"] == 1


def test_precision(script):
    rows = script("precision", "--seconds", CLIP, "--steps", "3")
    networks = {(row["what"], row["dtype"]): row for row in rows if "what" in row}
    step = "U-Net guided step"
    assert networks[step, "float32"]["difference"] == 0
    assert 0 < networks[step, "float16"]["difference"] < networks[step, "bfloat16"]["difference"] < 0.1
    clips = {row["clip"]: row for row in rows if "clip" in row}
    assert clips["VAE bfloat16"]["latents_difference"] == 0 < clips["VAE bfloat16"]["spectral_distance_db"]
    assert clips["all bfloat16"]["latents_difference"] > 0
    assert clips["float32, feature reuse 2"]["latents_difference"] > 0


def test_long_form(script, bench, tmp_path, monkeypatch, capsys):
    module = bench("long_form")
    short = ("--window", "0.32", "--steps", "2", "--seeds", "0")
    monkeypatch.setattr(
        sys, "argv", ["long_form.py", "--folder", str(TINY), "--one", "windows", "--seconds", "0.48", *short]
    )
    module.main()
    alone = capsys.readouterr().out  # what a process of its own prints
    monkeypatch.setattr(
        module.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, alone, "")
    )
    rows = script("long_form", "--seconds", "0.48,0.96", *short, "--whole")
    kinds = {
        kind: [row for row in rows if row["what"] == kind]
        for kind in ("memory", "seams", "loop", "inversion")
    }
    assert [(row["way"], row["seconds"]) for row in kinds["memory"]] == [
        ("windows", 0.48), ("whole", 0.48), ("windows", 0.96), ("whole", 0.96)
    ]  # fmt: skip
    assert all(row["peak_mb"] >= row["before_mb"] > 0 for row in kinds["memory"])
    assert all(0 <= row["rank_at_joins"] <= 1 for row in kinds["seams"])
    assert [row["loop"] for row in kinds["loop"]] == [True, False]
    assert [row["refinements"] for row in kinds["inversion"]] == [0, 1, 2]
    summary = json.loads((tmp_path / "long_form.json").read_text())["summary"]
    assert len(summary["memory_over_the_model_mb"]) == 2


def test_a_click_at_a_join_is_found_and_music_is_not(bench):
    """Steady noise has a rank near the middle at any places; a click where windows join has the highest."""
    long_form = bench("long_form")
    wave = torch.randn(160_000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1
    places = [1.0 + k for k in range(8)]
    plain = long_form.rank_at(*long_form.flux(wave, 16000), places)
    assert 0.2 < plain < 0.8
    for place in places:
        wave[round(16000 * place) : round(16000 * place) + 40] += 2
    assert long_form.rank_at(*long_form.flux(wave, 16000), places) > 0.95
    assert long_form.rank_at(*long_form.flux(wave, 16000), [each + 0.5 for each in places]) < 0.8


def test_an_overflow_is_seen_where_it_happens(bench):
    watch_of = bench("precision").Watch
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)).half()
    for k, layer in enumerate(network):
        torch.nn.init.constant_(layer.weight, (1.0, 60000.0, 1.0)[k])
        torch.nn.init.zeros_(layer.bias)
    watch = watch_of(network)
    network(torch.full((1, 1), 3.0).half())
    assert (watch.not_finite, watch.where, watch.largest) == ("1", "0", 3)
    watch.done()
    network(torch.full((1, 1), 60000.0).half())
    assert watch.largest == 3


AMD = {
    "gpu": None,
    "threads": 2,
    "processor": "AMD EPYC (avx2, avx512_bf16)",
    "torch": "2",
    "date": "2026-11-27",
}
INTEL = {"gpu": None, "threads": 2, "processor": "Intel(R) Xeon(R) Processor (avx2, amx_bf16)", "torch": "2"}


def test_the_table_has_rows_of_every_machine(bench, tmp_path, monkeypatch, capsys):
    table = bench("table")
    figures = {"who": "ours, eager float32", "median_s": 0.5, "ratio": 0.75}
    modules = {"command": "benchmarks/vs_diffusers.py modules", "rows": [{"what": "VAE decode", **figures}]}
    whole = {
        "what": "prompt to waveform, 20 steps",
        **figures,
        "latents_difference": 0.0123,
        "spectral_distance_db": 0.5,
    }
    pages = {"README.md": tmp_path / "README.md", "long": tmp_path / "benchmarks" / "README.md"}
    pages["long"].parent.mkdir()
    for page in pages.values():
        page.write_text("above\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nbelow\n")

    def run(*arguments: str) -> int | str | None:
        words = ["table.py", "--root", str(tmp_path), "--results", str(tmp_path / "results"), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        try:
            table.main()
        except SystemExit as left:
            return left.code
        return 0

    assert run() == 2
    assert "vs_diffusers_*.json" in capsys.readouterr().err
    for machine, stored in (
        (AMD, {"modules": modules}),
        (INTEL, {"modules": modules, "pipeline": {"command": "c", "rows": [whole]}}),
    ):
        folder = tmp_path / "results" / table.Path(bench("harness").machine_folder(machine))
        folder.mkdir(parents=True)
        for name, content in stored.items():
            (folder / f"vs_diffusers_{name}.json").write_text(json.dumps({"machine": machine, **content}))
    assert run("--check") == 1
    assert run() == 0
    assert run("--check") == 0
    text = pages["long"].read_text()
    assert text.startswith("above\n<!-- benchmarks -->\n|")
    assert text.endswith("<!-- /benchmarks -->\nbelow\n")
    assert "| this package, eager float32 | AMD EPYC | - | 0.75 (0.5 s) | - | - | - | - |" in text
    assert (
        "| this package, eager float32 | Intel Xeon | - | 0.75 (0.5 s) | - | 0.75 (0.5 s) | 1.2 % | 0.5 dB |"
        in text
    )
    assert "`python benchmarks/vs_diffusers.py modules`" in text
    assert "- **AMD EPYC**: 2 threads of AMD EPYC (avx2, avx512_bf16); torch 2; 2026-11-27" in text
    short = pages["README.md"].read_text()
    assert "| this package, eager float32 | - | 0.75 (0.5 s) |" in short
    pages["README.md"].write_text("no markers\n")
    assert run() == 2
    assert pages["README.md"].read_text() == "no markers\n"


def test_the_pages_have_the_tables_of_the_stored_results():
    command = [sys.executable, str(BENCHMARKS / "table.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_machine_has_a_folder_of_its_own(bench, monkeypatch):
    harness = bench("harness")
    assert harness.machine_folder(AMD) == "amd-epyc-avx512-bf16"
    assert harness.machine_folder(INTEL) == "intel-xeon-amx-bf16"
    assert (
        harness.machine_folder({"gpu": "NVIDIA H100 80GB HBM3", "processor": "x"}) == "nvidia-h100-80gb-hbm3"
    )
    monkeypatch.delenv("MUSICLDM_RESULTS")
    assert harness.speed_results().parent == harness.results() == BENCHMARKS / "results"


def test_a_figure_that_is_no_number_is_not_stored(bench, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        bench("harness").save("x", [{"ratio": math.nan}])
    assert not list(tmp_path.iterdir())


def test_gains_of_the_published_size_name_weights(bench):
    """A renamed weight would shift every figure without a word."""
    published = bench("published")
    with torch.device("meta"):
        unet = published.UNet(published.UNET_16K)
    names = [name for name, _ in unet.named_parameters()]
    assert all(any(part in name for name in names) for part in published.GAINS["unet"])
    with pytest.raises(ValueError, match=r"no weight of Linear has attn\.query"):
        published.enliven(torch.nn.Linear(2, 2), seeded(0), {"attn.query": 1.5})


def test_a_row_names_its_command_without_somebodys_folder(bench, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["/x/benchmarks/roofline.py", "--quick", "--folder", "/x", "--rounds", "2"]
    )
    assert bench("harness").command_line() == "benchmarks/roofline.py --quick --rounds 2"


def test_prompt_gain_runs_over_a_corpus(bench, monkeypatch, tmp_path):
    module = bench("prompt_gain")
    lines = []
    for k in range(3):
        audio.write(tmp_path / f"{k}.wav", 0.1 * torch.randn(4000, generator=seeded(k)).numpy(), 16000)
        lines.append(json.dumps({"path": f"{k}.wav", "split": "valid", "caption": ["a", f"clip {k}"]}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(
        sys, "argv", ["prompt_gain.py", str(TINY), "--corpus", str(tmp_path), "--seconds", CLIP]
    )
    module.main()
    rows = json.loads((tmp_path / "prompt_gain.json").read_text())["rows"]
    assert [row["timestep"] for row in rows] == list(module.TIMESTEPS)
    assert {row["clips"] for row in rows} == {3}
    assert all(math.isfinite(row[told]) for row in rows for told in ("own", "another's", "none"))


def test_control_a_network_that_knows_its_own_prompts_alone(bench, tiny):
    latents, captions = torch.randn(3, 8, 4, 4, generator=seeded(0)), ["a waltz", "techno", "rain"]
    own = tiny.clap.embed_text(captions)
    power = tiny.scheduler.noise_schedule.alphas_cumprod[500]

    def unet(noisy, timesteps, cond):
        known = (cond == own).all(dim=1)[:, None, None, None]
        return (noisy - power.sqrt() * latents * known) / (1 - power).sqrt()

    pipe = SimpleNamespace(clap=tiny.clap, scheduler=tiny.scheduler, unet=unet)
    found = bench("prompt_gain").errors(pipe, latents, captions, 500)
    assert found["own"] < 1e-9
    assert found["another's"] == pytest.approx(latents.square().mean().item(), rel=SUMMED)
    assert found["none"] == pytest.approx(latents.square().mean().item(), rel=SUMMED)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
