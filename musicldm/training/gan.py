"""HiFi-GAN's losses: pure functions of what the judges said. Each is a mean over items.

Source: Kong et al. 2020 (arXiv 2010.05646), equations 1 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm.mel import log_mel

from .discriminators import Judgement

__all__ = [
    "FEATURE_WEIGHT",
    "MEL_WEIGHT",
    "feature_matching",
    "judge_loss",
    "mel_distance",
    "offset_distance",
    "persuasion",
]

FEATURE_WEIGHT = 2.0  # lambda_fm, equation 5
MEL_WEIGHT = 45.0  # lambda_mel
OFFSET_WINDOW = 1024  # samples


def judge_loss(real: Sequence[Judgement], made: Sequence[Judgement]) -> Tensor:
    """-> () least squares: real waves should score 1, made ones 0. Equation 1, summed over judges."""
    terms = [
        (r.scores.float() - 1).square().mean() + m.scores.float().square().mean()
        for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(terms).sum()


def persuasion(made: Sequence[Judgement]) -> Tensor:
    """-> () least squares: made waves should score 1. Equation 2, summed over judges."""
    return torch.stack([(m.scores.float() - 1).square().mean() for m in made]).sum()


def feature_matching(real: Sequence[Judgement], made: Sequence[Judgement]) -> Tensor:
    """-> () mean absolute difference of features, summed over layers and judges. Equation 4.

    The score maps count as a last layer, as in jik876/hifi-gan.
    """
    terms = [
        F.l1_loss(b.float(), a.float())
        for r, m in zip(real, made, strict=True)
        for a, b in zip(r.features, m.features, strict=True)
    ]
    return torch.stack(terms).sum()


def mel_distance(made: Tensor, mel: Tensor) -> Tensor:
    """made: (b, s) wave; mel: (b, 1, t, f) of the real one -> () mean absolute difference. Equation 3."""
    with torch.autocast(made.device.type, enabled=False):
        return F.l1_loss(log_mel(made.float()), mel)


def offset_distance(unbounded: Tensor, wave: Tensor) -> Tensor:
    """(b, s) and (b, s) -> () mean absolute difference of local means, over 64 ms.

    Not in the paper. A mel bank has no weight at 0 Hz, so that a generator may add an offset that wanders, at
    no cost until the judges have learned to hear it. unbounded: what is made, before tanh: an offset that has
    grown until the wave stands at 1 has no gradient behind tanh, and stays.
    """
    difference = unbounded.float() - wave.float()
    return F.avg_pool1d(difference[:, None], OFFSET_WINDOW, OFFSET_WINDOW // 4).abs().mean()
