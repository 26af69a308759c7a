"""What a tagger's logits say: inception score of a set, divergence of paired clips."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import Rows, pairs, rows

__all__ = ["InceptionScore", "PairedKL", "inception_score", "log_softmax", "paired_kl", "sigmoid"]


@dataclass(frozen=True)
class InceptionScore:
    """Over the splits: mean and standard deviation (not of the mean); splits: (k,) the score of each."""

    mean: float
    deviation: float
    splits: NDArray[np.float64]


def inception_score(logits: ArrayLike, *, splits: int = 10, seed: int = 2020) -> InceptionScore:
    """logits: (n, k), n >= splits -> exp of the mean KL(p(class | clip) || p(class)), between 1 and k.

    The clips are shuffled and cut into `splits` parts, each with a p(class) of its own: a part of n clips
    cannot score above n. High for clips that are each clear and differ from each other; it has no reference.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4. Shuffle (numpy's RandomState of seed 2020) and
    10 splits as in haoheliu/audioldm_eval, which the paper's numbers come from.
    Raises ValueError if a split would be empty.
    """
    checked = rows(logits, "inception_score", "the logits", at_least=1)
    if not 1 <= splits <= len(checked):
        raise ValueError(
            f"inception_score: got {splits} splits of {len(checked)} clips, expected 1 to that many"
        )
    log_p = log_softmax(checked[np.random.RandomState(seed).permutation(len(checked))])
    edges = [i * len(checked) // splits for i in range(splits + 1)]
    scores = np.array([_score(log_p[start:stop]) for start, stop in pairwise(edges)])
    return InceptionScore(float(scores.mean()), float(scores.std()), scores)


def _score(log_p: Rows) -> float:
    p = np.exp(log_p)
    log_mean = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))  # 0 log 0 is 0
    return float(np.exp((p * (log_p - log_mean)).sum(axis=1).mean()))


@dataclass(frozen=True)
class PairedKL:
    """mean: over clips. clips: (n,) the value of each pair."""

    mean: float
    clips: NDArray[np.float64]


def paired_kl(
    generated: ArrayLike,
    reference: ArrayLike,
    *,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    eps: float = 1e-6,
) -> PairedKL:
    """Logits (n, k) of generated clips and of their prompts' real clips -> mean of sum t log(t / (p + eps)).

    t: of the real clip. "softmax" takes the tags as one distribution: that is a divergence, and what the
    paper, AudioLDM and AudioGen report as KL. "sigmoid" takes each tag alone, as the tagger was trained, but
    sums t log(t / p) without the (1 - t) part: it is no divergence, and can be negative. Papers that give a
    number without a word mean one of these two.

    Source: haoheliu/audioldm_eval, metrics/kl.py (both formulas and eps, in the logarithm only).
    """
    first = rows(generated, "paired_kl", "the generated set")
    second = rows(reference, "paired_kl", "the reference set")
    pairs(first, second, "paired_kl", "generated and reference logits")
    if activation == "softmax":
        p, log_t = np.exp(log_softmax(first)), log_softmax(second)
    elif activation == "sigmoid":
        p, log_t = sigmoid(first), -np.logaddexp(0, -second)
    else:
        raise ValueError(f'paired_kl: got activation {activation!r}, expected "softmax" or "sigmoid"')
    clips = (np.exp(log_t) * (log_t - np.log(p + eps))).sum(axis=1)
    return PairedKL(float(clips.mean()), clips)


def log_softmax(logits: Rows) -> Rows:
    """(n, k) -> the logarithms of each row's probabilities."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def sigmoid(logits: Rows) -> Rows:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -logits))
