"""How sure a number is: bootstrap confidence intervals from resampled clips, for each metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import classifier, diversity, frechet
from .checks import ClipRows, clip_rows, rows, stacked, unit_rows
from .kernel import Kernel, kernel_distance

__all__ = [
    "Interval",
    "bootstrap",
    "distance_interval",
    "frechet_interval",
    "inception_interval",
    "kernel_interval",
    "mean_interval",
    "vendi_interval",
]

Pick = NDArray[np.int64]
SHORT = 200  # replicates where each costs a decomposition


@dataclass(frozen=True)
class Interval:
    """value: the metric of all clips. low, high: where it would lie for another draw of as many clips.

    bias: the replicates' mean less the value. A mean has none. A Frechet distance is pushed up by resampling,
    about as much as by having only n clips to begin with: so low and high are the replicates' percentiles
    *less this bias*, and the value less the bias is a rough guess at the unbiased distance. The interval is
    of the metric at this n, not at infinite n. error: standard deviation of the replicates.
    """

    value: float
    low: float
    high: float
    error: float
    bias: float
    level: float
    replicates: int
    seed: int


def bootstrap(
    statistic: Callable[[Pick], float], n: int, *, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """statistic: numbers of n clips, repeats allowed -> the metric of these. Clips are drawn, never frames.

    The interval knows of the clips' chance alone, not of a model trained anew from another seed.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, 10.2 (bias) and 13.3 (percentiles).
    Raises ValueError with fewer than 2 clips or replicates, or a level outside 0 .. 1.
    """
    if n < 2 or replicates < 2 or not 0 < level < 1:
        raise ValueError(
            f"bootstrap: got {n} clips, {replicates} replicates, level {level}; expected at least 2 of "
            "either, and a level between 0 and 1"
        )
    generator = np.random.default_rng(seed)
    value = statistic(np.arange(n))
    drawn = np.array([statistic(generator.integers(0, n, n)) for _ in range(replicates)])
    bias = float(drawn.mean()) - value
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - bias
    return Interval(value, float(low), float(high), float(drawn.std(ddof=1)), bias, level, replicates, seed)


def mean_interval(
    values: ArrayLike, *, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """(n,) values of clips -> their mean: of paired KL, cosines, "over the threshold" as 0 and 1, recalls."""
    checked = rows(np.atleast_2d(np.asarray(values, np.float64)), "mean_interval", "the values")[0]
    return bootstrap(
        lambda pick: float(checked[pick].mean()), len(checked), replicates=replicates, level=level, seed=seed
    )


def frechet_interval(
    generated: ClipRows,
    reference: frechet.Gaussian,
    *,
    replicates: int = SHORT,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The distance of generated clips, (n, d) or n arrays (t, d), to a reference that stays as it is."""
    clips = clip_rows(generated, "frechet_interval", "the generated set", at_least=2)

    def statistic(pick: Pick) -> float:
        return frechet.frechet(frechet.Gaussian.of(stacked(clips, pick), "the generated set"), reference)

    return bootstrap(statistic, len(clips), replicates=replicates, level=level, seed=seed)


def kernel_interval(
    generated: ArrayLike,
    reference: ArrayLike,
    kernel: Kernel,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`kernel_distance` with the generated clips resampled. Makes their n x n kernel matrix once.

    Two draws of one clip are no pair of different clips and are left out, so that the replicates are not
    pushed up by the kernel's diagonal.
    """
    value = kernel_distance(generated, reference, kernel)
    first, second = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
    n = len(first)
    own = kernel(first, first)
    np.fill_diagonal(own, 0)
    across = np.concatenate([kernel(row[None], second).mean(axis=1) for row in first])
    within_reference = value - own.sum() / (n * (n - 1)) + 2 * across.mean()

    def statistic(pick: Pick) -> float:
        weight = np.bincount(pick, minlength=n).astype(np.float64)
        different = n * n - float(weight @ weight)  # 0 only if one clip was drawn n times
        within = float(weight @ own @ weight) / different if different else 0.0
        return within + float(within_reference) - 2 * float(weight @ across) / n

    return bootstrap(statistic, n, replicates=replicates, level=level, seed=seed)


def inception_interval(
    logits: ArrayLike,
    *,
    splits: int = 10,
    shuffle_seed: int = 2020,
    replicates: int = SHORT,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`inception_score`, its mean over splits. Its own deviation over splits is no such interval."""
    checked = rows(logits, "inception_interval", "the logits", at_least=2)
    return bootstrap(
        lambda pick: classifier.inception_score(checked[pick], splits=splits, seed=shuffle_seed).mean,
        len(checked),
        replicates=replicates,
        level=level,
        seed=seed,
    )


def distance_interval(
    array: ArrayLike, *, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """`mean_pairwise_distance`: two draws of one clip are no pair of different clips, and are left out."""
    unit = unit_rows(array, "distance_interval", "the set", at_least=2)
    n = len(unit)

    def statistic(pick: Pick) -> float:
        weight = np.bincount(pick, minlength=n).astype(np.float64)
        same = float(weight @ weight)
        total = weight @ unit
        return 1 - (float(total @ total) - same) / (n * n - same) if same < n * n else 0.0

    return bootstrap(statistic, n, replicates=replicates, level=level, seed=seed)


def vendi_interval(
    array: ArrayLike, *, replicates: int = SHORT, level: float = 0.95, seed: int = 0
) -> Interval:
    """`vendi_score`. Resampling repeats clips and so pushes it down; see `bias`."""
    unit = unit_rows(array, "vendi_interval", "the set", at_least=2)
    return bootstrap(
        lambda pick: diversity.vendi_score(unit[pick]),
        len(unit),
        replicates=replicates,
        level=level,
        seed=seed,
    )
