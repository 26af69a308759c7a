"""Clips of any length by overlapping windows, blended inside the sampling loop.

A U-Net knows clips of one length. `Windowed` is a denoiser for longer ones: it cuts the noisy latents into
overlapping windows of that length, evaluates each under its own condition, and blends the outputs. The state
stays one long clip, so the solver, guidance and interval work as always, and windows agree more with every
step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from musicldm.sampling import Denoiser, StepFunction
from musicldm.schedulers.plan import SLOTS, Row

__all__ = ["Layout", "Through", "Windowed", "cover"]


@dataclass(frozen=True)
class Layout:
    """Windows on a clip: all of `size` rows, from `starts` on; past the end they go on at the beginning.

    rows: of the clip. fade: rows over which a window comes in and goes out; `fixed_ends` do not fade: the
    first window's beginning and the last one's end, where the clip begins and ends.
    """

    rows: int
    size: int
    starts: tuple[int, ...]
    fade: int
    fixed_ends: bool

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def centres(self) -> list[float]:
        """The row in the middle of each window."""
        return [(start + self.size / 2) % self.rows for start in self.starts]

    def indices(self) -> Tensor:
        """-> (n, size) rows of the clip that each window covers."""
        return (torch.tensor(self.starts)[:, None] + torch.arange(self.size)) % self.rows

    def weights(self) -> Tensor:
        """-> (n, size) float64; over all windows the weights of a row of the clip sum to one.

        Squared sines, whose slopes are zero at both ends of a fade, divided by their sum.
        """
        rise = torch.ones(self.size, dtype=torch.float64)
        steps = torch.arange(self.fade, dtype=torch.float64)
        rise[: self.fade] = torch.sin(math.pi / 2 * (steps + 0.5) / max(self.fade, 1)) ** 2
        weights = (rise * rise.flip(0)).repeat(len(self), 1)
        if self.fixed_ends:
            weights[0] = rise.flip(0)
            weights[-1] = rise if len(self) > 1 else 1.0
        total = torch.zeros(self.rows, dtype=torch.float64)
        indices = self.indices()
        total.index_add_(0, indices.flatten(), weights.flatten())
        return weights / total[indices]

    def scaled(self, factor: int) -> Layout:
        """The same windows where every row has become `factor` rows, as in the VAE."""
        starts = tuple(start * factor for start in self.starts)
        return Layout(self.rows * factor, self.size * factor, starts, self.fade * factor, self.fixed_ends)


def cover(rows: int, size: int, overlap: int, *, loop: bool = False) -> Layout:
    """The fewest windows of `size` rows that cover a clip with at least `overlap` rows in common, evenly.

    A clip of up to `size` rows is one window, cut to it. loop: the last window goes on into the first; a loop
    shorter than a window is seen repeated.

    Raises ValueError if overlap is not from 0 to size - 1.
    """
    if rows < 1 or size < 1 or not 0 <= overlap < size:
        raise ValueError(
            f"windows: got {size} rows with an overlap of {overlap} on a clip of {rows}, expected an overlap "
            "of 0 or more rows, smaller than the window"
        )
    hop = size - overlap
    if loop:
        n = max(2, math.ceil(rows / hop))
        return Layout(rows, size, tuple(round(k * rows / n) for k in range(n)), overlap, fixed_ends=False)
    if rows <= size:
        return Layout(rows, rows, (0,), 0, fixed_ends=True)
    last = rows - size
    n = 1 + math.ceil(last / hop)
    return Layout(rows, size, tuple(round(k * last / (n - 1)) for k in range(n)), overlap, fixed_ends=True)


class Windowed:
    """A denoiser for latents of `layout.rows` rows, of denoisers for single windows.

    denoisers: one per group of windows, in the layout's order, each given (g b, c, size, f), window after
    window; its conditions must be in that order (see `grouped`). Groups of at_once windows, the last perhaps
    smaller: what the U-Net holds in memory depends on that, not on the clip's length.

    Source: Bar-Tal et al. 2023 (arXiv 2302.08113), equation 5, the weighted mean over windows at every step.
    Differs: weights fade, where theirs are equal; the outputs are blended, not the points that a solver makes
    of them, which is the same for one-step solvers and lets the others keep one history.
    """

    def __init__(self, layout: Layout, denoisers: Sequence[Denoiser], at_once: int = 1) -> None:
        if len(denoisers) != math.ceil(len(layout) / at_once):
            raise ValueError(
                f"Windowed: got {len(denoisers)} denoisers for {len(layout)} windows in groups of {at_once}, "
                f"expected {math.ceil(len(layout) / at_once)}"
            )
        self.layout = layout
        self.denoisers = denoisers
        self.at_once = at_once
        self.indices = layout.indices()
        self.weights = layout.weights()

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x: (b, c, t, f); timestep: () -> (b, c, t, f)."""
        if x.shape[2] != self.layout.rows:
            raise ValueError(
                f"Windowed: got latents of {x.shape[2]} rows, the windows are laid out on {self.layout.rows}"
            )
        indices, weights = self.indices.to(x.device), self.weights.to(x)
        blended = torch.zeros_like(x)
        groups = zip(torch.split(indices, self.at_once), torch.split(weights, self.at_once), strict=True)
        for denoiser, (rows, shares) in zip(self.denoisers, groups, strict=True):
            out = denoiser(torch.cat([x[:, :, each] for each in rows]), timestep)
            for each, share, piece in zip(rows, shares, out.chunk(len(rows)), strict=True):
                add_window(blended, piece * share[:, None], each)
        return blended


def add_window(whole: Tensor, piece: Tensor, rows: Tensor) -> None:
    """whole: (b, c, t, f); piece: (b, c, n, f); rows: (n,), consecutive around the loop. Adds in place.

    One turn of a loop at a time: a repeated index in one addition has no fixed order on a GPU.
    """
    turns = zip(torch.split(piece, whole.shape[2], dim=2), torch.split(rows, whole.shape[2]), strict=True)
    for part, at in turns:
        whole.index_add_(2, at, part)


class Through:
    """A denoiser, evaluated through a `StepFunction`: compiled, with features reused, or checkpointed.

    The step runs on a table that hands the model's output on as it is. What is compiled is then the same
    graph for all windows and all lengths; what is reused belongs to one window: give each its own step.
    """

    def __init__(self, denoiser: Denoiser, step: StepFunction) -> None:
        self.denoiser = denoiser
        self.step = step

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x: (b, c, t, f); timestep: () -> (b, c, t, f)."""
        table = x.new_zeros(SLOTS + 1, SLOTS + 1)
        table[0, -1] = 1
        row = Row(timestep, x.new_ones(()), table, x.new_zeros(()))
        state = torch.cat([x[None], x.new_zeros(SLOTS - 1, *x.shape)])
        return self.step(self.denoiser, state, row, torch.zeros_like(x))[0][0]
