"""The linear multistep method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .euler import sigma_predict
from .plan import Plan, PlanBuilder
from .sigmas import SigmaScheduler

__all__ = ["LMS"]

ORDER = 4


@dataclass(frozen=True, kw_only=True)
class LMS(SigmaScheduler):
    """Adams-Bashforth of order 4 in sigma, on dx / dsigma = eps where x = x0 + sigma eps, for uneven steps.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 1, for the equation; the weights are the integrals
    of the Lagrange polynomials through the last sigmas, as in k-diffusion. Differs: integrated exactly.
    """

    hub_class = "LMSDiscreteScheduler"

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        grid = self._grid(num_inference_steps).skip(skip)
        builder = PlanBuilder("LMS", self._start(grid))
        for k, (t, now, then) in enumerate(grid.intervals()):
            scale, x0, eps = sigma_predict(self.prediction_type, builder, now)
            order = min(k + 1, ORDER)
            nodes = grid.sigmas[k::-1][:order]
            slopes = (eps, *builder.slots[: order - 1])
            x = builder.x
            for j, slope in enumerate(slopes):
                x = x + _integral(nodes, j, now, then) * slope
            builder.add(t, x, x0, keep=slopes[: ORDER - 1], input_scale=scale, level=(1.0, now))
        return builder.plan()


def _integral(nodes: Sequence[float], j: int, start: float, end: float) -> float:
    """Of the polynomial that is 1 at node j, 0 at the (up to 3) others. Simpson's rule is exact on cubics."""

    def lagrange(sigma: float) -> float:
        return prod((sigma - node) / (nodes[j] - node) for i, node in enumerate(nodes) if i != j)

    return (end - start) / 6 * (lagrange(start) + 4 * lagrange((start + end) / 2) + lagrange(end))
