"""Exponential integrators: one interval of the diffusion ODE (or SDE), its linear part solved exactly.

Along lambda = log(alpha / sigma) the ODE is a linear part plus a multiple of m, the predicted data or noise.
With h the interval's length in lambda and D_k = h^k d^k m / d lambda^k at its source, the solution is

    x_target = carry * x_source + weight * [m + w_1 D_1 + w_2 D_2 + ...],     w_k = phi_(k+1)(z) / phi_1(z)

Four kinds of solver differ in carry, weight, z and the noise they add, and in nothing else.

Source: Lu et al. 2022, arXiv 2206.00927, equation 3.4 (noise), and arXiv 2211.01095, equation 8 (data) and
section 5 (SDE). Differs: one form for all four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .base import predict

__all__ = ["ALGORITHMS", "Interval", "convert", "level"]

ALGORITHMS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")


@dataclass(frozen=True)
class Interval:
    """From one noise level to a lower one; both are sigma / alpha, the target may be 0."""

    source: float
    target: float
    algorithm: str

    @property
    def length(self) -> float:
        """h, the distance in lambda; infinite where the target has no noise."""
        return math.log(self.source / self.target) if self.target else math.inf

    @property
    def z(self) -> float:
        """The argument of the phi functions."""
        if not self.algorithm.endswith("++"):
            return self.length
        return -2 * self.length if self.algorithm.startswith("sde") else -self.length

    def phis(self, count: int) -> list[float]:
        """phi_1(z), ..., phi_count(z), where phi_k(z) = int_0^1 e^((1 - u) z) u^(k - 1) / (k - 1)! du."""
        values = [math.expm1(self.z) / self.z]
        for k in range(1, count):
            values.append((values[-1] - 1 / math.factorial(k)) / self.z)
        return values

    def step(self, x: Tensor, m: Tensor, correction: Tensor | float = 0.0) -> tuple[Tensor, float]:
        """x, m at the source; correction: w_1 D_1 + w_2 D_2 -> x at the target, std of the noise to add.

        Written in sigma rather than in lambda, so that the limit of no noise needs no case of its own.
        """
        alpha = _alpha(self.target)
        ratio = self.target / self.source
        stochastic = self.algorithm.startswith("sde")
        if self.algorithm.endswith("++"):
            power = 2 if stochastic else 1
            carry, weight = alpha / _alpha(self.source) * ratio**power, alpha * (1 - ratio**power)
            std = alpha * self.target * (1 - ratio**2) ** 0.5
        else:
            carry = alpha / _alpha(self.source)
            weight = -alpha * (self.source - self.target) * (2 if stochastic else 1)
            std = alpha * (self.source**2 - self.target**2) ** 0.5
        return carry * x + weight * (m + correction), std if stochastic else 0.0


def convert(
    prediction_type: str, x: Tensor, out: Tensor, sigma: float, *, data: bool
) -> tuple[Tensor, Tensor]:
    """A model output at noise level sigma / alpha -> (x0, and what the solver integrates: data or noise)."""
    x0, eps = predict(prediction_type, x, out, *level(sigma))
    return x0, x0 if data else eps


def level(sigma: float) -> tuple[float, float]:
    """How much data and how much noise there is at sigma / alpha."""
    alpha = _alpha(sigma)
    return alpha, sigma * alpha


def _alpha(sigma: float) -> float:
    return 1 / (1 + sigma**2) ** 0.5
