"""Continuation: music before a clip, after it, or both; inpainting of what is not there yet."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from musicldm.mel import MUSICLDM_16K
from musicldm.parts import Parts
from musicldm.stages import MusicLDMOutput, Request
from musicldm.waves import Wave, as_waves

from .inpainting import fill
from .source import deliver, start
from .splice import splice

__all__ = ["extend"]


@torch.no_grad()
def extend(
    pipe: Parts, wave: Wave, rate: int, request: Request, *, after: float = 0.0, before: float = 0.0
) -> MusicLDMOutput:
    """A clip -> a clip with so many seconds more after it, before it, or both, made under the prompt.

    The clip in it is its reconstruction. It changes near the seams, up to `splice.reach` samples, and, where
    something comes after it, in its last incomplete latent row (under 0.04 s in the published model).
    wave: see `waves.as_waves`; pairing with prompts: see `source.start`.

    Raises what `stages.check` and `as_waves` raise; ValueError for a length below 0, if both are 0, and for a
    clip shorter than one latent row.
    """
    lengths = [
        _samples(name, value, pipe.grid.rate) for name, value in (("before", before), ("after", after))
    ]
    if not any(lengths):
        raise ValueError("extend: got 0 s before and 0 s after, expected some length to add")
    samples = as_waves(wave, rate, pipe.grid.rate).shape[1]
    step = pipe.grid.hop * pipe.grid.factor
    if samples < step:
        raise ValueError(
            f"extend: got a clip of {samples / pipe.grid.rate:g} s, expected {pipe.grid.seconds(1):g} s or "
            "more to go on from"
        )
    edit = start(pipe, wave, rate, request, before=lengths[0], after=lengths[1])
    first = (edit.skipped + lengths[0]) // step
    count = samples // step if lengths[1] else edit.rows - first
    mask = _unknown(edit.rows, first, count, pipe.columns)
    return deliver(edit, fill(edit, mask), lambda made: splice(pipe, edit.source, made, mask, MUSICLDM_16K))


def _unknown(rows: int, first: int, count: int, columns: int) -> Tensor:
    """-> (t, f), False for `count` rows from `first` on."""
    mask = torch.ones(rows, columns, dtype=torch.bool)
    mask[first : first + count] = False
    return mask


def _samples(name: str, seconds: float, rate: int) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"extend: got {name} {seconds!r}, expected a number of seconds")
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"extend: got {name} {seconds}, expected a finite number of seconds, 0 or more")
    return round(seconds * rate)
