"""benchmarks/vs_diffusers.py as a user runs it, at its smallest setting: every row has its figures, on equal audio."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PATIENCE, TINY

ROOT = Path(__file__).parents[2]
EXACT = 1e-5  # float32 networks of two implementations
HALF = 0.1  # bfloat16 has eight bits
RUNS = {  # what -> options, rows' contestants
    "modules": ("", {"Diffusers, eager float32", "ours, eager float32", "ours, eager float32, channels-last"}),
    "compiled": (
        "--backend eager",
        {"Diffusers, eager float32", "ours, eager float32", "ours, compiled bfloat16", "ours, compiled bfloat16, channels-last",
         "Diffusers, compiled bfloat16", "ours, eager bfloat16"},
    ),
    "pipeline": (
        "--backend eager --steps 3",
        {"Diffusers, eager float32", "ours, eager float32", "ours, eager bfloat16", "ours, compiled bfloat16",
         "ours, compiled bfloat16, interval and reuse", "ours, eager float32, interval and reuse"},
    ),
    "memory": (
        "",
        {"Diffusers, 0.64 s", "ours, 0.64 s", "ours, 3.75 s", "ours, decode only, 0.64 s", "ours, decode only, 3.75 s"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_the_twins_run(what, tmp_path):
    options, contestants = RUNS[what]
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "vs_diffusers.py"),
        what,
        "--folder",
        str(TINY),
        "--rounds",
        "1",
    ]
    command += ["--clip", "0.64", *options.split()]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "MUSICLDM_RESULTS": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    stored = json.loads((tmp_path / f"vs_diffusers_{what}.json").read_text())
    assert stored["command"].startswith(f"benchmarks/vs_diffusers.py {what}")
    assert {row["who"] for row in stored["rows"]} == contestants
    for row in stored["rows"]:
        assert row.get("median_s", 1) > 0
        assert row.get("peak_mb", 1) > 0
        difference = row.get("difference", row.get("latents_difference", 0))
        assert difference <= (EXACT if "float32" in row["who"] and "interval" not in row["who"] else HALF), (
            row
        )


def test_it_says_what_it_does(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "vs_diffusers.py"), "--help"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0
    assert "Twins against Diffusers" in done.stdout
