"""Clips -> the micro-batches of each step, cut in the background."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from .order import Order, Place
from .stage import Batch, collate

__all__ = ["MicroBatch", "Source", "held_out", "steps"]

MicroBatch = tuple[Batch, tuple[Place, ...]]


class Source(Protocol):
    """Clips by number. An item is a function of (epoch, index): whoever asks, whenever, gets the same one."""

    def __len__(self) -> int:
        """How many."""

    def item(self, epoch: int, index: int) -> Mapping[str, Any]:
        """Names to arrays, numbers and strings; "file" says what it was made from."""


def steps(
    source: Source, order: Order, *, start: int, end: int, rank: int, world: int, micro: int, workers: int
) -> Iterator[list[MicroBatch]]:
    """For each step from `start`, the micro-batches of one process, which has an even share of a step.

    micro: items at most in each; 0: all at once.
    """
    share = order.batch_size // world
    size = min(micro or share, share)
    places = (
        tuple(part) for step in range(start, end) for part in order.micro_batches(step, rank, world, size)
    )
    loaded = iter(_loader(source, places, workers))
    for _ in range(start, end):
        yield [next(loaded) for _ in range(-(-share // size))]


def held_out(
    source: Source, *, clips: int, rank: int, world: int, micro: int, workers: int
) -> Iterator[MicroBatch]:
    """One process's share of the first `clips` items (0: all), the same at every evaluation."""
    total = min(clips or len(source), len(source))
    mine = [Place(0, index, index) for index in range(rank, total, world)]
    size = micro or max(1, len(mine))
    parts = (tuple(mine[start : start + size]) for start in range(0, len(mine), size))
    yield from _loader(source, parts, workers)


def _loader(source: Source, places: Iterator[tuple[Place, ...]], workers: int) -> DataLoader[Any]:
    return DataLoader(
        _Items(source),
        batch_sampler=places,  # type: ignore[arg-type]  # lists of what __getitem__ takes; ours takes places
        num_workers=workers,
        collate_fn=_put_together,
        worker_init_fn=_leave_signals,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader seeds its workers: not from the global generator
    )


class _Items(Dataset[Any]):
    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, place: Place) -> tuple[Mapping[str, Any], Place]:
        return self._source.item(place.epoch, place.index), place


def _put_together(items: Sequence[tuple[Mapping[str, Any], Place]]) -> MicroBatch:
    return collate([item for item, _ in items]), tuple(place for _, place in items)


def _leave_signals(worker: int) -> None:
    """Ctrl-C reaches the whole process group: the training process finishes its step and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the training process's own handler, inherited
