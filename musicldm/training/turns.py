"""A step's turns: gradients of all micro-batches and processes, the check, the optimiser. No files here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from musicldm.io.distributed import Group

from .feed import MicroBatch
from .order import Place
from .settings import RunConfig
from .stage import Batch, Draws, Loss, Stage, Turn, seed_of

__all__ = ["NonFiniteLossError", "Share", "TurnTaker"]

Share = Sequence[MicroBatch]  # of a step: what one process computes


class NonFiniteLossError(FloatingPointError):
    """A loss or a gradient is NaN or infinite; no optimiser has seen it."""


class TurnTaker:
    """Takes the turns of a stage on one process of a group. last_good: names a checkpoint, for an error."""

    def __init__(self, stage: Stage, config: RunConfig, group: Group, last_good: Callable[[], str]) -> None:
        self.stage, self.config, self.group, self.last_good = stage, config, group, last_good
        for turn in stage.turns:
            for settings in turn.optimizer.param_groups:
                settings.setdefault("initial_lr", settings["lr"])

    def step(self, step: int, share: Share) -> dict[str, float]:
        """All turns that the step has. -> what the log shows. Raises NonFiniteLossError."""
        self.stage.networks.train()
        line: dict[str, float] = {}
        for turn in self.stage.turns:
            if step >= turn.starts:
                line |= self._take(turn, step, share)
        return line

    def _take(self, turn: Turn, step: int, share: Share) -> dict[str, float]:
        parameters = list(turn.parameters())
        _only(self.stage.networks, parameters)
        self.stage.networks.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        suspects: list[str] = []  # whose loss is not finite
        for batch, places in share:
            loss = self._loss(turn, step, batch, places)
            weight = len(batch) / self.config.loop.batch_size
            (loss.value * weight).backward()  # type: ignore[no-untyped-call]
            for name, value in {"loss": loss.value, **loss.figures}.items():
                sums[name] = sums.get(name, 0) + weight * value.detach().float()
            if not torch.isfinite(loss.value):
                suspects += batch.files
        self.group.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.loop.clip_norm).item()
        figures = dict(zip(sums, self.group.sum(torch.stack(list(sums.values()))).tolist(), strict=True))
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            raise self._not_finite(turn, step, figures["loss"], norm, suspects, share)
        rate = turn.schedule(step - turn.starts)
        for settings in turn.optimizer.param_groups:
            settings["lr"] = settings["initial_lr"] * rate
        turn.optimizer.step()
        lr = turn.optimizer.param_groups[0]["lr"]
        return {f"{turn.name}/{name}": value for name, value in {**figures, "norm": norm, "lr": lr}.items()}

    def _loss(self, turn: Turn, step: int, batch: Batch, places: Sequence[Place]) -> Loss:
        seed = seed_of(self.config.seed, "dropout", turn.name, step, places[0].position)
        with _repeatable(self.group.device, seed), self.autocast():
            return turn.loss(batch, step, self.draws(turn.name, step, places))

    def draws(self, purpose: str, step: int, places: Sequence[Place]) -> Draws:
        """The streams of a micro-batch for one purpose, such as a turn."""
        return Draws([seed_of(self.config.seed, purpose, step, place.position) for place in places])

    def autocast(self) -> torch.autocast:
        """The precision that the config asks for."""
        return torch.autocast(
            self.group.device.type, torch.bfloat16, enabled=self.config.loop.precision == "bfloat16"
        )

    def _not_finite(
        self, turn: Turn, step: int, loss: float, norm: float, suspects: list[str], share: Share
    ) -> NonFiniteLossError:
        """Called by all processes together, so that each names the files of all."""
        blamed = chain.from_iterable(self.group.gather_objects(suspects))
        of_all = chain.from_iterable(
            self.group.gather_objects([file for batch, _ in share for file in batch.files])
        )
        files = ", ".join(blamed) or ", ".join(of_all)
        return NonFiniteLossError(
            f"step {step + 1}, turn {turn.name!r}: the loss is {loss:g} and its gradient's norm {norm:g}; "
            f"made from {files}; {self.last_good()}. Look at these files; lower the learning rate; or "
            "set loop.clip_norm, or loop.precision to float32"
        )


def _only(networks: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """These parameters require gradients, and no others."""
    networks.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)


@contextmanager
def _repeatable(device: torch.device, seed: int) -> Iterator[None]:
    """Torch's global generators (dropout) seeded for the length of a block, then as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield
