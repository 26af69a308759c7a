"""The loop: rows are read, grouped, made and kept; whatever goes wrong with a row stays with that row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from .folder import Folder
from .rows import BadRow, Row

__all__ = ["Clips", "Maker", "Progress", "batches", "make_all"]

log = logging.getLogger(__name__)

LOOK_AHEAD = 64  # batches' worth of rows that wait for others of their kind


@dataclass(frozen=True)
class Clips:
    """What a row became: encoded clips, best first, and what the sidecar says about them."""

    encoded: list[bytes]
    about: dict[str, Any]


class Maker(Protocol):
    """Makes clips. Rows of one `kind` can be made together."""

    def kind(self, row: Row) -> Hashable:
        """What rows that are made together have in common."""

    def make(self, rows: list[Row]) -> list[Clips]:
        """Rows of one kind -> their clips. May raise anything; then none of the rows is made."""


@dataclass
class Progress:
    """Rows so far. done: all of them; made and failed: in this run; the rest was complete."""

    done: int = 0
    made: int = 0
    failed: int = 0


def batches(rows: Iterable[Row], kind: Callable[[Row], Hashable], size: int) -> Iterator[list[Row]]:
    """Rows of equal kind together, `size` at most.

    The first row of a kind waits until LOOK_AHEAD * size rows are waiting, no longer.
    """
    waiting: dict[Hashable, list[Row]] = {}  # in the order of their first rows
    count = 0
    for row in rows:
        name = kind(row)
        group = waiting.setdefault(name, [])
        group.append(row)
        count += 1
        if len(group) == size or count == LOOK_AHEAD * size:
            ready = name if len(group) == size else next(iter(waiting))
            group = waiting.pop(ready)
            count -= len(group)
            yield group
    yield from waiting.values()


def make_all(
    rows: Iterable[Row | BadRow],
    maker: Callable[[], Maker],
    folder: Folder,
    *,
    size: int,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Make what is not complete. `maker` is called once, and only if there is work; `report` after each row.

    A batch that fails is made again row by row; a row that fails alone is noted, and the work goes on.
    Raises OSError if the folder cannot be written: then no later row would fare better.
    """
    progress = Progress()
    todo = _missing(rows, folder, progress, stop, report)
    first = next(todo, None)
    if first is None:
        return progress
    made_by = maker()
    for batch in batches(chain([first], todo), made_by.kind, size):
        if stop():
            break
        for row, result in _made(batch, made_by, stop):
            if isinstance(result, Clips):
                folder.save(row, result.encoded, result.about)
                progress.made += 1
            else:
                _fail(folder, row, result, progress)
            progress.done += 1
            report(progress)
        folder.settle()
    return progress


def _missing(
    rows: Iterable[Row | BadRow],
    folder: Folder,
    progress: Progress,
    stop: Callable[[], bool],
    report: Callable[[Progress], None],
) -> Iterator[Row]:
    """The rows that are to be made; the others are counted."""
    for row in rows:
        if stop():
            return
        if isinstance(row, BadRow):
            _fail(folder, row, row.reason, progress)
        elif folder.complete(row) is None:
            yield row
            continue
        progress.done += 1
        report(progress)


def _fail(folder: Folder, row: Row | BadRow, reason: str, progress: Progress) -> None:
    log.warning("row %d failed: %s", row.index, reason)
    folder.fail(row, reason)
    progress.failed += 1


def _made(batch: list[Row], maker: Maker, stop: Callable[[], bool]) -> Iterator[tuple[Row, Clips | str]]:
    """Each row with its clips, or with the reason why there are none."""
    try:
        made = maker.make(batch)
    except Exception as error:  # whatever it is, it must not take other rows along
        if len(batch) == 1:
            yield batch[0], f"{type(error).__name__}: {error}"
            return
        log.warning("a batch of %d rows failed (%s); making them one by one", len(batch), error)
        problem: str | None = str(error)
    else:
        problem = None
        yield from zip(batch, made, strict=True)
    if problem is not None:
        for row in batch:  # outside the except block, which would keep the failed batch's memory alive
            if stop():
                return
            yield from _made([row], maker, stop)
