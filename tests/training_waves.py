"""Eight synthetic clips, and a run of a stage in one process or in two."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from musicldm.io.distributed import Group
from musicldm.training.log import read_log
from musicldm.training.loop import Outcome, Trainer
from musicldm.training.settings import Data, Loop, RunConfig, Save
from musicldm.training.stage import Stage

RATE = 16000
NAMES = (
    "a low drone",
    "a bright bell",
    "slow tremolo",
    "fast tremolo",
    "a deep bass",
    "a thin whistle",
    "two notes",
    "noise",
)


def wave(index: int, samples: int) -> torch.Tensor:
    """A chord with a tremolo of its own; peak 0.5."""
    t = torch.arange(samples) / RATE
    tone = sum(torch.sin(2 * math.pi * 110 * (index + 1) * k * t) / k for k in (1, 2, 3))
    tone = tone * (1 + 0.5 * torch.sin(2 * math.pi * (index + 2) * t))
    return 0.5 * tone / tone.abs().max()


class Waves:
    """Clips in memory, under the names that stages read."""

    def __init__(self, samples: int = 8192, n: int = 8) -> None:
        self.samples, self.n = samples, n

    def __len__(self) -> int:
        return self.n

    def item(self, epoch: int, index: int) -> Mapping[str, Any]:
        clip = wave(index, self.samples)
        return {"wave": clip, "wave_b": clip, "lam": 1.0, "caption": NAMES[index], "key": str(index),
                "key_b": str(index), "outcome": "off", "file": f"{index}.wav"}  # fmt: skip


def config(folder: Path, steps: int, batch: int = 4, every: int = 2, **loop: Any) -> RunConfig:
    return RunConfig(
        output=str(folder),
        data=Data(manifest="waves"),
        loop=Loop(steps=steps, **{"batch_size": batch, "log_every": 1, "ema": 0.0, **loop}),
        save=Save(every=every, keep=3),
    )


def train(
    stage: Stage, settings: RunConfig, data: Waves, group: Group | None = None, *, resume: bool = False
) -> Outcome:
    return Trainer(stage, settings, group or Group(), data).run(resume=resume)


def losses(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_log(folder / "log.jsonl") if name in line]


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in stage.networks.state_dict().items()}


def two_processes(
    make: Callable[[Group], Stage], settings: RunConfig, data: Waves
) -> dict[str, torch.Tensor]:
    """The weights of the first of two processes after a run."""
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_work, args=(rank, folder, make, settings, data)) for rank in range(2)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, about threads: there are none
        for process in processes:
            process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return torch.load(folder / "weights.pt")


def _work(rank: int, folder: Path, make: Any, settings: RunConfig, data: Waves) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    group = Group(rank, 2)
    stage = make(group)
    train(stage, settings, data, group)
    if group.first:
        torch.save(weights(stage), folder / "weights.pt")
    dist.barrier()
    dist.destroy_process_group()


def check_resumes_exactly(make: Callable[[Group], Stage], folder: Path, data: Waves, steps: int = 4) -> None:
    """A run that ends half way and goes on gives the weights and the curve of one that does not."""
    whole = make(Group())
    train(whole, config(folder / "whole", steps), data)
    train(make(Group()), config(folder / "parts", steps // 2), data)
    torch.rand(3)
    again = make(Group())
    for tensor in again.networks.state_dict().values():  # nothing may come from here
        if tensor.is_floating_point():
            tensor.add_(0.1)
    train(again, config(folder / "parts", steps), data, resume=True)
    ours, theirs = weights(again), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert _curve(folder / "parts") == _curve(folder / "whole")


def _curve(folder: Path) -> list[dict[str, float]]:
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "cpu_seconds", "memory_mb")}
        for line in read_log(folder / "log.jsonl")
    ]


def _plain_descent(make: Callable[[Group], Stage], lr: float) -> Callable[[Group], Stage]:
    """The stage with gradient descent: Adam makes a whole step of a gradient that is zero but for rounding."""

    def made(group: Group) -> Stage:
        stage = make(group)
        stage.turns = tuple(
            replace(turn, optimizer=torch.optim.SGD(list(turn.parameters()), lr=lr)) for turn in stage.turns
        )
        return stage

    return made


def check_two_are_one(
    make: Callable[[Group], Stage], folder: Path, data: Waves, tolerance: float, lr: float = 1e-3
) -> None:
    """Two processes end with the weights of one; and a batch in another order does not (the control)."""
    make = _plain_descent(make, lr)
    one = make(Group())
    before = weights(one)
    train(one, config(folder / "one", 2), data)
    two = two_processes(make, config(folder / "two", 2), data)
    ours = weights(one)
    worst = max(
        float((ours[name] - two[name]).abs().max()) for name in ours if ours[name].is_floating_point()
    )
    assert worst < tolerance
    moved = max(
        float((ours[name] - before[name]).abs().max()) for name in ours if ours[name].is_floating_point()
    )
    assert moved > 100 * tolerance  # the run did something
    other = make(Group())
    train(other, replace(config(folder / "other", 2), seed=1), data)
    theirs = weights(other)
    assert (
        max(float((ours[n] - theirs[n]).abs().max()) for n in ours if ours[n].is_floating_point())
        > 10 * tolerance
    )
