"""UniPC: a predictor and a corrector that share their evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .exponential import Interval, convert, level
from .plan import Plan, PlanBuilder
from .sigmas import SigmaScheduler

__all__ = ["UniPC"]


@dataclass(frozen=True, kw_only=True)
class UniPC(SigmaScheduler):
    """UniPC-p in its B(h) form: an evaluation first corrects the step that led to it, then predicts the next.

    B(h) ("bh1": h, "bh2": e^h - 1) cancels wherever the weights solve a linear system; it shows in the
    predictor of order 2 and the corrector of order 1, whose one weight is 1/2.

    Source: Zhao et al. 2023 (arXiv 2302.04867), algorithms 1 and 2 (their data form if `predict_x0`).
    """

    hub_class = "UniPCMultistepScheduler"

    solver_order: int = 2
    predict_x0: bool = True
    solver_type: str = "bh2"
    lower_order_final: bool = True
    final_sigmas_type: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("solver_order", (1, 2, 3))
        self._one_of("solver_type", ("bh1", "bh2"))

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        builder = PlanBuilder(f"UniPC ({self.solver_type}, order {self.solver_order})")
        grid = self._integer_grid(num_inference_steps).skip(skip)
        order = 0
        for k, (t, now, then) in enumerate(grid.intervals()):
            x0, m = convert(self.prediction_type, builder.x, builder.out, now, data=self.predict_x0)
            base, *history = builder.slots  # the last corrected x, and the model outputs from there back
            x = builder.x
            if order:
                x = _move(self, base, grid.sigmas[k - 1 :: -1][:order], history, now, arrived=m)
            left = len(grid.timesteps) - k
            order = min(self.solver_order, k + 1, left if self.lower_order_final else k + 1)
            order = 1 if then in (0.0, now) else order  # where h is infinite, or 0
            following = _move(self, x, grid.sigmas[k::-1][:order], [m, *history], then)
            builder.add(t, following, x0, keep=(x, m, *history[:2]), level=level(now))
        return builder.plan()


def _move(
    solver: UniPC,
    x: Tensor,
    sigmas: list[float],
    known: list[Tensor],
    target: float,
    *,
    arrived: Tensor | None = None,
) -> Tensor:
    """x at sigmas[0]; model outputs at `sigmas` and, to correct, at the target -> x at the target."""
    interval = Interval(sigmas[0], target, "dpmsolver++" if solver.predict_x0 else "dpmsolver")
    ratios = [math.log(sigmas[0] / sigma) / interval.length for sigma in sigmas[1:]]
    others = known[1 : len(sigmas)]
    if arrived is not None:
        ratios, others = [*ratios, 1.0], [*others, arrived]
    if len(others) == 1:
        weights = [0.5 if solver.solver_type == "bh2" else 0.5 / interval.phis(1)[0]]
    else:
        weights = _weights(interval, ratios)
    correction: Tensor | float = 0.0
    for weight, ratio, m in zip(weights, ratios, others, strict=True):
        correction = correction + weight * (m - known[0]) / ratio
    return interval.step(x, known[0], correction)[0]


def _weights(interval: Interval, ratios: list[float]) -> list[float]:
    """The weights of (m_k - m_0) / r_k that are exact where m is a polynomial (R and b of theorem 3.1)."""
    if not ratios:
        return []
    phi1, *phis = interval.phis(len(ratios) + 1)
    moments = [math.factorial(i) * phi / phi1 for i, phi in enumerate(phis, 1)]
    powers = torch.tensor([[ratio**i for ratio in ratios] for i in range(len(ratios))], dtype=torch.float64)
    return torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()
