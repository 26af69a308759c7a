"""Denoising diffusion implicit models, and their inversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from .base import Scheduler, predict
from .plan import Plan, PlanBuilder

__all__ = ["DDIM", "InverseDDIM"]


@dataclass(frozen=True, kw_only=True)
class DDIM(Scheduler):
    """DDIM with any eta: 0 is deterministic, 1 has the variance of ancestral sampling.

    `set_alpha_to_one` says where the last step ends: at pure signal, or (MusicLDM) at timestep 0.

    Source: Song et al. 2021 (arXiv 2010.02502), equations 12 and 16.
    """

    hub_class = "DDIMScheduler"

    set_alpha_to_one: bool = False
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM: eta must be between 0 and 1, got {self.eta}")

    def with_eta(self, eta: float) -> DDIM:
        """The same solver with that share of ancestral noise."""
        return replace(self, eta=eta)

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        builder = PlanBuilder("DDIM")
        squared = self.noise_schedule.alphas_cumprod.tolist()
        visited = [round(t) for t in self._timesteps(num_inference_steps)[skip:]]
        levels = [squared[t] for t in visited] + [1.0 if self.set_alpha_to_one else squared[0]]
        for t, (now, then) in zip(visited, pairwise(levels), strict=True):
            level = now**0.5, (1 - now) ** 0.5
            x0, eps = predict(self.prediction_type, builder.x, builder.out, *level)
            std = self.eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
            x = then**0.5 * x0 + max(1 - then - std**2, 0.0) ** 0.5 * eps
            builder.add(t, x, x0, noise_std=std, level=level)
        return builder.plan()


@dataclass(frozen=True, kw_only=True)
class InverseDDIM(Scheduler):
    """DDIM run from data to noise: start it from latents, and `DDIM` leads (nearly) back to them.

    The inverse of DDIM's step needs the model's output at the step's noisy end, which is not known yet: it is
    taken from the clean end's x, told the noisy end's timestep. `set_alpha_to_one` says where the run starts,
    as for DDIM. `plan(steps, skip=n)` leads to where DDIM's plan of the same numbers starts.

    Slot 1 is for `editing.inversion.FixedPoint`: given a guess of the next x there, and the output at that
    guess, the row keeps a better one, which is DDIM's step solved for its start with the guess's noise.

    Source: Song et al. 2021 (arXiv 2010.02502), equation 13 run backwards, and 12 solved for x_t; Mokady et
    al. 2022 (arXiv 2211.09794), section 3.1.
    """

    hub_class = "DDIMInverseScheduler"

    set_alpha_to_one: bool = False

    def _plan(self, num_inference_steps: int, skip: int) -> Plan:
        builder = PlanBuilder("InverseDDIM")
        squared = self.noise_schedule.alphas_cumprod.tolist()
        visited = [round(t) for t in reversed(self._timesteps(num_inference_steps)[skip:])]
        levels = [1.0 if self.set_alpha_to_one else squared[0]] + [squared[t] for t in visited]
        for t, (now, then) in zip(visited, pairwise(levels), strict=True):
            clean, noisy = (now**0.5, (1 - now) ** 0.5), (then**0.5, (1 - then) ** 0.5)
            x0, eps = predict(self.prediction_type, builder.x, builder.out, *clean)
            _, guessed = predict(self.prediction_type, builder.slots[0], builder.out, *noisy)
            better = noisy[0] / clean[0] * (builder.x - clean[1] * guessed) + noisy[1] * guessed
            builder.add(t, noisy[0] * x0 + noisy[1] * eps, x0, level=clean, keep=(better,))
        return builder.plan()
