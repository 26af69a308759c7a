"""Which tracks may be mixed: an index of tempi that draws a partner in logarithmic time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BIN", "TempoBins", "TempoNeighbours"]

BIN = 3  # beats per minute


class TempoBins:
    """The authors' groups: whole tempi 117, 118, 119 are one bin, 120, 121, 122 the next (`tempo // 3`).

    tempi: whole beats per minute by track; 0 takes part in nothing. Differs: a track is never its own
    partner.
    """

    def __init__(self, tempi: Sequence[int]) -> None:
        self._bins: dict[int, NDArray[np.int64]] = {}
        self._place: dict[int, tuple[int, int]] = {}
        members: dict[int, list[int]] = {}
        for track, tempo in enumerate(tempi):
            if tempo > 0:
                key = tempo // BIN
                self._place[track] = key, len(members.setdefault(key, []))
                members[key].append(track)
        self._bins = {key: np.array(tracks) for key, tracks in members.items()}

    def count(self, track: int) -> int:
        """How many partners a track has."""
        return len(self._bins[self._place[track][0]]) - 1 if track in self._place else 0

    def draw(self, track: int, rng: np.random.Generator) -> int | None:
        """One of them, all alike; None if there are none."""
        if not self.count(track):
            return None
        key, own = self._place[track]
        at = int(rng.integers(len(self._bins[key]) - 1))
        return int(self._bins[key][at + (at >= own)])


class TempoNeighbours:
    """Tracks whose tempi differ by at most k beats per minute, without the edges that bins have.

    tempi: beats per minute by track; 0 takes part in nothing. fold: half and double tempo count as the same,
    so that 60 meets 120: within k at the anchor's own tempo.
    """

    def __init__(self, tempi: Sequence[float], k: float, *, fold: bool = False) -> None:
        if not k >= 0:
            raise ValueError(f"TempoNeighbours: got k = {k}, expected 0 or more beats per minute")
        self._tempi = np.asarray(tempi, np.float64)
        order = np.argsort(self._tempi, kind="stable")
        self._order = order[self._tempi[order] > 0]
        self._sorted = self._tempi[self._order]
        self._rank = np.full(len(self._tempi), -1)
        self._rank[self._order] = np.arange(len(self._order))
        self._k = k + 1e-9  # equal tempi may differ in the last bit
        self._factors = (0.5, 1.0, 2.0) if fold else (1.0,)

    def _ranges(self, track: int) -> list[tuple[int, int]]:
        """Half-open ranges of ranks, ascending, apart from one another; the track itself is in one of
        them."""
        if self._rank[track] < 0:
            return []
        tempo, found = self._tempi[track], list[tuple[int, int]]()
        for factor in self._factors:
            first = int(np.searchsorted(self._sorted, (tempo - self._k) * factor, "left"))
            last = int(np.searchsorted(self._sorted, (tempo + self._k) * factor, "right"))
            first = max(first, found[-1][1]) if found else first
            if last > first:
                found.append((first, last))
        return found

    def count(self, track: int) -> int:
        """How many partners a track has."""
        return max(0, sum(last - first for first, last in self._ranges(track)) - 1)

    def draw(self, track: int, rng: np.random.Generator) -> int | None:
        """One of them, all alike; None if there are none."""
        ranges = self._ranges(track)
        others = sum(last - first for first, last in ranges) - 1
        if others < 1:
            return None
        at = int(rng.integers(others))
        for first, last in ranges:
            own = first <= self._rank[track] < last
            size = last - first - own
            if at < size:
                rank = first + at
                return int(self._order[rank + (own and rank >= self._rank[track])])
            at -= size
        raise AssertionError("the ranges hold what was counted")
