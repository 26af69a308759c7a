"""What the loop asks of a stage: networks, turns, figures. All four stages are written against this page.

A stage owns its networks and the *turns* of a step. A turn is one optimiser and one loss; the loop does the
rest, for each turn: gradients of every micro-batch, their sum over processes, clipping, the check for
non-finite values, the learning rate, the optimiser, and after the last turn the moving average.

A stage with one optimiser has one turn. A stage with two that alternate, a generative adversarial network,
has two, and needs nothing else::

    class Vocoder(Stage):
        def __init__(self, generator, judges, settings):
            self.networks = nn.ModuleDict({"generator": generator, "judges": judges})
            self.averaged = ("generator",)                  # the moving average leaves the judges out
            adam = partial(torch.optim.AdamW, lr=2e-4, betas=(0.8, 0.99))
            self.turns = (
                Turn("judge", adam(judges.parameters()), self.judge_loss, starts=settings.judge_from),
                Turn("generate", adam(generator.parameters()), self.generator_loss),
            )

        def judge_loss(self, batch, step, draws):
            fake = self.networks["generator"](batch["mel"])  # no gradients here: see below
            loss = hinge(self.networks["judges"](batch["wave"]), self.networks["judges"](fake))
            return Loss(loss, {"judge": loss})

While a turn is taken, the parameters of its optimiser are the only ones that require gradients, so that the
generator's graph is not built in the judges' turn (`detach` is not needed), and the judges get no gradients
of their own, but pass them on, in the generator's. Turns share nothing: the second one sees what the first
one's optimiser did, and draws random numbers of its own. Making the fake twice costs one forward pass without
gradients and buys that a turn can be read, tested and accumulated alone.

Three rules make one process, many processes, accumulation and a resumed run give the same numbers:

- a loss is a *mean over the items* of its batch (the loop weights micro-batches by their size); a loss that
  compares items with each other, such as a contrastive one, calls `Group.gather` first;
- all randomness comes from `draws`, one stream per item, or from torch's global generator (dropout), which
  the loop seeds anew for each micro-batch: nothing random has a state that a checkpoint would have to hold;
- the learning rate is a function of the step, and so is the order of the data (`order.py`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Batch", "Draws", "Loss", "Preview", "Stage", "Turn", "collate", "constant", "seed_of", "warmup"]


def seed_of(*names: object) -> int:
    """A 63-bit seed for a purpose, such as (run seed, step, turn, item): the same on every machine."""
    text = "/".join(map(str, names)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class Draws:
    """Random numbers for the items of a batch, each item from a stream of its own.

    An item's numbers do not depend on which process has it, nor on its neighbours. All are drawn on the CPU
    in float32, for portability; every call draws on.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """-> (b, *shape) of unit variance."""
        return torch.stack([torch.randn(shape, generator=stream) for stream in self._streams])

    def uniform(self, *shape: int) -> Tensor:
        """-> (b, *shape) in [0, 1)."""
        return torch.stack([torch.rand(shape, generator=stream) for stream in self._streams])

    def integers(self, end: int) -> Tensor:
        """-> (b,) int64 from 0 to end - 1."""
        return torch.stack([torch.randint(end, (), generator=stream) for stream in self._streams])


@dataclass(frozen=True)
class Batch:
    """Items put together: each value a tensor (b, ...) or a tuple of b.

    files: what each item was made from; an error names them.
    """

    values: Mapping[str, Any]
    files: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __len__(self) -> int:
        return len(self.files)

    def to(self, device: torch.device) -> Batch:
        """With every tensor on a device."""
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in self.values.items()
        }
        return Batch(moved, self.files)


def collate(items: Sequence[Mapping[str, Any]]) -> Batch:
    """Items, each a mapping with the same names and a "file" -> a batch.

    Arrays and tensors of one name must have one shape, and are stacked; numbers become a tensor; the rest
    becomes a tuple.
    """
    values: dict[str, Any] = {}
    for name in items[0]:
        column = [item[name] for item in items]
        if isinstance(column[0], (Tensor, np.ndarray)):
            values[name] = torch.stack([torch.as_tensor(value) for value in column])
        elif isinstance(column[0], (bool, int, float)):
            values[name] = torch.tensor(column)
        else:
            values[name] = tuple(column)
    return Batch(values, tuple(str(item["file"]) for item in items))


@dataclass(frozen=True)
class Loss:
    """value: () what is minimised, a mean over items. figures: what the log shows of it, each ()."""

    value: Tensor
    figures: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One optimiser, and the loss that it lowers.

    loss(batch, step, draws): step counts optimiser steps from 0. schedule: step -> share of the optimiser's
    own learning rate. starts: the first step at which the turn is taken.
    """

    name: str
    optimizer: Optimizer
    loss: Callable[[Batch, int, Draws], Loss]
    schedule: Callable[[int], float] = lambda step: 1.0
    starts: int = 0

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimiser changes."""
        for group in self.optimizer.param_groups:
            yield from group["params"]


def constant(step: int) -> float:
    """A learning rate that stays."""
    return 1.0


def warmup(steps: int) -> Callable[[int], float]:
    """A learning rate that grows linearly for `steps` steps, from 1 / steps, and stays."""
    return lambda step: min(1.0, (step + 1) / steps) if steps else 1.0


@dataclass(frozen=True)
class Preview:
    """Something to look at and hear. mel: (t, f) log-mel; wave: (s,) at `rate` Hz, None for a mel alone."""

    name: str
    mel: NDArray[np.float32]
    wave: NDArray[np.float32] | None
    rate: int


class Stage(ABC):
    """The networks that one `musicldm train` command trains, and how.

    networks: all that is trained, by name; checkpoints hold them and nothing else of the stage, so a frozen
    network stays outside. turns: in the order in which a step takes them. averaged: the names of the networks
    that have a moving average, whose weights are evaluated, previewed and written.
    """

    networks: nn.ModuleDict
    turns: tuple[Turn, ...]
    averaged: tuple[str, ...] = ()

    def prepare(self, share: Sequence[tuple[Batch, Draws]]) -> None:  # noqa: B027 (most measure nothing)
        """Measure what the first batch decides; called once, before the first step of a run.

        share: this process's micro-batches of that step.
        """

    @abstractmethod
    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Figures of held-out items, each () and a mean over them; "loss" decides which checkpoint is best.

        Called without gradients, in evaluation mode, under averaged weights, with the same draws each time;
        by each process for items of its own, so that nothing can be gathered here.
        """

    def previews(self, batch: Batch) -> list[Preview]:
        """What the stage makes of a few held-out items at this point; called as `evaluate` is."""
        return []

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write this stage's parts of the hub's layout, with the weights that the networks have now."""

    def facts(self) -> dict[str, float]:
        """Numbers that `prepare` measured, for a checkpoint."""
        return {}

    def restore(self, facts: Mapping[str, float]) -> None:  # noqa: B027
        """Take back what `facts` gave."""
