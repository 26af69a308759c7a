"""Pseudo numerical methods for diffusion models."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from .base import Scheduler, predict
from .plan import Plan, PlanBuilder

__all__ = ["PNDM"]

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True, kw_only=True)
class PNDM(Scheduler):
    """Linear multistep in eps, through DDIM's transfer instead of along a straight line.

    The first three steps are Runge-Kutta steps of four evaluations each (F-PNDM); with `skip_prk_steps` the
    first is an improved Euler step of two evaluations (as in S-PNDM), and the order rises from there.

    Source: Liu et al. 2022 (arXiv 2202.09778), equations 11 (transfer), 12 (multistep) and 13 (Runge-Kutta).
    Differs: every prediction type becomes eps at the point where it was made (Diffusers mixes v of several
    timesteps, which is first order); fewer than four steps take as much of the start as there is room for.
    """

    hub_class = "PNDMScheduler"

    skip_prk_steps: bool = False
    set_alpha_to_one: bool = False

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        builder = PlanBuilder("PNDM")
        squared = self.noise_schedule.alphas_cumprod.tolist()
        visited = [round(t) for t in self._timesteps(num_inference_steps)[skip:]]
        levels = [squared[t] for t in visited] + [1.0 if self.set_alpha_to_one else squared[0]]
        starts = 1 if self.skip_prk_steps else len(ADAMS_BASHFORTH) - 1
        for k, (now, then) in enumerate(pairwise([*visited, -1])):
            if k < starts and then >= 0:
                self._one_step(builder, squared, now, then)
            else:
                self._multistep(builder, min(k, 3), now, levels[k], levels[k + 1])
        return builder.plan()

    def _multistep(self, builder: PlanBuilder, past: int, timestep: int, now: float, then: float) -> None:
        x0, eps = self._predict(builder, now)
        mean = 0 * eps
        for weight, earlier in zip(ADAMS_BASHFORTH[past], (eps, *builder.slots[:past]), strict=True):
            mean = mean + weight * earlier
        x = _transfer(builder.x, mean, now, then)
        builder.add(timestep, x, x0, keep=(eps, *builder.slots[:2]), level=_level(now))

    def _one_step(self, builder: PlanBuilder, squared: list[float], now: int, then: int) -> None:
        """A step that needs no history, in stages: where to evaluate, where to go, weight in the mean eps."""
        middle = (now + then) // 2
        stages = [(now, middle, 1 / 6), (middle, middle, 1 / 3), (middle, then, 1 / 3), (then, then, 1 / 6)]
        if self.skip_prk_steps:
            stages = [(now, then, 1 / 2), (then, then, 1 / 2)]
        for stage, (at, to, weight) in enumerate(stages):
            x0, eps = self._predict(builder, squared[at])
            past, (base, mean) = builder.slots[:3], builder.slots[3:]
            if stage == 0:
                past, base, mean = (eps, *past[:2]), builder.x, 0 * eps
            mean = mean + weight * eps
            slope = mean if stage == len(stages) - 1 else eps
            x = _transfer(base, slope, squared[now], squared[to])
            builder.add(at, x, x0, keep=(*past, base, mean), level=_level(squared[at]))

    def _predict(self, builder: PlanBuilder, squared: float) -> tuple[Tensor, Tensor]:
        return predict(self.prediction_type, builder.x, builder.out, *_level(squared))


def _level(squared: float) -> tuple[float, float]:
    return squared**0.5, (1 - squared) ** 0.5


def _transfer(x: Tensor, eps: Tensor, now: float, then: float) -> Tensor:
    """Equation 11: DDIM's step between two alpha^2."""
    return (then / now) ** 0.5 * (x - (1 - now) ** 0.5 * eps) + (1 - then) ** 0.5 * eps
