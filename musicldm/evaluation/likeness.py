"""Relevance, novelty, diversity: like the prompt, unlike the training clips, unlike each other?"""

from __future__ import annotations

from typing import Any

import numpy as np

from .diversity import mean_pairwise_distance, vendi_score
from .intervals import distance_interval, vendi_interval
from .measured import GEN, TRAIN, Entry, Figure, Heard, Measured, Ranked
from .novelty import Novelty, novelty
from .relevance import retrieval, retrieval_bound, text_audio_similarity

__all__ = ["measure_diversity", "measure_novelty", "measure_relevance"]

RECALL = (1, 10)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def measure_relevance(one: Heard, measured: Measured) -> None:
    """Text-audio similarity of the generated clips; beside it, of real clips, of the best training clips."""
    if GEN not in one.texts:
        return
    section, metric = "relevance", "text-audio similarity"
    series = []
    for role, found in one.judged:
        if role not in one.texts:
            continue
        places, text = one.texts[role]
        clips = text_audio_similarity(text, found.embeddings[list(places)]).clips
        of = f"{role} and its {'prompts' if role == GEN else 'captions'}"
        measured.add(section, metric, one.name, of, measured.mean(clips), str(len(clips)),
                     "higher" if role == GEN else "")  # fmt: skip
        series.append((role, clips))
    places, text = one.texts[GEN]
    if one.train is not None:
        bound, _ = retrieval_bound(text, one.train.embeddings)
        meaning = "the paper's Retrieval Max, as we understand it"
        of, n = f"each prompt and the best of {TRAIN}", f"{len(text)}, {len(one.train)}"
        measured.add(section, metric, one.name, of, bound, n, meaning=meaning)
    ks = [k for k in RECALL if k < len(places)]
    ranked = retrieval(text, one.generated.embeddings[list(places)], ks=ks)
    for k, share in ranked.recall.items():
        about = {"median_rank": ranked.median_rank, "by_chance": k / len(text)}
        metric, of = f"own clip among the {k} nearest", f"prompts of {GEN}"
        measured.add(section, metric, one.name, of, share, str(len(text)), "higher", **about)
    clips = series[0][1]
    column: list[Any] = [None] * len(one.generated)
    for place, value in zip(places, clips.tolist(), strict=True):
        column[place] = value
    measured.columns[f"text_audio_{one.name}"] = column
    measured.figures.append(Figure(f"Text-audio similarity ({one.name})", series))
    entries = [Entry(float(clips[k]), ((GEN, int(places[k])),)) for k in np.argsort(clips, kind="stable")]
    heading = f"Lowest text-audio similarity ({one.name})"
    told = "Generated clips that sound least like their prompts, by the feature's cosine."
    measured.lists.append(Ranked(f"least_relevant_{one.name}", heading, told, entries))
    without = len(one.generated) - len(places)
    if without:
        measured.notes.append(f"{without} generated clips have no prompt, and no part in the relevance")


def measure_novelty(one: Heard, measured: Measured) -> None:
    """SIM_AA at each threshold, the nearest cosines, the pairs; the reference as a control."""
    if one.train is None:
        return
    thresholds = measured.draws.thresholds
    series = []
    for role, found in one.judged:
        new = novelty(found.embeddings, one.train.embeddings, thresholds=thresholds)
        near = new.nearest.similarity
        of, n, better = f"{role}, {TRAIN}", f"{len(found)}, {len(one.train)}", "lower" if role == GEN else ""
        for threshold in thresholds:
            over = (near > threshold).astype(np.float64)
            metric, share = f"SIM_AA@{100 * threshold:g}", measured.mean(over)
            measured.add("novelty", metric, one.name, of, share, n, better, clips=int(over.sum()))
        quantiles = {f"{q:g}": float(np.quantile(near, q)) for q in QUANTILES}
        measured.add("novelty", "cosine of the nearest, median", one.name, of, quantiles["0.5"], n, better,
                     quantiles=quantiles)  # fmt: skip
        series.append((role, near))
        if role == GEN:
            measured.columns[f"nearest_{one.name}"] = near.tolist()
            measured.lists.insert(0, _closest(one.name, new, thresholds))
    marks = [(threshold, f"{threshold:g}") for threshold in thresholds]
    measured.figures.insert(0, Figure(f"Cosine of the nearest training clip ({one.name})", series, marks))
    measured.notes.append(
        f"SIM_AA ({one.name}) cannot find what the feature does not hear: a melody in another key, tempo or "
        "instrument, a quote of a few seconds in other music. Nor a copy of a clip that TRAIN does not hold. "
        "And two clips of one style, instrument and mood are near for it: the row of REFERENCE says how near "
        "real clips are that were not trained on"
    )


def _closest(name: str, new: Novelty, thresholds: tuple[float, ...]) -> Ranked:
    near, index = new.nearest.similarity, new.nearest.index
    entries = [
        Entry(float(near[k]), ((GEN, int(k)), (TRAIN, int(index[k]))))
        for k in np.argsort(-near, kind="stable")
    ]
    text = (
        "Each generated clip beside its nearest training clip, nearest first. Listen: a high cosine is a "
        f"copy, or the same style. Thresholds: {', '.join(f'{t:g}' for t in thresholds)}."
    )
    return Ranked(f"closest_{name}", f"Closest to the training clips ({name})", text, entries)


def measure_diversity(one: Heard, measured: Measured) -> None:
    """How unlike each other; the reference beside it."""
    for role, found in one.judged:
        clips, n, better = found.embeddings, str(len(found)), "higher" if role == GEN else ""
        distance = measured.sure(
            lambda clips=clips: mean_pairwise_distance(clips),  # type: ignore[misc]
            distance_interval,
            clips,
        )
        measured.add("diversity", "mean of 1 - cosine between clips", one.name, role, distance, n, better)
        vendi = measured.sure(lambda clips=clips: vendi_score(clips), vendi_interval, clips, costly=True)  # type: ignore[misc]
        measured.add("diversity", "Vendi score (clips in effect)", one.name, role, vendi, n, better)
