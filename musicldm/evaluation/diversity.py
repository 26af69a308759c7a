"""How different the clips of one set are from each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .checks import Rows, unit_rows

__all__ = ["mean_pairwise_distance", "vendi_score"]


def mean_pairwise_distance(array: ArrayLike) -> float:
    """(n, d), n >= 2 -> the mean of 1 - cosine over all pairs of different clips: 0 if all are alike.

    From the length of the summed unit rows, so that no n x n matrix is made.
    """
    unit = unit_rows(array, "mean_pairwise_distance", "the set", at_least=2)
    total, n = unit.sum(axis=0), len(unit)
    return float(1 - (total @ total - n) / (n * (n - 1)))


def vendi_score(array: ArrayLike) -> float:
    """(n, d) -> how many different clips there are, in effect: 1 if all are alike, n if all are orthogonal.

    exp of the entropy of the eigenvalues of the n x n cosines over n; never above d for this kernel.

    Source: Friedman and Dieng 2023 (arXiv 2210.02410), definition 3.1.
    """
    unit = unit_rows(array, "vendi_score", "the set")
    values = np.linalg.svd(unit / np.sqrt(len(unit)), compute_uv=False) ** 2
    return _exp_entropy(values[None] / values.sum())


def _exp_entropy(shares: Rows) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
