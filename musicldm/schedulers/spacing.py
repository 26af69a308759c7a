"""Which points of the noise schedule a run of n steps visits: timesteps, and for most solvers their sigmas.

sigma here is noise over signal, sigma_t / alpha_t: x / alpha_t = x0 + sigma * noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

__all__ = ["SPACINGS", "Grid", "interpolate", "spaced", "timestep_of", "timesteps"]

SPACINGS = ("leading", "trailing", "linspace")

MAX_UNCOVERED = 0.2  # share of the schedule that an integer stride may leave out at its noisy end


class Grid(NamedTuple):
    """The n evaluations of a run and the n + 1 noise levels between and around them, from noise to data."""

    timesteps: list[float]
    sigmas: list[float]

    def skip(self, steps: int) -> Grid:
        """What is left after that many steps."""
        return Grid(self.timesteps[steps:], self.sigmas[steps:])

    def intervals(self) -> Iterator[tuple[float, float, float]]:
        """(timestep, sigma there, sigma to go to) for each step."""
        for timestep, (now, then) in zip(self.timesteps, pairwise(self.sigmas), strict=True):
            yield timestep, now, then


def timesteps(spacing: str, n: int, total: int, offset: int, *, ahead: int = 0) -> list[float]:
    """-> n distinct timesteps in 0..total - 1, from noise to data; integers, except within "linspace".

    "leading": stride floor(total / n) from `offset` up. "trailing": from total - 1 down, stride total / n.
    "linspace": evenly from total - 1 to 0. `ahead` = 1 spaces n + 1 points and leaves out the cleanest, for
    solvers that count the end of the run among the points (not with "trailing", which never reaches it).

    Source: Lin et al. 2023 (arXiv 2305.08891), table 2. Differs: where the integer stride of "leading" would
    start below 80 % of the schedule (334 steps start at 667, half signal, from pure noise), the stride is
    total / n; the offset gives way where it would leave the table (1,000 steps); one step of "linspace" is
    the noisy end, not the clean one; as many steps as timesteps visit each of them once.
    """
    if n == total:
        return [float(t) for t in reversed(range(total))]
    if spacing == "trailing":
        stride = total - (total - total / n)  # parity: rounded as numpy.arange does, which decides the ties
        return [float(round(total - k * stride) - 1) for k in range(n)]
    points = n + ahead
    visited = range(points - 1, ahead - 1, -1)
    if spacing == "linspace":
        stride = (total - 1) / max(points - 1, 1)
        return [min(k * stride, total - 1.0) for k in visited] if points > 1 else [total - 1.0]
    whole = total // points
    stride = whole if points * whole >= (1 - MAX_UNCOVERED) * total else total / points
    positions = [round(k * stride) for k in visited]
    offset = min(offset, total - 1 - positions[0])
    return [float(position + offset) for position in positions]


def spaced(first: float, last: float, n: int, *, rho: float = math.inf) -> list[float]:
    """-> n sigmas from `first` down to `last`, even in sigma ** (1 / rho); rho = inf is even in log sigma.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.
    """
    ramp = [k / max(n - 1, 1) for k in range(n)]
    if math.isinf(rho):
        return [first * (last / first) ** r for r in ramp]
    return [(first ** (1 / rho) + r * (last ** (1 / rho) - first ** (1 / rho))) ** rho for r in ramp]


def interpolate(table: Tensor, position: float) -> float:
    """table: (total,) -> its value between two timesteps, linearly."""
    low = min(int(position), len(table) - 2)
    return float(table[low] + (position - low) * (table[low + 1] - table[low]))


def timestep_of(sigma: float, table: Tensor) -> float:
    """table: (total,) ascending sigmas -> the position that has this sigma, linear in log sigma."""
    logs = table.log()
    log = min(max(math.log(sigma), float(logs[0])), float(logs[-1]))
    low = min(max(int((logs <= log).sum()) - 1, 0), len(table) - 2)
    return low + float((log - logs[low]) / (logs[low + 1] - logs[low]))
