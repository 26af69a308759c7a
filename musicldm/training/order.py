"""Which clips make up which step's batch: a function of the seed and the step, and of nothing else.

A shuffled pass over n clips is an epoch; passes follow each other without a gap, and a step takes the next
`batch_size` of them. So a run can go on at any step, and any number of processes can share a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from musicldm.data.seeds import permutation

__all__ = ["Order", "Place"]


@dataclass(frozen=True)
class Place:
    """Where an item stands: the clip `index` in its pass `epoch`; `position` in the step's whole batch."""

    epoch: int
    index: int
    position: int


@dataclass(frozen=True)
class Order:
    """The batches of a run over n clips."""

    n: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.n < 1 or self.batch_size < 1:
            raise ValueError(
                f"Order: got {self.n} clips and batches of {self.batch_size}, expected 1 or more"
            )

    def batch(self, step: int) -> list[Place]:
        """All places of a step, `batch_size` of them."""
        first = step * self.batch_size
        return [self._place(first + position, position) for position in range(self.batch_size)]

    def epoch(self, step: int) -> float:
        """Passes over the data before a step."""
        return step * self.batch_size / self.n

    def micro_batches(self, step: int, rank: int, world: int, size: int) -> Iterator[list[Place]]:
        """What process `rank` of `world` takes of a step, in parts of at most `size`."""
        whole = self.batch(step)
        mine = whole[rank * len(whole) // world : (rank + 1) * len(whole) // world]
        for start in range(0, len(mine), size):
            yield mine[start : start + size]

    def _place(self, number: int, position: int) -> Place:
        epoch, place = divmod(number, self.n)
        return Place(epoch, _permutation(self.seed, epoch, self.n)[place], position)


_permutation = lru_cache(maxsize=4)(permutation)  # a batch touches two passes, unless it exceeds the data
