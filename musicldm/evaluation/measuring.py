"""Features of the sets -> every metric that they allow, and what the others lack."""

from __future__ import annotations

from collections.abc import Sequence

from .features import TextFeature
from .likeness import measure_diversity, measure_novelty, measure_relevance
from .measured import GEN, REF, TRAIN, Cut, Draws, Heard, Measured
from .quality import EXTRAPOLATES_FROM, measure_quality, pairs_of

__all__ = ["measure"]


def measure(heard: Sequence[Heard], cut: Cut, draws: Draws) -> Measured:
    """Section by section, feature by feature."""
    measured = Measured(draws)
    for one in heard:
        measure_quality(one, cut, measured)
    for one in heard:
        measure_relevance(one, measured)
    for one in reversed(heard):  # the first feature's lists come first on the page
        measure_novelty(one, measured)
    for one in heard:
        measure_diversity(one, measured)
    _say_what_is_missing(heard, cut, measured)
    return measured


def _say_what_is_missing(heard: Sequence[Heard], cut: Cut, measured: Measured) -> None:
    leave_out = measured.leave_out
    if REF not in cut:
        leave_out("Frechet distance, kernel distance, outliers", "no --reference")
    elif len(cut[GEN]) < EXTRAPOLATES_FROM:
        clips = len(cut[GEN])
        leave_out("Frechet distance at infinite n", f"{clips} generated clips; it takes {EXTRAPOLATES_FROM}")
    if all(one.generated.logits is None for one in heard):
        leave_out("inception score, paired KL", "no feature is a tagger; --features panns=FILE")
    elif REF not in cut:
        leave_out("paired KL", "no --reference")
    elif not pairs_of(cut):
        leave_out("paired KL", "no generated clip has the name (or id) of a reference clip")
    texts = [one for one in heard if isinstance(one.feature, TextFeature)]
    if not texts:
        leave_out("text-audio similarity", "no feature embeds prompts; --features clap")
    elif not any(GEN in one.texts for one in texts):
        leave_out("text-audio similarity", "no prompts are known; --prompts FILE, or a batch's folder")
    others = [one.name for one in heard if one.train is None]
    if TRAIN not in cut:
        leave_out("novelty (SIM_AA), retrieval bound", "no --train")
    elif others:
        leave_out(f"novelty by {', '.join(others)}", "it is a tagger, and there are others to measure it by")
