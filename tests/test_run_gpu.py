"""The script for a CUDA machine and its own programs: without a GPU, on the tiny checkpoint or on a stand-in."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import TINY

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPT = str(BENCHMARKS / "run_gpu.sh")
PATIENCE = 60  # seconds for what takes one: a busy machine
FAKE = """#!/bin/sh
# In place of a Python that sees a GPU: parts end at once, but bench_modules.py never
case "$*" in
  "-c import musicldm"*) echo "2.11.0 True" ;;
  *diffusers.MusicLDM*) exit 1 ;;
  *gpu_table.py*) exec REAL "$@" ;;
  *published.py*) shift; mkdir -p "$1"; touch "$1/model_index.json" ;;
  *bench_graph.py*) echo '{"machine": {}, "rows": []}' >"$MUSICLDM_RESULTS/bench_graph.json" ;;
  *bench_modules.py*) echo measuring; echo $$ >"$MUSICLDM_RESULTS/hangs"; exec sleep 600 ;;
  *) echo "ran $*" ;;
esac
"""


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", SCRIPT, "--python", sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_help_names_every_option():
    asked = run_script("--help")
    assert asked.returncode == 0
    options = ("--out", "--archive", "--folder", "--python", "--wheels", "--budget", "--only", "--dry-run")
    assert all(option in asked.stdout for option in options)
    assert "set -u" not in asked.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fast"], "unknown argument --fast"),
        (["--out"], "--out needs a value"),
        (["--budget", "8m"], "--budget: got 8m, expected a whole number of seconds"),
        (["--folder", "/nowhere"], "--folder /nowhere: there is no checkpoint"),
        (["--wheels", "/nowhere"], "no wheels in /nowhere/base"),
        (["--python", "/nowhere/python"], "cannot import the package"),
        ([], "sees no CUDA device"),
    ],
    ids=["unknown", "value", "budget", "folder", "wheels", "python", "cuda"],
)
def test_what_cannot_be_is_said_before_anything_is_measured(tmp_path, arguments, said):
    place = [] if arguments == ["--out"] else ["--out", str(tmp_path)]
    done = run_script(*place, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_the_wheels_are_those_that_the_parity_tests_install():
    script = (BENCHMARKS / "gpu_wheels.sh").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    for pin in ("diffusers==0.33.1", "transformers==4.51.3"):
        assert f" {pin} " in script
        assert f'"{pin}"' in project


def test_the_wheels_need_a_folder_to_go_to(tmp_path):
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(BENCHMARKS / "gpu_wheels.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert "DIR/twin" in call("--help").stdout
    assert (call().returncode, call("--fast").returncode) == (2, 2)
    assert "expected a folder" in call().stderr
    assert not list(tmp_path.iterdir())


def write_wheel(folder: Path, name: str, **files: str) -> None:
    folder.mkdir(parents=True)
    about = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        for module, text in files.items():
            wheel.writestr(f"{module}.py", text)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.mark.slow
def test_wheels_are_put_beside_and_the_twins_serve_the_comparison_alone(tmp_path):
    wheels, seen = tmp_path / "wheels", tmp_path / "seen"
    seen.mkdir()
    write_wheel(wheels / "base", "beside", sitecustomize=f"open({str(seen / 'base')!r}, 'w').close()")
    write_wheel(wheels / "twin", "twin", diffusers="MusicLDMPipeline = None")
    out = tmp_path / "out"
    done = run_script("--dry-run", "--only", "nothing", "--out", str(out), "--wheels", str(wheels))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (seen / "base").exists(), "DIR/base is not on the path"
    assert (out / "summary.txt").read_text() == "ok       facts\n", (
        "DIR/twin is not on the path, or did not install"
    )


@pytest.fixture
def fake(tmp_path) -> Path:
    """An interpreter that claims a GPU and measures nothing."""
    path = tmp_path / "python"
    path.write_text(FAKE.replace("REAL", sys.executable))
    path.chmod(0o755)
    return path


def start(fake: Path, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ["bash", SCRIPT, "--python", str(fake), "--out", str(tmp_path / "out"), *arguments]
    command += ["--archive", str(tmp_path / "kept" / "results.tar.gz")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def archived(tmp_path: Path) -> dict[str, str]:
    """The archive's files."""
    with tarfile.open(tmp_path / "kept" / "results.tar.gz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        return {Path(each.name).as_posix(): archive.extractfile(each).read().decode() for each in members}


@pytest.fixture
def hangs(tmp_path) -> Iterator[Path]:
    """Written by the part that never ends; what the script may leave of it is ended afterwards."""
    path = tmp_path / "out" / "hangs"
    yield path
    with suppress(OSError):
        os.kill(int(path.read_text()), signal.SIGKILL)


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, f"{path.name} was never written"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_measured_before_a_kill_is_in_the_archive(fake, hangs, tmp_path, how):
    script = start(fake, tmp_path)
    wait_for(hangs)
    script.send_signal(how)
    script.communicate(timeout=PATIENCE)
    files = archived(tmp_path)
    assert "bench_graph.json" in files
    assert files["logs/tests.log"].startswith("ran -m pytest")
    assert "ok       graph" in files["summary.txt"]
    if how == signal.SIGTERM:
        assert script.returncode == 143
        assert "STOPPED  modules" in files["summary.txt"]
        assert files["logs/modules.log"] == "measuring\n"
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["results.tar.gz"]


def test_what_the_budget_leaves_no_time_for_is_named(fake, tmp_path):
    script = start(fake, tmp_path, "--budget", "0", "--folder", str(TINY))
    script.communicate(timeout=PATIENCE)
    assert script.returncode == 1
    summary = archived(tmp_path)["summary.txt"]
    assert "NOT RUN  tests: 0 s are over" in summary
    assert "NOT RUN  graph: 0 s are over" in summary


def test_only_some_parts_are_run_and_what_an_earlier_run_left_stays(fake, tmp_path):
    earlier = tmp_path / "out" / "precision.json"
    earlier.parent.mkdir()
    earlier.write_text("{}")
    script = start(fake, tmp_path, "--only", "graph,memory", "--folder", str(TINY))
    shown, _ = script.communicate(timeout=PATIENCE)
    files = archived(tmp_path)
    assert [line.split(":")[0] for line in files["summary.txt"].splitlines() if "ok" in line[:2]][-2:] == [
        "ok       graph", "ok       memory"
    ]  # fmt: skip
    assert "== tests" not in shown
    assert "precision.json" in files


@pytest.mark.slow
def test_the_budget_stops_the_part_that_runs(fake, hangs, tmp_path):
    script = start(fake, tmp_path, "--budget", "8")
    shown, _ = script.communicate(timeout=PATIENCE)
    assert script.returncode == 1
    files = archived(tmp_path)
    assert "FAILED   modules" in files["summary.txt"]
    assert "what it had measured is saved" in files["summary.txt"]
    assert "NOT RUN  memory: 8 s are over" in files["summary.txt"]
    assert "ok       tests" in shown


@pytest.fixture
def main_of(bench, monkeypatch, tmp_path):
    """A benchmark's main on the tiny checkpoint -> its rows."""

    def run(name: str, *arguments: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", "--folder", str(TINY), *arguments])
        assert not bench(name).main()
        return json.loads((tmp_path / f"{name}.json").read_text())["rows"]

    return run


@pytest.mark.skipif(torch.cuda.is_available(), reason="here graphs are recorded: see tests/gpu")
def test_the_whole_call_in_every_way_is_the_eager_clip(main_of):
    ways = "eager,graph,graph-channels-last,step-graph"
    rows = main_of("bench_graph", "--ways", ways, "--dtypes", "float32,bfloat16", "--steps", "2,3", "--seconds",
                   "0.16", "--rounds", "1")  # fmt: skip
    assert [row["way"] for row in rows] == 4 * ways.split(",")
    assert [(row["dtype"], row["steps"]) for row in rows[::4]] == [
        ("float32", 2), ("float32", 3), ("bfloat16", 2), ("bfloat16", 3)
    ]  # fmt: skip
    for row in rows:
        assert row["difference"] < (1e-5 if row["dtype"] == "float32" else 0.1)
        assert row["spectral_distance_db"] < (0.01 if row["dtype"] == "float32" else 3)
        assert row["median_s"] > 0
    recorded = {row["way"]: row.get("recorded") for row in rows}
    assert recorded.pop("eager") is None
    assert all(said.startswith("no: without CUDA") for said in recorded.values())


def test_a_way_that_cannot_be_gone_does_not_cost_the_others(bench, monkeypatch, tmp_path, capsys):
    module = bench("bench_graph")
    monkeypatch.setattr(module, "clip", lambda pipe, steps: 1 / 0)
    words = ["--ways", "eager,graph", "--steps", "1", "--seconds", "0.16", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_graph.py", "--folder", str(TINY), *words])
    assert module.main() == 1
    eager, graph = json.loads((tmp_path / "bench_graph.json").read_text())["rows"]
    assert eager["median_s"] > 0
    assert graph["error"].startswith("ZeroDivisionError")
    assert "graph: ZeroDivisionError" in capsys.readouterr().err


def test_memory_of_batches(main_of):
    rows = main_of("bench_memory", "--batches", "2,1", "--seconds", "0.16")
    assert [row["batch"] for row in rows] == [1, 2]
    assert 0 < rows[0]["peak_mb"] <= rows[1]["peak_mb"]
    assert all(row["seconds_per_clip"] > 0 for row in rows)


def test_the_table_shows_targets_ratios_dashes_and_failures(bench, tmp_path):
    machine = {"gpu": "H100", "torch": "2.11", "python": "3.12"}
    row = {"seconds_of_audio": 10.24, "dtype": "bfloat16"}
    stored = {
        "bench_graph": [
            {**row, "way": "eager", "steps": 20, "median_s": 0.4, "difference": 0.0},
            {**row, "way": "graph", "steps": 20, "median_s": 0.05, "difference": 0.001},
            {**row, "way": "graph", "steps": 200, "error": "no"},
        ],
        "bench_graph_diffusers": [
            {**row, "way": "diffusers", "steps": 20, "median_s": 0.6},
            {**row, "way": "graph", "steps": 20, "median_s": 0.06},
        ],
        "bench_memory": [{"batch": 1, "peak_mb": 2000, "reserved_mb": 3000, "seconds_per_clip": 0.1}],
    }  # fmt: skip
    for name, rows in stored.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    module = bench("gpu_table")
    shown = module.document(module.Results(tmp_path))
    assert shown.startswith("H100; torch 2.11")
    assert "| one CUDA graph | - | 0.05 s | - | failed |" in shown
    assert "| target | - | under 0.1 s | - | under 0.5 s |" in shown
    assert "| one CUDA graph, bfloat16 | - | 10x | - | - |" in shown
    assert "| target | at least 8x |" in shown
    assert "| peak allocated, MB | 2,000 | - | - | - | - |" in shown
    assert "float16, prompt" not in shown.replace("bfloat16", "")
    with pytest.raises(FileNotFoundError, match=r"run benchmarks/run_gpu\.sh"):
        module.document(module.Results(tmp_path / "nothing"))


@pytest.mark.slow
def test_the_dry_run_measures_everything_there_is(tmp_path):
    out, archive = tmp_path / "out", tmp_path / "results.tar.gz"
    done = run_script("--dry-run", "--out", str(out), "--archive", str(archive))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = (out / "summary.txt").read_text()
    assert not any(word in summary for word in ("FAILED", "NOT RUN", "STOPPED"))
    names = ["bench_graph", "bench_graph_compiled", "bench_graph_steps", "bench_modules", "bench_modules_graphs", "bench_memory",
             "bench_pipeline", "precision", "roofline"]  # fmt: skip
    if "skipped  all beside Diffusers" not in summary:
        names += ["bench_graph_diffusers", "vs_diffusers_modules", "vs_diffusers_modules_bfloat16"]
    for name in names:
        rows = json.loads((out / f"{name}.json").read_text())["rows"]
        assert rows, name
        assert not [row for row in rows if "error" in row]
        numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
        assert all(map(math.isfinite, numbers)), name
    assert (out / "table.md").read_text() in done.stdout
    with tarfile.open(archive) as kept:
        assert {f"./{name}.json" for name in names} <= set(kept.getnames())
