"""Does the clip sound like its prompt: CLAP similarity, its bound by retrieval, recall at k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import Rows, pairs, unit_rows
from .novelty import Nearest, nearest

__all__ = ["Retrieval", "Similarity", "retrieval", "retrieval_bound", "text_audio_similarity"]

BLOCK = 1024


@dataclass(frozen=True)
class Similarity:
    """mean: of the cosines. clips: (n,) the cosine of each pair."""

    mean: float
    clips: NDArray[np.float64]


def text_audio_similarity(text: ArrayLike, audio: ArrayLike) -> Similarity:
    """CLAP embeddings (n, d) of n prompts and of the clip of each -> their cosines. Rows need no unit norm.

    A model that ranked its candidates by the same CLAP has been to the exam before: say so, or use another.

    Source: MusicLDM (arXiv 2308.01546), section 4, text-audio similarity.
    """
    texts = unit_rows(text, "text_audio_similarity", "the text")
    clips = unit_rows(audio, "text_audio_similarity", "the audio")
    pairs(texts, clips, "text_audio_similarity", "text and audio")
    cosines = (texts * clips).sum(axis=1)
    return Similarity(float(cosines.mean()), cosines)


def retrieval_bound(text: ArrayLike, pool: ArrayLike) -> tuple[float, Nearest]:
    """Each prompt (n, d) with the best clip of a pool (m, d), the training set: mean cosine, and which clips.

    What copying the training set would score; above it, text-audio similarity says more of CLAP than of
    music. The paper's row "Retrieval Max", as we understand its name (the text was not at hand).
    """
    found = nearest(text, pool, names=("the text", "the pool"))
    return float(found.similarity.mean()), found


@dataclass(frozen=True)
class Retrieval:
    """ranks: (n,) from 1, of each prompt's own clip among all clips. recall: k -> share of ranks <= k.

    median_rank: of a perfect model 1, of chance (n + 1) / 2.
    """

    ranks: NDArray[np.int64]
    recall: dict[int, float]
    median_rank: float


def retrieval(text: ArrayLike, audio: ArrayLike, *, ks: Sequence[int] = (1, 5, 10)) -> Retrieval:
    """Embeddings (n, d) of prompts and of the clip of each -> is a prompt's own clip the nearest of all n?

    Another clip with an equal cosine counts as nearer: a model that gives everyone one clip is right for
    nobody, rather than by the order of files. Raises ValueError for a k below 1.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"retrieval: got ks {tuple(ks)}, expected numbers from 1")
    texts = unit_rows(text, "retrieval", "the text")
    clips = unit_rows(audio, "retrieval", "the audio")
    pairs(texts, clips, "retrieval", "text and audio")
    ranks = np.concatenate([_ranks(texts, clips, start) for start in range(0, len(texts), BLOCK)])
    return Retrieval(ranks, {k: float((ranks <= k).mean()) for k in ks}, float(np.median(ranks)))


def _ranks(texts: Rows, clips: Rows, start: int) -> NDArray[np.int64]:
    cosines = texts[start : start + BLOCK] @ clips.T
    own = cosines[np.arange(len(cosines)), start + np.arange(len(cosines))]
    rounding = 4 * texts.shape[1] * np.finfo(np.float64).eps  # equal rows may differ so much in a product
    return (cosines >= own[:, None] - rounding).sum(axis=1)
