"""Two processes make the steps that one would: gloo, on the CPU, for every kind of stage.

By gradient descent, which would show a gradient that is too large or too small, and by the stages' own Adam(W).
"""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import PATIENCE, draw, relative
from training_processes import train_all
from training_toys import curve, write_clips

SAME = 1e-6  # gradient descent: gradients summed in another order, a few steps long
# Adam divides a gradient by its size, and rounding with it: what is small in a gradient is small in a step only
# beside the step. Over AVX-512, AVX2 and plain kernels of an AMD EPYC the worst tensor differed by 2e-4 of its way.
SAME_OF_THE_WAY = 2e-3
EXACT = 1e-12  # one attention in float64
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
    said = [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in processes]
    assert not any(status for _, status in said), "\n".join(errors for errors, _ in said)
    return out


DESCENT, ADAM = ["toy", "contrast", "ldm", "vae"], ["toy-adam", "ldm-adam", "vae-adam"]


def ends(runs, stage):
    """What a stage's weights were and became, by name, in one process and in two."""
    one, two = (torch.load(runs / f"{world}-processes" / stage / "weights.pt") for world in (1, 2))
    assert set(one["after"]) == set(two["after"])
    for name, start in two["before"].items():
        assert torch.equal(one["before"][name], start), name
    return one["before"], one["after"], two["after"]


@pytest.mark.parametrize("stage", DESCENT)
def test_two_processes_equal_one(runs, stage):
    before, one, two = ends(runs, stage)
    for name, tensor in one.items():
        assert torch.allclose(two[name].double(), tensor.double(), rtol=0, atol=SAME), name
    # the control: equal weights that never moved would prove nothing
    parts = {name.split(".")[0] for name in before} - ({"judge"} if stage == "contrast" else set())
    for part in parts:
        moved = [two[n] - t for n, t in before.items() if n.startswith(part + ".")]
        assert max(change.abs().max().item() for change in moved) > 50 * SAME, part


def share_of_the_way(before, one, two):
    """For each tensor: how far two ends lie apart, over how far the first lies from the start."""
    found = {}
    for name, start in before.items():
        apart, moved = (
            (a.double() - b.double()).norm().item() for a, b in ((one[name], two[name]), (one[name], start))
        )
        if moved or apart:
            found[name] = apart / moved if moved else float("inf")
    return found


@pytest.mark.parametrize("stage", ADAM)
def test_two_processes_equal_one_by_the_stages_own_optimizers(runs, stage):
    ends_of = [without_key_biases(state) for state in ends(runs, stage)]
    shares = share_of_the_way(*ends_of)
    assert max(shares.values()) < SAME_OF_THE_WAY, max(shares, key=shares.get)
    assert {name.split(".")[0] for name in shares} == {name.split(".")[0] for name in ends_of[0]}  # all moved


def test_control_gradients_that_are_not_summed_are_seen(runs):
    shares = share_of_the_way(*ends(runs, "toy-adam-apart"))
    assert min(shares.values()) > 10 * SAME_OF_THE_WAY


def without_key_biases(state):
    """The weights without the biases of attention's keys.

    Softmax cancels them (the next test), so their gradient is rounding alone, which Adam turns into whole steps.
    """
    return {
        name: torch.cat([tensor.chunk(3)[0], tensor.chunk(3)[2]]) if name.endswith("qkv.bias") else tensor
        for name, tensor in state.items()
    }


def test_key_biases_change_nothing_and_the_others_do(tiny):
    attention, x = copy.deepcopy(tiny.vae.decoder.mid.attn).double(), draw(1, 32, 6, 4).double()
    expected = attention(x)
    for third, changes in enumerate((True, False, True)):  # q, k, v
        moved = copy.deepcopy(attention)
        moved.qkv.bias.data.chunk(3)[third].add_(torch.linspace(-1, 1, 32))
        assert (relative(moved(x), expected) > EXACT) == changes, "qkv"[third]


@pytest.mark.parametrize("stage", DESCENT + ADAM)
def test_both_log_the_loss_of_the_whole_batch(runs, stage):
    one, two = (curve(runs / f"{world}-processes" / stage) for world in (1, 2))
    assert len(one) == len(two) > 3
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=SAME_OF_THE_WAY if stage in ADAM else 1e-4)
