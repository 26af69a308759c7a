"""Kernel distance between two sets: the maximum mean discrepancy, squared and unbiased. KID, KAD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from .checks import Rows, rows, same_width

__all__ = ["GaussianKernel", "Kernel", "PolynomialKernel", "kernel_distance", "median_distance"]

BLOCK = 2048  # rows of a kernel matrix made at once: 2,048 x 10,000 float64 are 160 MB


class Kernel(Protocol):
    """Two sets of rows -> the matrix of their similarities."""

    def __call__(self, a: Rows, b: Rows) -> Rows:
        """a: (n, d), b: (m, d) -> (n, m)."""


@dataclass(frozen=True)
class PolynomialKernel:
    """(x . y / d + 1)^3, d the width: KID's. Source: Binkowski et al. 2018 (arXiv 1801.01401), section 4."""

    degree: int = 3
    offset: float = 1.0

    def __call__(self, a: Rows, b: Rows) -> Rows:
        """a: (n, d), b: (m, d) -> (n, m)."""
        return (a @ b.T / a.shape[1] + self.offset) ** self.degree


@dataclass(frozen=True)
class GaussianKernel:
    """exp(-|x - y|^2 / (2 bandwidth^2)): KAD's, with the median distance of the reference for a bandwidth.

    Source: Gretton et al. 2012 (JMLR 13); for audio, KAD (arXiv 2502.15602), whose tool kadtk prints 100
    times this.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise ValueError(f"GaussianKernel: got the bandwidth {self.bandwidth}, expected more than 0")

    def __call__(self, a: Rows, b: Rows) -> Rows:
        """a: (n, d), b: (m, d) -> (n, m)."""
        return np.exp(-_squared_distances(a, b) / (2 * self.bandwidth**2))


def kernel_distance(a: ArrayLike, b: ArrayLike, kernel: Kernel) -> float:
    """(n, d) and (m, d), n and m >= 2 -> MMD^2, unbiased: near 0 for sets of one distribution, or below.

    No Gaussian is assumed, and few clips do not bias it; they make it noisy. Values of two kernels, or of two
    bandwidths, cannot be compared.

    Source: Gretton et al. 2012 (JMLR 13), equation 3.
    """
    first = rows(a, "kernel_distance", "the first set", at_least=2)
    second = rows(b, "kernel_distance", "the second set", at_least=2)
    same_width(first, second, "kernel_distance", "the two sets")
    between = sum(float(kernel(part, second).sum()) for part in _blocks(first))
    return _within(first, kernel) + _within(second, kernel) - 2 * between / (len(first) * len(second))


def median_distance(array: ArrayLike, *, limit: int = 2000, seed: int = 0) -> float:
    """The median Euclidean distance between two rows of (n, d): a bandwidth that fits the scale of a feature.

    Over 2,000 rows, that many are drawn. Raises ValueError if it is 0: most rows are equal.
    """
    checked = rows(array, "median_distance", "the set", at_least=2)
    if len(checked) > limit:
        checked = checked[np.sort(np.random.default_rng(seed).choice(len(checked), limit, replace=False))]
    above = np.triu_indices(len(checked), 1)
    median = float(np.median(np.sqrt(_squared_distances(checked, checked)[above])))
    if not median:
        raise ValueError("median_distance: most rows are equal, so that no bandwidth fits them")
    return median


def _within(a: Rows, kernel: Kernel) -> float:
    """The mean over pairs of different rows."""
    total = 0.0
    for start in range(0, len(a), BLOCK):
        similar = kernel(a[start : start + BLOCK], a)
        total += float(similar.sum() - similar.diagonal(start).sum())
    return total / (len(a) * (len(a) - 1))


def _blocks(a: Rows) -> list[Rows]:
    return [a[start : start + BLOCK] for start in range(0, len(a), BLOCK)]


def _squared_distances(a: Rows, b: Rows) -> Rows:
    centre = b.mean(axis=0)  # far from the origin, the difference of large squares would be lost
    a, b = a - centre, b - centre
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)
