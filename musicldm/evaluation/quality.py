"""Quality: are the generated clips like the reference, and does a tagger know what they are?"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .classifier import inception_score, paired_kl
from .features import Features
from .frechet import Gaussian, clip_distances, frechet, frechet_extrapolated, outliers
from .intervals import frechet_interval, inception_interval, kernel_interval
from .kernel import GaussianKernel, kernel_distance, median_distance
from .measured import GEN, REF, TRAIN, Cut, Entry, Figure, Heard, Measured, Ranked, Values

__all__ = ["EXTRAPOLATES_FROM", "measure_quality", "pairs_of"]

EXTRAPOLATES_FROM = 10  # clips
SPLITS, SHUFFLE = 10, 2020  # of the inception score, as audioldm_eval has them
KL: tuple[Literal["softmax", "sigmoid"], ...] = ("softmax", "sigmoid")


def measure_quality(one: Heard, cut: Cut, measured: Measured) -> None:
    """Frechet and kernel distance, each clip's own distance, inception score, paired KL: what can be had."""
    if one.reference is not None:
        _frechet(one, one.reference, measured)
        _kernel(one, one.reference, measured)
        _clips_apart(one, one.reference, measured)
    _inception(one, measured)
    _paired(one, cut, measured)


def pairs_of(cut: Cut) -> list[tuple[int, int]]:
    """Places of generated and reference clips of one name."""
    places = {excerpt.item.sound.key: k for k, excerpt in enumerate(cut.get(REF, ()))}
    made = [(k, places.get(excerpt.item.sound.key)) for k, excerpt in enumerate(cut[GEN])]
    return [(k, place) for k, place in made if place is not None]


def _clip_rows(found: Features) -> Values | tuple[Values, ...]:
    return found.embeddings if found.frames is None else found.frames


def _sizes(one: Features, other: Features) -> str:
    if one.frames is None:
        return f"{len(one)}, {len(other)}"
    return f"{len(one)}, {len(other)} ({len(one.rows)}, {len(other.rows)} frames)"


def _frechet(one: Heard, real: Features, measured: Measured) -> None:
    made, reference, n = _clip_rows(one.generated), Gaussian.of(real.rows), _sizes(one.generated, real)
    found = measured.sure(
        lambda: frechet(Gaussian.of(one.generated.rows), reference),
        frechet_interval,
        made,
        reference,
        costly=True,
    )
    measured.add("quality", "Frechet distance", one.name, f"{GEN}, {REF}", found, n, "lower")
    if len(one.generated) >= EXTRAPOLATES_FROM:
        line = frechet_extrapolated(made, reference, seed=measured.draws.seed)
        name = f"Frechet distance, infinite n (R2 {line.r_squared:.3f})"
        measured.add("quality", name, one.name, f"{GEN}, {REF}", line.value, n, "lower",
                     r_squared=line.r_squared, slope=line.slope, seed=measured.draws.seed,
                     sizes=line.sizes.tolist(), distances=line.distances.tolist())  # fmt: skip
    if one.train is not None:
        value, n = frechet(Gaussian.of(one.train.rows), reference), _sizes(one.train, real)
        measured.add("quality", "Frechet distance", one.name, f"{TRAIN}, {REF}", value, n,
                     meaning="what real clips score at their own n")  # fmt: skip
    if one.generated.frames is None and len(one.generated) <= one.feature.dim:
        measured.notes.append(
            f"{one.name}: {len(one.generated)} generated clips for {one.feature.dim} columns: the Frechet "
            "distance is far above its limit, and comparable at this n only; see the kernel distance"
        )


def _kernel(one: Heard, real: Features, measured: Measured) -> None:
    made, rows = one.generated.embeddings, real.embeddings
    try:
        kernel = GaussianKernel(median_distance(rows, seed=measured.draws.seed))
    except ValueError as error:  # most reference clips are alike: there is no scale
        measured.leave_out(f"kernel distance by {one.name}", str(error))
        return
    about: dict[str, Any] = {
        "kernel": "Gaussian",
        "bandwidth": kernel.bandwidth,
        "bandwidth_is": "the median distance within REFERENCE",
    }
    found = measured.sure(lambda: kernel_distance(made, rows, kernel), kernel_interval, made, rows, kernel)
    n = f"{len(made)}, {len(rows)}"
    measured.add("quality", "kernel distance (MMD^2)", one.name, f"{GEN}, {REF}", found, n, "lower", **about)
    if one.train is not None:
        value, n = kernel_distance(one.train.embeddings, rows, kernel), f"{len(one.train)}, {len(rows)}"
        measured.add("quality", "kernel distance (MMD^2)", one.name, f"{TRAIN}, {REF}", value, n, **about)


def _clips_apart(one: Heard, real: Features, measured: Measured) -> None:
    """Clip by clip against the reference: which ones stand out."""
    reference = Gaussian.of(real.rows)
    made = clip_distances(_clip_rows(one.generated), reference)
    measured.columns[f"frechet_{one.name}"] = made.tolist()
    series = [(GEN, made), (REF, clip_distances(_clip_rows(real), reference))]
    measured.figures.append(Figure(f"Distance of each clip to {REF} ({one.name})", series))
    text = (
        "Generated clips farthest from the reference set, farthest first. Compare the values with each other "
        "only, and those of clips of one length."
    )
    entries = [Entry(float(made[k]), ((GEN, k),)) for k in outliers(made, len(made))]
    measured.lists.append(Ranked(f"outliers_{one.name}", f"Outliers ({one.name})", text, entries))


def _inception(one: Heard, measured: Measured) -> None:
    for role, found in one.judged:
        if found.logits is None:
            continue
        splits = min(SPLITS, len(found))
        score = inception_score(found.logits, splits=splits, seed=SHUFFLE)
        shown = measured.sure(
            lambda score=score: score.mean,  # type: ignore[misc]
            inception_interval,
            found.logits,
            splits=splits,
            shuffle_seed=SHUFFLE,
            costly=True,
        )
        measured.add("quality", "inception score", one.name, role, shown, str(len(found)),
                     "higher" if role == GEN else "", splits=splits, shuffle_seed=SHUFFLE,
                     deviation_over_splits=score.deviation)  # fmt: skip


def _paired(one: Heard, cut: Cut, measured: Measured) -> None:
    pairs = pairs_of(cut)
    if one.generated.logits is None or one.reference is None or one.reference.logits is None or not pairs:
        return
    made, real = (np.array(side) for side in zip(*pairs, strict=True))
    for activation in KL:
        kl = paired_kl(one.generated.logits[made], one.reference.logits[real], activation=activation)
        measured.add("quality", f"paired KL, {activation}", one.name, f"{REF} || {GEN}",
                     measured.mean(kl.clips), f"{len(pairs)} pairs", "lower", eps=1e-6)  # fmt: skip
