"""Every program of benchmarks/ as a user runs it, at its smallest setting, in a process of its own.

What a row says is the business of test_benchmarks.py and its neighbors; here a program has to run, and to leave
figures that can be read. A program without an entry in PROGRAMS fails the first test.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE, TINY
from training_toys import write_clips

from musicldm import audio
from musicldm.corpus.prompts import evaluation_prompts

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
LIBRARIES = {"harness", "workload"}  # imported by the programs
ELSEWHERE = {  # programs, and the test that runs each
    "vs_diffusers.py": "parity/test_vs_diffusers.py",  # needs Diffusers
    "run_gpu.sh": "test_run_gpu.py",
    "gpu_wheels.sh": "test_run_gpu.py",  # downloads
}
RATE = 16000
STUDY = (
    "loop.steps=2", "loop.batch_size=2", "loop.log_every=1", "data.seconds=0.32", "ldm.warmup=0", "parts.unet.heads=[2]",
    "parts.unet.block_out_channels=[16]", "parts.unet.norm_num_groups=4", "parts.unet.sample_size=8",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """Commands of one program, each the words after its name, and what they leave.

    {x} stands for what `inputs` made. writes: files in the results' folder; the JSON files have the keys that
    `rows` names, in one of their rows each. needs: packages and commands without which it cannot run.
    """

    commands: tuple[str, ...]
    writes: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


PROGRAMS = {
    "bench_batch": Program(
        ("--rows 24 --surveyed 100 --batch-size 8",), ("bench_batch.json",), ("overhead_ms_per_row", "memory_growth_mb"),
    ),
    "bench_clap_training": Program(("--batch 2 --steps 1",), ("bench_clap_training.json",), ("clips_per_cpu_s",)),
    "bench_graph": Program(
        ("--folder {tiny} --ways eager,graph --dtypes float32 --steps 2 --seconds 0.16 --rounds 1",),
        ("bench_graph.json",), ("way", "median_s"),
    ),
    "bench_memory": Program(
        ("--folder {tiny} --dtype float32 --batches 1,2 --seconds 0.16",), ("bench_memory.json",), ("batch", "peak_mb"),
    ),
    "gpu_table": Program(("{measured}",)),
    "bench_import": Program(("--rounds 1",), ("bench_import.json",), ("import", "command", "median_s")),
    "bench_load": Program(("{published}",), ("bench_load.json",), ("peak_over_files", "seconds")),
    "bench_mixup": Program(
        ("{corpus}/manifest.jsonl --seconds 0.32 --max-bpm 100",), ("bench_mixup.json",), ("median_offset_ms", "share_better_in_step"),
    ),
    "bench_modules": Program(
        ("--folder {tiny} --variants bfloat16,compiled-float32 --backend eager --rounds 1 --seconds 0.16 --name named",),
        ("named.json",), ("variant", "difference", "ratio"),
    ),
    "bench_pipeline": Program(
        ("--folder {tiny} --lengths 0.08,0.16 --batches 1,2,3 --steps 1,2,3 --few-steps 1 --clip 0.16",
         "--folder {tiny} --compiled --backend eager --series steps --steps 1,2 --clip 0.16 --name compiled"),
        ("bench_pipeline.json", "scaling.png", "compiled.json", "scaling-compiled.png"), ("series", "median_s", "per_step_s"), ("matplotlib",),
    ),
    "corpus_levels": Program(
        ("--only 1",), ("corpus_levels.json",), ("name", "db"), ("fluidsynth", "mido"),
    ),
    "corpus_probe": Program(
        ("{corpus} --least 2",), ("corpus_probe.json",), ("exact", "accuracy"), ("librosa", "sklearn"),
    ),
    "demo_pictures": Program(
        ("mels --model {tiny}", "curves {runs}"), ("demo_mels.png", "demo_curves.png", "demo_curves.json"), ("run", "held_out"), ("matplotlib",),
    ),
    "demo_quality": Program(
        ("clips {tiny} {work} --prompts 6 --seconds 0.64 --steps 1 --part 1/2", "clips {tiny} {work} --prompts 6 --seconds 0.64 --steps 1",
         "judge {tiny} {work} --prompts 6 --held-out {corpus} --train {corpus} --song {corpus}/clip0.wav"),
        ("demo_quality.json",), ("generated", "chance", "mean"), ("librosa", "sklearn"),
    ),
    "editing_quality": Program(
        ("{tiny} {corpus}/clip0.wav {corpus}/clip1.wav --steps 2 --seconds 0.64",), ("editing_quality.json",), ("inpainted", "grows_latents", "won"),
    ),
    "long_form": Program(
        ("--folder {tiny} --window 0.32 --steps 2 --seeds 0 --seconds 0.48,0.96 --whole",), ("long_form.json",), ("rank_at_joins", "peak_mb", "relative_error"),
    ),
    "mixup_study": Program(
        ("plan {work}/study --parts {parts} --corpus {corpus} --seeds 5 --prompts 2 --sampling-steps 2 " + " ".join(f"--set {each}" for each in STUDY),
         "run {work}/study --part 1/2", "run {work}/study", "report {work}/study"),
        ("mixup_study.json", "mixup_study.md"), ("strategy", "Frechet distance"),
    ),
    "precision": Program(
        ("--folder {tiny} --seconds 0.16 --steps 2",), ("precision.json",), ("difference", "spectral_distance_db"),
    ),
    "prompt_gain": Program(
        ("{tiny} --corpus {corpus} --split train --clips 3 --seconds 0.16",), ("prompt_gain.json",), ("own", "another's", "none"),
    ),
    "published": Program(("{published}",)),  # already made: by `inputs`, through its main
    "roofline": Program(
        ("--folder {tiny} --quick --rounds 1 --seconds 0.16",), ("roofline.json",), ("ceiling", "share_of_ceiling"),
    ),
    "solver_error": Program(
        ("--steps 4,5 --samples 4",), ("solver_error.json", "solver_error.png"), ("solver", "error"), ("matplotlib",),
    ),
    "table": Program(("--check", "--print")),
}  # fmt: skip


def test_every_program_is_run_by_a_test():
    programs = {path.name for path in BENCHMARKS.iterdir() if path.suffix in (".py", ".sh")}
    run = {f"{name}.py" for name in PROGRAMS} | set(ELSEWHERE)
    assert programs - {f"{name}.py" for name in LIBRARIES} == run
    for program, test in ELSEWHERE.items():
        assert program.split(".")[0] in (ROOT / "tests" / test).read_text(), program


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """What the commands name: checkpoints, a corpus of tones with facts, run folders with logs."""
    root = tmp_path_factory.mktemp("inputs")
    parts = root / "parts"
    for part in ("vae", "vocoder", "text_encoder", "tokenizer", "feature_extractor"):
        shutil.copytree(TINY / part, parts / part)
    command = [sys.executable, str(BENCHMARKS / "published.py"), str(root / "published")]
    subprocess.run(command, check=True, capture_output=True, env=environment(root))
    return {
        "tiny": TINY, "measured": BENCHMARKS / "results" / "intel-xeon-amx-bf16", "published": root / "published", "parts": parts, "corpus": corpus(root / "corpus"),
        "runs": logs(root / "runs"), "work": root / "work",
    }  # fmt: skip


def corpus(folder: Path) -> Path:
    """Twelve clips of two seconds in the shape of what `musicldm corpus` writes, of what the prompts ask for."""
    manifest = write_clips(folder, n=10).rename(folder / "manifest.jsonl")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    asked = [prompt for prompt in evaluation_prompts() if prompt.lead][:4]
    facts = []
    for k, row in enumerate(rows):
        wave, rate = audio.read(folder / row["path"])
        audio.write(folder / row["path"], np.tile(wave, 2), rate)  # librosa's tempogram wants a little length
        like = asked[k % 4]
        facts.append({
            "path": row["path"], "style": like.style, "bpm": 120.0, "drums": k % 4 == 1, "lead": like.lead,
            "quality": "low" if k > 9 else "good", "original": k % 6,
        })  # fmt: skip
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in facts))
    return folder


def logs(folder: Path) -> Path:
    """Logs of the demo model's seven runs, of three steps each."""
    figures = ("autoencode/reconstruction", "generate/mel", "contrast/loss", "denoise/loss")
    held_out = ("held_out/reconstruction", "held_out/loss")
    for run in ("vae", "vocoder", "clap", "ldm-bam", "ldm", "ldm-last", "ldm-v"):
        (folder / run).mkdir(parents=True)
        lines = [
            {"step": k, "cpu_seconds": 1.0, **dict.fromkeys((*figures, *held_out), 1 / k)} for k in (1, 2, 3)
        ]
        (folder / run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return folder


def environment(results: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(ROOT), "MUSICLDM_RESULTS": str(results), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def missing(needs: tuple[str, ...]) -> list[str]:
    return [name for name in needs if not (importlib.util.find_spec(name) or shutil.which(name))]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_it_says_what_it_does(name, tmp_path):
    if lacking := missing(PROGRAMS[name].needs):
        pytest.skip(f"needs {', '.join(lacking)}")
    asked = run(name, ["--help"], tmp_path)
    assert asked.startswith("usage: ")
    module = (BENCHMARKS / f"{name}.py").read_text()
    assert module.split('"""')[1].split("\n")[0].strip() in " ".join(asked.split())
    assert not list(tmp_path.iterdir())  # asking does nothing


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_it_runs_and_its_figures_can_be_read(name, inputs, tmp_path):
    program = PROGRAMS[name]
    if lacking := missing(program.needs):
        pytest.skip(f"needs {', '.join(lacking)}")
    for command in program.commands:
        run(name, command.format_map(inputs).split(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(program.writes)
    found = set()
    for written in (path for path in program.writes if path.endswith(".json")):
        stored = json.loads((tmp_path / written).read_text(), parse_constant=not_finite)
        assert {"machine", "command", "rows"} <= set(stored)
        assert stored["command"].startswith(f"benchmarks/{name}.py")
        assert str(inputs["work"].parent) not in json.dumps(stored)
        found |= {key for row in stored["rows"] for key, value in row.items() if value is not None}
        assert all(math.isfinite(value) for value in numbers(stored))
    assert found.issuperset(program.rows)
    for picture in (path for path in program.writes if path.endswith(".png")):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def run(name: str, words: list[str], results: Path) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(results), cwd=results, timeout=PATIENCE
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def not_finite(word: str) -> None:
    raise AssertionError(f"a figure is {word}")


def numbers(value: object):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, (int, float)):
        yield value
