"""Distributions as inline SVG: no drawing library, no script. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["histogram"]

WIDTH, HEIGHT = 420, 210  # units of the drawing: about pixels
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 14, 34
BINS = 24

Values = NDArray[np.float64]


def histogram(
    title: str, series: Sequence[tuple[str, Values]], marks: Sequence[tuple[float, str]] = ()
) -> str:
    """A figure: the share of each series that falls into each of 24 bins, common to all.

    series: up to three (name, values); the first is filled, the others are lines. marks: vertical lines and
    what they say; those outside of the values are not drawn.
    """
    series = [(name, np.asarray(values, np.float64)) for name, values in series if len(values)]
    low, high = _range(np.concatenate([values for _, values in series]))
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for _, values in series]
    top = max(float(share.max()) for share in shares)
    plot = _Plot(low, high, top)
    parts = [plot.axes()]
    for k, share in reversed(
        list(enumerate(shares))
    ):  # the filled one last would hide the lines: it comes first
        parts.insert(0, plot.steps(edges, share, f"s{k}")) if k == 0 else parts.append(
            plot.steps(edges, share, f"s{k}")
        )
    parts += [plot.mark(at, text) for at, text in marks if low < at < high]
    legend = "".join(
        f'<span class="s{k}"><i></i>{escape(name)} ({len(values)}, median {np.median(values):.3f})</span>'
        for k, (name, values) in enumerate(series)
    )
    label = escape(f"{title}: share of clips in {BINS} bins from {low:.3g} to {high:.3g}", quote=True)
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg><div class="legend">{legend}</div></figure>\n'
    )


def _range(values: Values) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(high)):  # all the same: a bin around it
        return low - 0.5, high + 0.5
    return low, high


class _Plot:
    """Numbers -> places."""

    def __init__(self, low: float, high: float, top: float) -> None:
        self.low, self.high, self.top = low, high, top

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, share: float) -> float:
        return HEIGHT - BOTTOM - share / self.top * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> str:
        base, end = HEIGHT - BOTTOM, WIDTH - RIGHT
        lines = [f'<path class="axis" d="M{LEFT} {base}H{end}"/>']
        lines += [
            f'<path class="axis" d="M{self.x(tick):.1f} {base}v4"/>'
            f'<text x="{self.x(tick):.1f}" y="{base + 17}" text-anchor="middle">{tick:.6g}</text>'
            for tick in _ticks(self.low, self.high, 6)
        ]
        lines += [
            f'<path class="grid" d="M{LEFT} {self.y(tick):.1f}H{end}"/>'
            f'<text x="{LEFT - 4}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{100 * tick:.3g}%</text>'
            for tick in _ticks(0.0, self.top, 3)
            if tick > 0
        ]
        return "".join(lines)

    def steps(self, edges: Values, shares: Values, kind: str) -> str:
        path = f"M{self.x(edges[0]):.1f} {HEIGHT - BOTTOM}"
        for (_, stop), share in zip(pairwise(edges), shares, strict=True):
            path += f"V{self.y(share):.1f}H{self.x(stop):.1f}"
        return f'<path class="{kind}" d="{path}V{HEIGHT - BOTTOM}"/>'

    def mark(self, at: float, text: str) -> str:
        x, y = self.x(at), TOP - 3
        side = "end" if x > WIDTH - 60 else "start"
        return (
            f'<path class="mark" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
            f'<text class="mark" x="{x + (-4 if side == "end" else 4):.1f}" y="{y}" text-anchor="{side}">'
            f"{escape(text)}</text>"
        )


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two, `most` at most, 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
