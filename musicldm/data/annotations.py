"""Beat times in files: .npy (what the authors kept), .beats text (what beat trackers and data sets write)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Beats", "as_times", "read_annotation", "write_annotation"]

Times = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beats:
    """(n,) beats and (m,) downbeats, seconds from the file's start; None: the source does not tell them."""

    beats: Times
    downbeats: Times | None


def as_times(values: Sequence[Any] | NDArray[Any], what: str) -> Times:
    """Seconds as a read-only float64 array.

    Raises ValueError unless they are finite numbers, not negative, and each later than the one before.
    """
    wrong = next(
        (v for v in values if isinstance(v, bool) or not isinstance(v, (int, float, np.number))), None
    )
    if wrong is not None or np.ndim(values) != 1 or np.iscomplexobj(values):
        raise ValueError(f"{what}: got {repr(wrong)[:60]} in it, expected a list of seconds")
    try:
        times = np.array(values, np.float64)
    except OverflowError:
        raise ValueError(f"{what}: a number in it is too large for a time in seconds") from None
    if not np.isfinite(times).all() or (times < 0).any():
        raise ValueError(
            f"{what}: holds times that are negative, NaN or infinite, expected seconds from 0 on"
        )
    late = np.flatnonzero(np.diff(times) <= 0)
    if len(late):
        at = int(late[0])
        raise ValueError(
            f"{what}: {times[at + 1]:g} s stands after {times[at]:g} s, expected ascending times"
        )
    times.setflags(write=False)
    return times


def read_annotation(path: Path) -> Beats:
    """A .npy file of one-dimensional times, or a text file (.beats, .txt) with a beat a line.

    A line of text has the time in seconds and, where downbeats are known, the beat's number in its bar: 1 is
    a downbeat. Separated by blanks or tabs; empty lines and lines that start with # are skipped.
    Raises ValueError naming the file, and the line in text.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such beat annotation")
    if path.suffix.lower() == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError, MemoryError) as error:
            raise ValueError(f"{path}: not a .npy file of times ({error})") from None
        return Beats(as_times(np.atleast_1d(array), str(path)), None)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8, expected a beat a line") from None
    rows = [
        _numbers(path, at, line)
        for at, line in enumerate(lines, 1)
        if line.strip() and line.strip()[0] != "#"
    ]
    times = as_times([row[0] for row in rows], str(path))
    if not rows or any(len(row) < 2 for row in rows):
        return Beats(times, None)
    return Beats(times, as_times([row[0] for row in rows if row[1] == 1], str(path)))


def _numbers(path: Path, at: int, line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()[:2]]
    except ValueError:
        raise ValueError(
            f"{path}, line {at}: got {line[:60]!r}, expected seconds and, after a blank, the beat's number"
        ) from None


def write_annotation(path: Path, found: Beats) -> None:
    """A .beats file that `read_annotation` gives back, to 0.1 ms: a beat's number counts on from each
    downbeat.

    A downbeat is the beat nearest to its time; beats before the first downbeat count backwards to it from 4.
    """
    firsts = set()
    if found.downbeats is not None and len(found.beats):
        firsts = {int(np.abs(found.beats - time).argmin()) for time in found.downbeats}
    number = (4 - min(firsts, default=0)) % 4
    lines = []
    for index, time in enumerate(found.beats):
        number = 1 if index in firsts else number + 1
        lines.append(f"{time:.4f}\t{number}" if found.downbeats is not None else f"{time:.4f}")
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
