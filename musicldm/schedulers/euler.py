"""Euler's method in sigma, deterministic and ancestral."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from .base import predict
from .plan import Plan, PlanBuilder
from .sigmas import SigmaScheduler

__all__ = ["Euler", "EulerAncestral", "sigma_predict"]


def sigma_predict(prediction_type: str, builder: PlanBuilder, sigma: float) -> tuple[float, Tensor, Tensor]:
    """Where x = x0 + sigma eps -> (what the model's input is scaled by, x0, eps)."""
    alpha = 1 / (1 + sigma**2) ** 0.5
    return alpha, *predict(prediction_type, alpha * builder.x, builder.out, alpha, alpha * sigma)


@dataclass(frozen=True, kw_only=True)
class Euler(SigmaScheduler):
    """Euler's method on dx / dsigma = eps, where x = x0 + sigma eps.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1 without its correction. Differs: no churn.
    """

    hub_class = "EulerDiscreteScheduler"

    final_sigmas_type: str = "zero"

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        grid = self._grid(num_inference_steps).skip(skip)
        builder = PlanBuilder("Euler", self._start(grid))
        for t, now, then in grid.intervals():
            scale, x0, eps = sigma_predict(self.prediction_type, builder, now)
            builder.add(t, builder.x + (then - now) * eps, x0, input_scale=scale, level=(1.0, now))
        return builder.plan()


@dataclass(frozen=True, kw_only=True)
class EulerAncestral(SigmaScheduler):
    """Euler's method that steps below the next level and adds noise up to it, as ancestral sampling does.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix F (ancestral sampling where variance explodes).
    """

    hub_class = "EulerAncestralDiscreteScheduler"

    use_karras_sigmas: bool = field(default=False, init=False)
    use_exponential_sigmas: bool = field(default=False, init=False)

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        grid = self._grid(num_inference_steps).skip(skip)
        builder = PlanBuilder("EulerAncestral", self._start(grid))
        for t, now, then in grid.intervals():
            scale, x0, eps = sigma_predict(self.prediction_type, builder, now)
            std = then * (1 - (then / now) ** 2) ** 0.5
            down = then**2 / now  # down^2 + std^2 = then^2
            builder.add(
                t, builder.x + (down - now) * eps, x0, noise_std=std, input_scale=scale, level=(1.0, now)
            )
        return builder.plan()
