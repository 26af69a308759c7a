"""Frechet distance of two sets: FD, FAD; its limit for infinite sets; clips that stand out.

Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import ClipRows, Rows, clip_rows, rows, same_width, stacked

__all__ = [
    "Extrapolation",
    "Gaussian",
    "clip_distances",
    "frechet",
    "frechet_distance",
    "frechet_extrapolated",
    "outliers",
]


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and covariance of a set, the covariance as a factor (r, d): factor.T @ factor, r <= d.

    A factor keeps what a covariance of 2,048 columns loses to rounding: the directions without variance are
    not there at all. count: rows that it was estimated from.
    """

    mean: NDArray[np.float64]
    factor: Rows
    count: int

    @classmethod
    def of(cls, array: ArrayLike, what: str = "the set") -> Gaussian:
        """(n, d), n >= 2 -> its sample mean and unbiased covariance (n - 1), of any rank."""
        return _estimated(rows(array, "Gaussian", what, at_least=2))

    @classmethod
    def from_moments(cls, mean: ArrayLike, covariance: ArrayLike, count: int = 0) -> Gaussian:
        """mean (d,), covariance (d, d): published statistics of a reference set.

        Eigenvalues below d times the rounding of the largest count as zero. Raises ValueError if the
        covariance is not symmetric, or an eigenvalue is negative beyond rounding.
        """
        centre = rows(np.atleast_2d(np.asarray(mean, np.float64)), "Gaussian", "the mean")[0]
        square = rows(covariance, "Gaussian", "the covariance")
        if square.shape != (len(centre), len(centre)):
            raise ValueError(
                f"Gaussian: got a mean of {len(centre)} and a covariance of {square.shape}, expected "
                f"({len(centre)}, {len(centre)})"
            )
        scale = np.abs(square).max()
        if np.abs(square - square.T).max() > 1e-6 * scale:
            raise ValueError("Gaussian: the covariance is not symmetric; is it a covariance?")
        values, vectors = np.linalg.eigh((square + square.T) / 2)
        if values[0] < -1e-6 * scale:  # float32 statistics are off by 1e-7
            raise ValueError(
                f"Gaussian: the covariance has the eigenvalue {values[0]:.3g}, expected none below 0"
            )
        kept = values > len(centre) * np.finfo(np.float64).eps * max(values[-1], 0)
        return cls(centre, np.sqrt(values[kept])[:, None] * vectors[:, kept].T, count)


def _estimated(checked: Rows) -> Gaussian:
    mean = checked.mean(axis=0)
    factor = (checked - mean) / np.sqrt(max(1, len(checked) - 1))
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    return Gaussian(mean, factor, len(checked))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), squared as the field has it; never below 0.

    Source: Dowson and Landau 1982, equation 4; FID, Heusel et al. 2017 (arXiv 1706.08500), equation 6; FAD,
    Kilgour et al. 2019 (arXiv 1812.08466). The trace of the root is the sum of the root eigenvalues of the
    symmetric S_a^(1/2) S_b S_a^(1/2); these are the singular values of the product of the two factors, which
    are taken without squaring anything. No matrix root, no complex numbers, nothing added to a diagonal.

    Raises ValueError if the widths differ.
    """
    same_width(a.mean[None], b.mean[None], "frechet", "the two sets")
    overlap = (
        np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
        if a.factor.size and b.factor.size
        else 0.0
    )
    difference = a.mean - b.mean
    spread = (a.factor**2).sum() + (b.factor**2).sum() - 2 * overlap
    return max(0.0, float(difference @ difference + spread))


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """(n, d) and (m, d), n and m >= 2 and of any size against d -> the distance of their Gaussians.

    Symmetric. Biased upwards by about c / n for finite sets: compare only at equal n, or extrapolate.
    """
    return frechet(Gaussian.of(a, "the first set"), Gaussian.of(b, "the second set"))


@dataclass(frozen=True)
class Extrapolation:
    """A straight line through distances over 1 / n. value: at infinite n. sizes (k,) clips, distances (k,).

    r_squared: the share of the distances' variance that the line explains. Near 1, the value means
    something; far below, the sizes are too small against d, or there are too few clips.
    """

    value: float
    slope: float
    r_squared: float
    sizes: NDArray[np.int64]
    distances: NDArray[np.float64]


def frechet_extrapolated(
    generated: ClipRows,
    reference: Gaussian,
    *,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    replacement: bool = False,
) -> Extrapolation:
    """FAD-inf: the distance that infinitely many clips like these would have to the reference as it is.

    generated: (n, d), or n arrays (t, d) of frames; whole clips are drawn. sizes: numbers of clips; by
    default 25 even steps from n / 5 to n. The bias of the *reference's* size stays in the value.

    Source: Chong and Forsyth 2020 (arXiv 1911.07023), section 3; for audio, Gui et al. 2023 (arXiv
    2311.01616). Differs from fadtk, which draws frames with replacement: that estimates the distance of the
    *n clips at hand*, so that its limit keeps the bias of n that should go. Drawing without, each subset is a
    sample of the true distribution. `replacement=True` gives fadtk's convention for comparison.

    Raises ValueError with fewer than 10 clips, or sizes outside 2 .. n or fewer than 3 different.
    """
    clips = clip_rows(generated, "frechet_extrapolated", "the generated set", at_least=10)
    n = len(clips)
    chosen = np.unique(
        np.linspace(max(2, n // 5), n, 25).astype(np.int64) if sizes is None else np.asarray(sizes)
    )
    if len(chosen) < 3 or chosen[0] < 2 or chosen[-1] > n:
        raise ValueError(
            f"frechet_extrapolated: got sizes {chosen.tolist()} of {n} clips, expected at least 3 different "
            f"ones from 2 to {n}"
        )
    generator = np.random.default_rng(seed)
    distances = np.array(
        [
            frechet(_estimated(stacked(clips, generator.choice(n, size, replace=replacement))), reference)
            for size in chosen
        ]
    )
    inverse = 1 / chosen
    centred = inverse - inverse.mean()
    slope = float(centred @ distances / (centred @ centred))
    value = float(distances.mean() - slope * inverse.mean())
    total = float(((distances - distances.mean()) ** 2).sum())
    left = float(((distances - value - slope * inverse) ** 2).sum())
    return Extrapolation(value, slope, 1 - left / total if total > 0 else 1.0, chosen, distances)


def clip_distances(clips: ClipRows, reference: Gaussian) -> NDArray[np.float64]:
    """Each clip alone against the reference -> (n,) distances: the large ones are worth a listen.

    A clip of several frames has a mean and a covariance of its own; one row has the covariance zero, so its
    distance is that to the reference's mean plus a constant. Absolute values mean little: compare clips of
    equal length with each other.

    Source: Gui et al. 2023 (arXiv 2311.01616), per-song FAD.
    """
    checked = clip_rows(clips, "clip_distances", "the clips")
    return np.array([frechet(_estimated(clip), reference) for clip in checked])


def outliers(distances: ArrayLike, count: int) -> list[int]:
    """The clips of the `count` largest distances, largest first; of equal ones the earlier clip first."""
    values = rows(np.atleast_2d(np.asarray(distances, np.float64)), "outliers", "the distances")[0]
    return [int(i) for i in np.argsort(-values, kind="stable")[:count]]
