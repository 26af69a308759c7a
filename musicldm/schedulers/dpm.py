"""DPM-Solver and DPM-Solver++, multistep and singlestep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .exponential import ALGORITHMS, Interval, convert, level
from .plan import Plan, PlanBuilder
from .sigmas import SigmaScheduler

__all__ = ["DPMSolver", "DPMSolverSinglestep"]

FEW_STEPS = 15  # below this many, `lower_order_final` ends the run in low order


@dataclass(frozen=True, kw_only=True)
class _DPM(SigmaScheduler):
    """The settings that the multistep and the singlestep family share."""

    solver_order: int = 2
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    lower_order_final: bool = True
    final_sigmas_type: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("solver_order", (1, 2, 3))
        self._one_of("algorithm_type", ALGORITHMS)
        self._one_of("solver_type", ("midpoint", "heun"))
        if (self.algorithm_type, self.final_sigmas_type) == ("sde-dpmsolver", "zero"):
            raise ValueError(
                f"{type(self).__name__}: got final_sigmas_type 'zero' with algorithm_type 'sde-dpmsolver', "
                "whose last step would leave noise in the result; expected 'sigma_min' (or 'sde-dpmsolver++')"
            )

    @property
    def _data(self) -> bool:
        return self.algorithm_type.endswith("++")


@dataclass(frozen=True, kw_only=True)
class DPMSolver(_DPM):
    """DPM-Solver++ (or DPM-Solver) with one evaluation per step, reusing up to two earlier ones.

    The order falls to what the history allows at the start; to 1 in a last step that ends without noise, and
    with `euler_at_final`; and with `lower_order_final`, below 15 steps, to 2 and then 1 in the last two.

    Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2 (multistep, order 2) and section 5 (SDE); order 3
    takes the Taylor expansion one term further. Differs: that term has D_2 = h^2 m''; Diffusers has half of
    it (and for "sde-dpmsolver++" a wrong sign), with which order 3 converges as order 2.
    """

    hub_class = "DPMSolverMultistepScheduler"

    euler_at_final: bool = False

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        builder = PlanBuilder(f"DPMSolver ({self.algorithm_type}, order {self.solver_order})")
        grid = self._integer_grid(num_inference_steps).skip(skip)
        for k, (t, now, then) in enumerate(grid.intervals()):
            x0, m = convert(self.prediction_type, builder.x, builder.out, now, data=self._data)
            order = self._order(k, num_inference_steps - skip, now, then)
            interval = Interval(now, then, self.algorithm_type)
            passed = grid.sigmas[k + 1 - order : k + 1][::-1]
            correction = _correction(interval, passed, (m, *builder.slots)[:order], self.solver_type)
            x, std = interval.step(builder.x, m, correction)
            builder.add(t, x, x0, keep=(m, builder.slots[0]), noise_std=std, level=level(now))
        return builder.plan()

    def _order(self, k: int, steps: int, now: float, then: float) -> int:
        left = steps - k  # this step included
        if left == 1 and (then in (0.0, now) or self.euler_at_final):  # h is infinite, or 0
            return 1
        falling = left if self.lower_order_final and steps < FEW_STEPS else self.solver_order
        return min(self.solver_order, k + 1, falling)


@dataclass(frozen=True, kw_only=True)
class DPMSolverSinglestep(_DPM):
    """DPM-Solver++ (or DPM-Solver) in groups of `solver_order` evaluations that start afresh from one point.

    `num_inference_steps` counts evaluations. A number that does not fill the last group, a run that ends
    without noise, and `lower_order_final` all end the run in smaller groups. Timesteps are always "linspace".

    Source: Lu et al. 2022 (arXiv 2206.00927), algorithms 1 and 2 ("midpoint"), and 2211.01095, algorithm 1.
    Differs: the inner points are the run's own timesteps, not fixed fractions of the group.
    """

    hub_class = "DPMSolverSinglestepScheduler"

    lower_order_final: bool = False
    timestep_spacing: str = field(default="linspace", init=False)
    steps_offset: int = field(default=0, init=False)

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        builder = PlanBuilder(f"DPMSolverSinglestep ({self.algorithm_type}, order {self.solver_order})")
        grid = self._integer_grid(num_inference_steps).skip(skip)
        orders = self._orders(num_inference_steps - skip)
        for k, (t, now, then) in enumerate(grid.intervals()):
            x0, m = convert(self.prediction_type, builder.x, builder.out, now, data=self._data)
            order = orders[k]
            base, *known = (builder.x, m) if order == 1 else (*builder.slots[:order], m)
            sigmas = grid.sigmas[k + 1 - order : k + 1]
            interval = Interval(sigmas[0], then, self.algorithm_type)
            correction = self._correction(interval, sigmas, known)
            x, std = interval.step(base, known[0], correction)
            builder.add(t, x, x0, keep=(base, *known), noise_std=std, level=level(now))
        return builder.plan()

    def _correction(self, interval: Interval, sigmas: list[float], known: list[Tensor]) -> Tensor | float:
        if len(known) == 3 and self.solver_type == "midpoint":  # the slope to the latest point alone
            return _correction(interval, sigmas[::2], known[::2], "heun")
        return _correction(interval, sigmas, known, self.solver_type)

    def _orders(self, steps: int) -> list[int]:
        groups, rest = divmod(steps, self.solver_order)
        sizes = [self.solver_order] * groups + [rest] * (rest > 0)
        if self.final_sigmas_type == "zero" or (self.lower_order_final and not rest):
            sizes[-1:] = [sizes[-1] - 1, 1]
        return [order for size in sizes for order in range(1, size + 1)]


def _correction(
    interval: Interval, sigmas: Sequence[float], known: Sequence[Tensor], kind: str
) -> Tensor | float:
    """w_1 D_1 + w_2 D_2 from what is known at up to three levels, the interval's source first.

    Two levels: their slope, weighted exactly ("heun") or by the limit for short steps ("midpoint"). Three:
    the parabola through them.
    """
    if len(known) == 1:
        return 0.0
    r1, *rest = [math.log(interval.source / sigma) / interval.length for sigma in sigmas[1:]]
    slope1, *others = [(m - known[0]) / r for m, r in zip(known[1:], (r1, *rest), strict=True)]
    if not rest:
        return slope1 * (0.5 if kind == "midpoint" else interval.phis(2)[1] / interval.phis(1)[0])
    phi1, phi2, phi3 = interval.phis(3)
    curvature = (others[0] - slope1) / (rest[0] - r1)
    return (phi2 * (slope1 - r1 * curvature) + phi3 * 2 * curvature) / phi1
