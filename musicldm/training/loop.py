"""The loop: turns, micro-batches, gradients, averages, checkpoints. Knows nothing of music.

Everything random or scheduled is a function of (seed, step): a checkpoint is the networks, their moving
average, the optimisers' states and a step, and a resumed run continues bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musicldm.io.distributed import Group
from musicldm.io.stop import Stop

from . import feed
from .checkpoints import Checkpoints
from .ema import MovingAverage
from .log import RunLog, memory_mb
from .order import Order
from .preview import write_previews
from .settings import RunConfig
from .stage import Stage, collate
from .turns import Share, TurnTaker

__all__ = ["Outcome", "Trainer"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: after how many steps, whether stopped before the last, and its newest checkpoint."""

    step: int
    stopped: bool
    checkpoint: Path


class Trainer:
    """One run of one stage, on one process of a group.

    held_out: None where nothing is evaluated. Raises ValueError if the settings do not fit the group.
    """

    def __init__(
        self,
        stage: Stage,
        config: RunConfig,
        group: Group,
        train: feed.Source,
        held_out: feed.Source | None = None,
    ) -> None:
        loop = config.loop
        if loop.batch_size % group.world or loop.batch_size < 1:
            raise ValueError(
                f"loop.batch_size: got {loop.batch_size}, expected a multiple of the {group.world} processes"
            )
        self.stage, self.config, self.group = stage, config, group
        self.train, self.held_out = train, held_out
        self.output = Path(config.output)
        self.checkpoints = Checkpoints(self.output / "checkpoints", config.save.keep)
        self.order = Order(len(train), loop.batch_size, config.seed)
        group.copy_from_first(stage.networks)
        averaged = nn.ModuleDict({name: stage.networks[name] for name in stage.averaged})
        self.average = MovingAverage(averaged, loop.ema)
        self.taker = TurnTaker(stage, config, group, self._last_good)

    def run(self, *, resume: bool = False, bar: bool = False) -> Outcome:
        """Train to the last step, or to the one at which SIGTERM or Ctrl-C came; then write the model.

        Raises ValueError if the folder holds a run and `resume` is not set, NonFiniteLossError, and OSError
        if the disk does; a second Ctrl-C is KeyboardInterrupt, at once.
        """
        start, last = self._start(resume), self.config.loop.steps
        step, stopped = start, False
        with ExitStack() as stack:
            run_log = None
            if self.group.first:
                run_log = stack.enter_context(closing(RunLog(self.output, start, last, bar=bar)))
            stop = stack.enter_context(Stop("step").listening())
            for share in self._shares(start):
                if step == 0:
                    draws = (self.taker.draws("prepare", 0, places) for _, places in share)
                    self.stage.prepare([(b, d) for (b, _), d in zip(share, draws, strict=True)])
                began = time.perf_counter(), time.process_time()
                line = self.taker.step(step, share)
                self.average.update()
                step += 1
                stopped = self.group.sum(torch.tensor(float(bool(stop)))).item() > 0 and step < last
                if run_log is not None:
                    took = time.perf_counter() - began[0], time.process_time() - began[1]
                    self._tell(run_log, step, line, took)
                self._keep(run_log, step, ending=stopped or step == last)
                if stopped:
                    break
        if self.group.first:
            self._write_model()
        return Outcome(step, stopped, self.checkpoints.path(step))

    def refuse_if_begun(self) -> None:
        """Raises ValueError if the output folder holds a run already."""
        entries = self.checkpoints.entries()
        if entries:
            raise ValueError(
                f"{self.output} holds a run at step {entries[-1].step}: go on with --resume, or give another "
                "output folder"
            )

    def _last_good(self) -> str:
        entries = self.checkpoints.entries()
        if not entries:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {self.checkpoints.path(entries[-1].step)}"

    def _start(self, resume: bool) -> int:
        """The step to go on at, with its state put back; 0 for a new run."""
        if not resume:
            self.refuse_if_begun()
        found = self.checkpoints.newest() if resume else None
        steps = set(self.group.gather_objects(found[0].step if found else 0))
        if len(steps) > 1:
            raise ValueError(
                f"the processes found checkpoints of different steps, {sorted(steps)}: they must see one "
                "folder"
            )
        if found:
            self._restore(found[1])
        elif resume:
            log.warning("%s holds no checkpoint yet: starting from the beginning", self.output)
        return steps.pop()

    def _shares(self, start: int) -> Iterator[Share]:
        loop = self.config.loop
        for share in feed.steps(
            self.train,
            self.order,
            start=start,
            end=loop.steps,
            rank=self.group.rank,
            world=self.group.world,
            micro=loop.micro_batch,
            workers=loop.workers,
        ):
            yield [(batch.to(self.group.device), places) for batch, places in share]

    def _tell(self, run_log: RunLog, step: int, line: Mapping[str, float], took: tuple[float, float]) -> None:
        loop = self.config.loop
        if step % loop.log_every == 0 or step in (1, loop.steps):
            facts = {
                "epoch": self.order.epoch(step),
                "seconds": took[0],  # of the clock, the loading of clips left out
                "cpu_seconds": took[1],  # of this process, on all its threads
                "memory_mb": memory_mb(self.group.device),
            }
            run_log.write({"step": step, **line, **facts})
        losses = [
            f"{name.removesuffix('/loss')} {value:.4g}"
            for name, value in line.items()
            if name.endswith("/loss")
        ]
        run_log.advance(", ".join(losses))

    def _keep(self, run_log: RunLog | None, step: int, *, ending: bool) -> None:
        """What is due after a step: evaluation, previews, a checkpoint."""
        config = self.config
        done = step == config.loop.steps
        loss = None
        if (
            self.held_out is not None
            and config.evaluate.every
            and (done or step % config.evaluate.every == 0)
        ):
            figures = self._evaluate(self.held_out)
            loss = figures["loss"]
            if run_log is not None:
                run_log.write(
                    {"step": step, **{f"held_out/{name}": value for name, value in figures.items()}}
                )
        if run_log is None:
            return
        if config.preview.every and (done or step % config.preview.every == 0):
            self._preview(run_log, step)
        best = self.checkpoints.best()
        better = loss is not None and (best is None or loss < (best.loss or 0.0))
        if ending or better or step % config.save.every == 0:
            self.checkpoints.save(self._state(step), step, loss)

    def _evaluate(self, source: feed.Source) -> dict[str, float]:
        """Means over the held-out clips, averaged weights, the same draws each time."""
        sums: dict[str, Tensor] = {}
        items = 0
        micro = self.config.loop.micro_batch or -(-self.config.loop.batch_size // self.group.world)
        with self._judging():
            for batch, places in feed.held_out(
                source,
                clips=self.config.evaluate.clips,
                rank=self.group.rank,
                world=self.group.world,
                micro=micro,
                workers=self.config.loop.workers,
            ):
                figures = self.stage.evaluate(
                    batch.to(self.group.device), self.taker.draws("evaluate", 0, places)
                )
                items += len(batch)
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0) + len(batch) * value.double()
        names = sorted(set(chain.from_iterable(self.group.gather_objects(list(sums)))))
        values = [torch.as_tensor(sums.get(name, 0.0), dtype=torch.float64).cpu() for name in names]
        totals = self.group.sum(torch.stack([*values, torch.tensor(float(items), dtype=torch.float64)]))
        return {name: (total / totals[-1]).item() for name, total in zip(names, totals[:-1], strict=True)}

    def _preview(self, run_log: RunLog, step: int) -> None:
        source = self.held_out or self.train
        shown = min(self.config.preview.clips, len(source))
        batch = collate([source.item(0, index) for index in range(shown)]).to(self.group.device)
        with self._judging():
            previews = self.stage.previews(batch)
        write_previews(self.output / "previews", previews, step)
        for preview in previews:
            run_log.preview(preview, step)

    @contextmanager
    def _judging(self) -> Iterator[None]:
        """No gradients, evaluation mode, averaged weights."""
        self.stage.networks.eval()
        with torch.no_grad(), self.average.applied(), self.taker.autocast():
            yield

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "networks": self.stage.networks.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": {turn.name: turn.optimizer.state_dict() for turn in self.stage.turns},
            "facts": self.stage.facts(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.stage.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        for turn in self.stage.turns:
            settings = [_settings(group) for group in turn.optimizer.param_groups]
            turn.optimizer.load_state_dict(state["optimizers"][turn.name])
            for group, ours in zip(turn.optimizer.param_groups, settings, strict=True):
                group.update(ours)  # a learning rate that was changed on the way is the config's
        self.stage.restore(state["facts"])

    def _write_model(self) -> None:
        best = self.checkpoints.best() if self.config.save.model == "best" else None
        if best is not None:
            self._restore(self.checkpoints.load(best))
        self.stage.networks.eval()
        with self.average.applied():
            self.stage.save(self.output)


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's settings for a group of parameters, without the parameters."""
    return {name: value for name, value in group.items() if name != "params"}
