"""Two processes make the steps that one would: gloo, on the CPU, for every kind of stage.

By gradient descent, which would show a gradient that is too large or too small, and by the stages' own Adam(W).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_processes import train_all
from training_toys import curve, write_clips

SAME = 1e-6  # gradients summed in another order, a few steps long
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    clips = write_clips(out / "clips")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in (0, 1):
        environment = os.environ | {
            "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        }  # fmt: skip
        command = [sys.executable, str(HERE / "training_processes.py"), str(out), str(clips)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    train_all(out, clips, {})
    said = [(process.communicate(timeout=600)[1], process.returncode) for process in processes]
    assert not any(status for _, status in said), "\n".join(errors for errors, _ in said)
    return out


STAGES = ["toy", "contrast", "ldm", "vae", "toy-adam", "ldm-adam", "vae-adam"]


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_equal_one(runs, stage):
    one, two = (torch.load(runs / f"{world}-processes" / stage / "weights.pt") for world in (1, 2))
    assert set(one["after"]) == set(two["after"])
    for name, tensor in one["after"].items():
        assert torch.allclose(two["after"][name].double(), tensor.double(), rtol=0, atol=SAME), name
    # the control: equal weights that never moved would prove nothing
    for name, start in two["before"].items():
        assert torch.equal(one["before"][name], start), name
    parts = {name.split(".")[0] for name in two["before"]} - ({"judge"} if stage == "contrast" else set())
    for part in parts:
        moved = [two["after"][n] - t for n, t in two["before"].items() if n.startswith(part + ".")]
        assert max(change.abs().max().item() for change in moved) > 50 * SAME, part


@pytest.mark.parametrize("stage", STAGES)
def test_both_log_the_loss_of_the_whole_batch(runs, stage):
    one, two = (curve(runs / f"{world}-processes" / stage) for world in (1, 2))
    assert len(one) == len(two) > 3
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
