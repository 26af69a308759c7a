"""Heun's method in sigma."""

from __future__ import annotations

from dataclasses import dataclass

from .euler import sigma_predict
from .plan import Plan, PlanBuilder
from .sigmas import SigmaScheduler

__all__ = ["Heun"]


@dataclass(frozen=True, kw_only=True)
class Heun(SigmaScheduler):
    """Euler's method with the slopes at both ends of a step averaged; the last step, to no noise, is Euler's.

    n steps are 2 n - 1 evaluations.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
    """

    hub_class = "HeunDiscreteScheduler"

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        grid = self._grid(num_inference_steps).skip(skip)
        builder = PlanBuilder("Heun", self._start(grid))
        base, first = builder.slots[:2]
        arrival = None  # where the last step came from, and how long it was
        for t, now, then in grid.intervals():
            scale, x0, eps = sigma_predict(self.prediction_type, builder, now)
            if arrival is not None:
                builder.add(t, base + arrival / 2 * (first + eps), x0, input_scale=scale, level=(1.0, now))
            arrival = then - now
            builder.add(
                t, builder.x + arrival * eps, x0, keep=(builder.x, eps), input_scale=scale, level=(1.0, now)
            )
        return builder.plan()
