"""Is it new: for each generated clip the nearest training clip, and the share that is too near (SIM_AA).

Exact: every pair is compared, in blocks, so that 10,000 x 100,000 clips of 512 numbers need 0.7 GB
beside their embeddings. Needs numpy only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import Rows, same_width, unit_rows

__all__ = ["Match", "Nearest", "Novelty", "nearest", "novelty"]

QUERIES, POOL = 1024, 8192  # rows of a block: its float32 products are 32 MB
RECHECKED = 1 << 14  # pairs compared again at once: 64 MB of float64 at a width of 512


@dataclass(frozen=True)
class Nearest:
    """index: (n,) of the nearest clip of the pool, the first of equal ones. similarity: (n,) their cosine."""

    index: NDArray[np.int64]
    similarity: NDArray[np.float64]


@dataclass(frozen=True)
class Match:
    """A generated clip, the training clip nearest to it, and their cosine."""

    generated: int
    training: int
    similarity: float


@dataclass(frozen=True)
class Novelty:
    """share: threshold -> share of generated clips with a training clip above it. nearest: for every clip."""

    share: dict[float, float]
    nearest: Nearest

    def matches(self, threshold: float) -> list[Match]:
        """The clips with a training clip above a threshold, most similar first, then in their order."""
        found = self.nearest
        above = np.flatnonzero(found.similarity > threshold)
        order = above[np.argsort(-found.similarity[above], kind="stable")]
        return [Match(int(i), int(found.index[i]), float(found.similarity[i])) for i in order]


def novelty(
    generated: ArrayLike, training: ArrayLike, *, thresholds: Sequence[float] = (0.90, 0.95)
) -> Novelty:
    """CLAP audio embeddings (n, d) and (m, d) -> SIM_AA: the share whose largest cosine is over a threshold.

    Rows need no unit norm. The thresholds belong to the embedding: on others, calibrate with clips that are
    known to be copies and clips that are known not to be. A share for real clips held out of the training
    set, beside it, says how much is style and how much is copying.

    Source: MusicLDM (arXiv 2308.01546), section 4, SIM_AA@90 and @95. Raises ValueError for a threshold
    outside -1 .. 1.
    """
    if any(not -1 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"novelty: got thresholds {tuple(thresholds)}, expected cosines, from -1 to 1")
    found = nearest(generated, training)
    share = {threshold: float((found.similarity > threshold).mean()) for threshold in thresholds}
    return Novelty(share, found)


def nearest(
    queries: ArrayLike, pool: ArrayLike, *, names: tuple[str, str] = ("the generated set", "the training set")
) -> Nearest:
    """(n, d) and (m, d) -> for each query the row of the pool with the largest cosine, compared exactly.

    float32 products in blocks find the rows that rounding could put first; these are compared again in
    float64, one by one, so that neither blocks nor threads can change an answer or its last digit.

    Raises ValueError for rows that are not finite or zero, and for two widths.
    """
    wanted, kept = unit_rows(queries, "nearest", names[0]), unit_rows(pool, "nearest", names[1])
    same_width(wanted, kept, "nearest", " and ".join(names))
    first = _first_of_equals(kept)  # a thousand silent clips would be a thousand candidates each
    if len(first) < len(kept):
        kept = kept[first]
    low = kept.astype(np.float32)
    index = np.zeros(len(wanted), np.int64)
    similarity = np.full(len(wanted), -np.inf)
    for start in range(0, len(wanted), QUERIES):
        here = slice(start, start + QUERIES)
        for begin in range(0, len(kept), POOL):
            _improve(wanted[here], kept, low[begin : begin + POOL], begin, index[here], similarity[here])
    return Nearest(first[index], similarity)


def _improve(
    wanted: Rows,
    kept: Rows,
    low: NDArray[np.float32],
    begin: int,
    index: NDArray[np.int64],
    similarity: NDArray[np.float64],
) -> None:
    """Update index and similarity, in place, by one block of the pool that starts at row `begin`."""
    products = wanted.astype(np.float32) @ low.T
    # two products of unit rows, each off by (d + 2) roundings at most (Cauchy and Schwarz)
    margin = 2 * (wanted.shape[1] + 2) * np.float32(2**-24)
    floor = np.maximum(products.max(axis=1), similarity.astype(np.float32)) - margin
    query, candidate = np.nonzero(products >= floor[:, None])
    for at in range(0, len(query), RECHECKED):
        i, j = query[at : at + RECHECKED], candidate[at : at + RECHECKED] + begin
        exact = (wanted[i] * kept[j]).sum(axis=1)
        order = np.lexsort((j, -exact, i))  # by query, then nearest, then first
        best = order[np.unique(i[order], return_index=True)[1]]
        better = best[exact[best] > similarity[i[best]]]
        index[i[better]], similarity[i[better]] = j[better], exact[better]


def _first_of_equals(rows: Rows) -> NDArray[np.int64]:
    """Numbers of the rows that no earlier row equals."""
    seen: dict[bytes, int] = {}
    for i, row in enumerate(rows):
        seen.setdefault(hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest(), i)
    return np.fromiter(seen.values(), np.int64, len(seen))
