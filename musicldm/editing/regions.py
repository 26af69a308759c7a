"""Regions of a clip in seconds and Hz -> which latents are made anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from torch import Tensor

from musicldm.inputs import Grid
from musicldm.mel import MelConfig, mel_edges

__all__ = ["Region", "column_edges", "latent_mask"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of a clip: from `start` to `end` in seconds, from `low` to `high` in Hz.

    None is the end of the clip, and the highest frequency there is. The upper band alone,
    `Region(low=4000)`, is super-resolution.
    """

    start: float = 0.0
    end: float | None = None
    low: float = 0.0
    high: float | None = None

    def __str__(self) -> str:
        time = f"{self.start:g} s to {'the end' if self.end is None else f'{self.end:g} s'}"
        return f"{time}, {self.low:g} Hz to {'the top' if self.high is None else f'{self.high:g} Hz'}"


def latent_mask(regions: Sequence[Region], samples: int, grid: Grid, mel: MelConfig) -> Tensor:
    """-> (t, f) bool for a clip of that many samples: True where a latent touches a region.

    Rounded outwards: to whole rows in time (0.04 s in the published model), in frequency to whole columns
    (see `column_edges`).

    Raises TypeError or ValueError for bounds that are no numbers, reversed, empty or outside of the clip, for
    regions that overlap, for none, and where nothing is left to keep.
    """
    if not regions:
        raise ValueError("regions: got none, expected at least one part of the clip to make anew")
    edges = column_edges(mel, grid.factor)
    rows = grid.rows(samples)
    step = grid.hop * grid.factor
    mask = torch.zeros(rows, len(edges) - 1, dtype=torch.bool)
    boxes = [_box(region, samples, grid.rate, edges[-1]) for region in regions]
    for (i, one), (j, two) in combinations(enumerate(boxes), 2):
        if one[0] < two[1] and two[0] < one[1] and one[2] < two[3] and two[2] < one[3]:
            raise ValueError(f"regions: {regions[i]} and {regions[j]} overlap; give their union")
    for first, last, low, high in boxes:
        columns = torch.tensor([low < upper and high > lower for lower, upper in pairwise(edges)])
        mask[int(first // step) : math.ceil(last / step)] |= columns
    if mask.all():
        raise ValueError(
            f"regions: {'; '.join(map(str, regions))} covers the whole clip, nothing is left to keep; "
            "generate a clip from the prompt instead"
        )
    return mask


def column_edges(mel: MelConfig, factor: int) -> list[float]:
    """-> f + 1 frequencies in Hz between which the latent columns lie, `factor` mel bins each.

    The bounds are midway between the centres of the bins on both sides.
    """
    edges = mel_edges(mel)
    between = ((edges[:-1] + edges[1:]) / 2)[factor : mel.n_mels : factor]
    return [mel.f_min, *between.tolist(), mel.f_max]


def _box(region: Region, samples: int, rate: int, top: float) -> tuple[float, float, float, float]:
    """First and last sample, lowest and highest frequency, all checked."""
    seconds = samples / rate
    end = seconds if region.end is None else region.end
    high = top if region.high is None else region.high
    _check_bounds(region, region.start, end, seconds, "s", "the clip's length")
    _check_bounds(region, region.low, high, top, "Hz", "the highest frequency of the model")
    box = round(region.start * rate), round(end * rate), region.low, high
    if box[0] == box[1]:
        raise ValueError(f"region {region}: is empty, shorter than a sample")
    return box


def _check_bounds(region: Region, low: float, high: float, limit: float, unit: str, what: str) -> None:
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise TypeError(f"region: got {bound!r}, expected a number of {unit}")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"region {region}: expected finite numbers")
    if low == high:
        raise ValueError(f"region {region}: is empty, from {low:g} to {high:g} {unit}")
    if low > high and high < limit:
        raise ValueError(f"region {region}: is reversed, from {low:g} to {high:g} {unit}")
    if low < 0 or high > limit + 1e-6 or low >= limit:
        raise ValueError(f"region {region}: expected 0 to {limit:g} {unit}, {what}")
