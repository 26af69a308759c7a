"""`musicldm batch`: options -> a run; its progress, its summary, its exit status."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from musicldm import audio, inputs
from musicldm.hub import resolve, usual_guidance
from musicldm.io.distributed import Shard
from musicldm.io.files import file_digest, value_digest
from musicldm.io.stop import Stop

from .folder import Folder, Tally
from .making import PipelineMaker, Settings
from .record import Record, locked, open_record
from .rows import BadRow, PromptFile, Row
from .run import Progress, make_all
from .seeds import model_digests

__all__ = ["run_batch"]

log = logging.getLogger(__name__)

INTERRUPTED = 130


def run_batch(
    options: argparse.Namespace,
    load: Callable[[argparse.Namespace], Any],
    environment: Mapping[str, str] = os.environ,
) -> int:
    """The whole command. load: options -> a pipeline. Returns the exit status: 0, 1 if rows failed, 130.

    Raises ValueError before any work for what cannot be honoured, OSError if the disk gives up.
    """
    settings = _settings(options)
    size = inputs.as_count(options.batch_size, "--batch-size")
    shard = Shard.from_environment(environment)
    prompts = PromptFile(options.prompts, options.encoding, _columns(options.columns))
    survey = prompts.survey(shard.has)
    model = resolve(options.model)
    digests = model_digests(model)
    about_model = {"name": options.model, "sha256": value_digest(digests), **_adapters(options)}
    how_read = {"encoding": prompts.encoding, "columns": prompts.columns or None}
    made_with = {**asdict(settings), **how_read, "model_sha256": about_model["sha256"], **_adapters(options)}
    record = Record(made_with, prompts.path, survey)

    def maker() -> PipelineMaker:
        device = shard.device(options.device, torch.cuda.device_count())
        placed = argparse.Namespace(**vars(options) | {"model": str(model), "device": device})
        return PipelineMaker(load(placed), settings, about_model)

    if options.output.exists() and not options.output.is_dir():
        raise ValueError(f"--output {options.output} is a file, expected a folder for the clips")
    with ExitStack() as stack:
        stack.enter_context(locked(options.output, f"{shard.rank}-of-{shard.world}"))
        run = open_record(
            options.output,
            record,
            overwrite=_others(prompts, shard) if options.overwrite else None,
            say=_nothing if options.quiet else log.warning,
        )
        folder = Folder(options.output, run, f".{settings.format}")
        stop = stack.enter_context(Stop().listening())
        meter = stack.enter_context(_meter(survey.mine, shard, options.quiet))
        rows = (row for row in prompts if shard.has(row.index))
        progress = _make(rows, maker, folder, size, stop, meter, survey.mine)
        meter.close()
        outcome = _Outcome(options.output, shard, progress, survey.mine, meter.clips_per_minute)
        if stop:
            if shard.world == 1:
                folder.publish(prompts)
            if not options.quiet:
                _say(outcome.interrupted())
            return INTERRUPTED
        status, summary = _finish(folder, prompts, outcome)
        if not options.quiet:
            _say(summary)
        return status


def _settings(options: argparse.Namespace) -> Settings:
    audio.check_suffix(Path(f"clip.{options.format}"), options.float32)
    return Settings(
        seed=0 if options.seed is None else options.seed,
        steps=inputs.as_count(options.steps, "--steps"),
        guidance=usual_guidance(options.model)
        if options.guidance is None
        else inputs.as_guidance(options.guidance),
        negative=options.negative,
        seconds=options.seconds,
        eta=options.eta,
        scheduler=options.scheduler,
        candidates=inputs.as_count(options.candidates, "--candidates"),
        keep_all=options.keep_all,
        format=options.format,
        float32=options.float32,
        dtype=options.dtype,
        heads=options.heads,
        compile=options.compile,
        guidance_interval=inputs.as_interval(options.guidance_interval),
        feature_reuse=inputs.as_count(options.feature_reuse, "--feature-reuse"),
    )


def _adapters(options: argparse.Namespace) -> dict[str, Any]:
    """What the record says about --lora: bytes and strength, in their order; nothing if there is none.

    Raises OSError if a file is not there.
    """
    loras = [{"sha256": file_digest(file)[0], "scale": scale} for file, scale in options.lora]
    return {"lora": loras} if loras else {}


def _others(prompts: PromptFile, shard: Shard) -> Callable[[int, str | None], bool]:
    """What --overwrite leaves alone: other processes' rows, and rows that stand in the file as they did."""
    contains = prompts.contains()
    return lambda index, digest: not shard.has(index) or contains(index, digest)


def _columns(text: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise ValueError(f"--columns {text}: expected OURS=THEIRS,... as in prompt=caption,id=ytid")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _make(
    rows: Iterable[Row | BadRow],
    maker: Callable[[], PipelineMaker],
    folder: Folder,
    size: int,
    stop: Stop,
    meter: _Meter,
    total: int,
) -> Progress:
    try:
        return make_all(rows, maker, folder, size=size, stop=lambda: bool(stop), report=meter.show)
    except OSError as error:
        raise OSError(
            f"{error}; stopped after {meter.done} of {total} rows. What is complete is safe: put this right "
            "(room on the disk, leave to write, the folder itself) and run the same command again"
        ) from error


@dataclass(frozen=True)
class _Outcome:
    """What this process did: the words for it."""

    path: Path
    shard: Shard
    progress: Progress
    total: int
    clips_per_minute: float

    def interrupted(self) -> str:
        return (
            f"{self._who()}: stopped; {self.progress.done} of {self.total} rows are done ({self._what()}). "
            "The same command goes on from there"
        )

    def finished(self, tally: Tally | None) -> str:
        words = f"{self._who()}: {self._what()}"
        if tally is None:
            return f"{words}; other processes are at work"
        words += f"; complete {tally.complete}, failed {tally.failed}" * (self.shard.world > 1)
        words += f"; {tally.left} of other processes are left: run it again" * (tally.left > 0)
        return words + "; see errors.jsonl" * (tally.failed > 0)

    def _who(self) -> str:
        shard = self.shard
        return f"{self.path}" + f", process {shard.rank} of {shard.world}" * (shard.world > 1)

    def _what(self) -> str:
        progress = self.progress
        before = progress.done - progress.made - progress.failed
        words = f"{progress.made} made, {before} complete before, {progress.failed} failed"
        return words + f", {self.clips_per_minute:.1f} clips a minute" * (progress.made > 0)


def _finish(folder: Folder, prompts: PromptFile, outcome: _Outcome) -> tuple[int, str]:
    """Exit status and summary. The last process to finish writes the manifest and answers for all rows."""
    last = outcome.shard.is_last()
    if last is False:
        return 0, outcome.finished(None)
    if last is None and folder.tally(prompts).left:
        return int(outcome.progress.failed > 0), outcome.finished(None)
    tally = folder.publish(prompts)
    return int(tally.failed + tally.left > 0), outcome.finished(tally)


class _Meter:
    """Clips a minute and time left, counted from the first clip that had to be made."""

    def __init__(self, total: int, shown: bool) -> None:
        self.done = 0
        self.clips_per_minute = 0.0
        self._total = total
        self._start = self._last = time.monotonic()
        self._bar = tqdm(
            total=total, leave=False, disable=not shown,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
        )  # fmt: skip

    def show(self, progress: Progress) -> None:
        now, tried = time.monotonic(), progress.made + progress.failed
        if not tried:
            self._start = now  # what was complete before says nothing about the speed
        elapsed = max(now - self._start, 1e-9)
        self.clips_per_minute = 60 * progress.made / elapsed
        if tried:
            left = (self._total - progress.done) * elapsed / tried
            self._bar.set_postfix_str(
                f"{self.clips_per_minute:.1f} clips/min, {tqdm.format_interval(left)} left", refresh=False
            )
        self.done = progress.done
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def _meter(total: int, shard: Shard, quiet: bool) -> Iterator[_Meter]:
    shown = not quiet and shard.rank == 0 and sys.stderr.isatty()
    meter = _Meter(total, shown)
    with ExitStack() as stack:
        if shown:
            stack.enter_context(logging_redirect_tqdm())
        try:
            yield meter
        finally:
            meter.close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _nothing(text: str) -> None:
    pass
