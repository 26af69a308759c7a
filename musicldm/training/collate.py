"""A clip, and many as a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .mixer import Pair

__all__ = ["Batch", "Clip", "collate"]


@dataclass(frozen=True, eq=False)
class Clip:
    """One item of training.

    wave: (s,) float32, mixed already where waves are mixed; start: where it begins in its track, in seconds.
    wave_b: (s,) what the latents are to be mixed with (BLM), lam being the share of `wave`; else None and 1.
    outcome: "mixed", or why not (see `Mixer.draw`). pair: how it was mixed.
    key: names the samples of `wave`: equal keys, equal samples; key_b: those of `wave_b`, or of `wave`.
    """

    wave: Tensor
    caption: str
    path: Path
    index: int
    epoch: int
    start: float
    key: str
    outcome: str
    pair: Pair | None = None
    wave_b: Tensor | None = None
    key_b: str = ""
    lam: float = 1.0


@dataclass(frozen=True, eq=False)
class Batch:
    """wave: (b, s) float32; captions, paths, indices, keys: b each, in the same order.

    wave_b: (b, s) and lam: (b,) for latent mixup, equal to wave and 1 for an item that is not mixed; wave_b
    is None where the whole batch has nothing of the kind. outcomes: counts by `Clip.outcome`.
    """

    wave: Tensor
    captions: list[str]
    paths: list[Path]
    indices: list[int]
    epoch: int
    keys: list[str]
    outcomes: Counter[str]
    wave_b: Tensor | None
    keys_b: list[str]
    lam: Tensor


def collate(clips: Sequence[Clip]) -> Batch:
    """Clips of one length and one epoch -> a batch, in their order."""
    latent = any(clip.wave_b is not None for clip in clips)
    return Batch(
        wave=torch.stack([clip.wave for clip in clips]),
        captions=[clip.caption for clip in clips],
        paths=[clip.path for clip in clips],
        indices=[clip.index for clip in clips],
        epoch=clips[0].epoch,
        keys=[clip.key for clip in clips],
        outcomes=Counter(clip.outcome for clip in clips),
        wave_b=torch.stack([clip.wave if clip.wave_b is None else clip.wave_b for clip in clips])
        if latent
        else None,
        keys_b=[clip.key_b or clip.key for clip in clips],
        lam=torch.tensor([clip.lam for clip in clips]),
    )
