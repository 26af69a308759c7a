"""What a CUDA graph may hold: a whole run and its decoding keep to the device. On "meta", for want of a GPU.

A tensor on "meta" has no values: whoever asks for one fails, as a capture would. What moves between the host and
the device, which a capture forbids too, is seen by the watch.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch
from helpers import TINY, draw
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from musicldm import MusicLDMPipeline
from musicldm.compilation import Captured
from musicldm.sampling import Guided, iterate, sample
from musicldm.schedulers import DDIM, DPMSolver

STEPS = 4
SHAPE = (2, 8, 16, 16)


class _NoHostTensors(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, made)):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
                raise AssertionError(f"{function} touches the host")
        return made


class _NothingSent(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor):
            raise AssertionError(f"{args[0]} is sent to the device, which touches the host")
        return function(*args, **(kwargs or {}))


@contextmanager
def on_device_only():
    """Raises AssertionError where an operation takes, gives or makes a tensor of the host."""
    with _NothingSent(), _NoHostTensors():
        yield


@pytest.fixture(scope="module")
def away() -> MusicLDMPipeline:
    """The tiny checkpoint on a device whose values nobody can read."""
    loaded = MusicLDMPipeline.from_pretrained(TINY)
    networks = {name: copy.deepcopy(getattr(loaded, name)).to("meta") for name in ("unet", "vae", "vocoder")}
    return MusicLDMPipeline(**{**loaded.components, **networks})


def given() -> tuple[torch.Tensor, ...]:
    cond = torch.empty(SHAPE[0], 512, device="meta")
    return torch.empty(SHAPE, device="meta"), cond, cond.clone(), torch.empty((), device="meta")


@pytest.mark.parametrize("solver", [DDIM(), DPMSolver()], ids=["ddim", "dpm++"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_and_its_decoding_keep_to_the_device(away, bench, solver, dtype):
    away.to(dtype)
    away.scheduler = solver
    run = bench("bench_graph").clip(away, STEPS)
    start, cond, uncond, scale = given()
    with on_device_only(), torch.no_grad():
        wave = run(start, cond.to(dtype), uncond.to(dtype), scale)
    assert wave.shape[0] == SHAPE[0]
    assert wave.device.type == "meta"


def test_one_step_serves_all_rows_of_a_plan_and_keeps_to_the_device(away, bench):
    away.to(torch.float32)
    away.scheduler = DPMSolver()
    examples = given()
    with torch.no_grad():
        run = bench("bench_graph").clip_by_steps(away, STEPS, *examples)
        with on_device_only():
            assert run(*examples).device.type == "meta"


def test_the_watch_sees_a_plan_on_the_host_and_a_number_that_is_sent(away):
    """The two that bench_graph avoids: what a graph cannot hold."""
    away.to(torch.float32)
    start, cond, uncond, scale = given()
    with pytest.raises(AssertionError, match="touches the host"), on_device_only():
        sample(Guided(away.unet, cond, uncond, scale), DDIM().plan(STEPS), start)
    with pytest.raises(AssertionError, match="touches the host"), on_device_only():
        Guided(away.unet, cond, uncond, 2.0)


def test_the_watch_sees_a_value_that_is_read(away):
    start, *_ = given()
    with pytest.raises(RuntimeError, match="meta"), on_device_only():
        start.sum().item()


def test_the_steps_of_a_moved_plan_still_name_their_timesteps():
    plan, noise = DPMSolver().plan(STEPS), draw(1, 2, 4, 4)
    expected = [step.timestep for step in iterate(lambda x, t: x, plan, noise)]
    assert expected == plan.timesteps.tolist()
    away = plan.to("meta")
    made = [step.timestep for step in iterate(lambda x, t: x, away, noise.to("meta"))]
    assert made == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a graph can be recorded: see tests/gpu")
def test_without_a_gpu_recording_is_an_error_that_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"needs a CUDA device.*call the function itself"):
        Captured(torch.sin, torch.ones(1))
