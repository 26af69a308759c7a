"""What the solvers share that step through noise-to-signal ratios, sigma, rather than through timesteps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from .base import Scheduler
from .spacing import Grid, interpolate, spaced, timestep_of

__all__ = ["SigmaScheduler"]

KARRAS_RHO = 7.0  # Karras et al. 2022 (arXiv 2206.00364), section 3

# sigma is infinite where a zero-SNR schedule has no signal left; these solvers stop just short of that.
# parity: 2^-24 is Diffusers' choice (float16's smallest number)
LEAST_SIGNAL = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class SigmaScheduler(Scheduler):
    """A solver whose levels are sigmas, and the two ways to respace them.

    Only solvers that name `final_sigmas_type` again offer it; the others end without noise.
    """

    final_sigmas_type: str = field(default="zero", init=False)
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("final_sigmas_type", ("zero", "sigma_min"))
        if self.use_karras_sigmas and self.use_exponential_sigmas:
            raise ValueError(
                f"{type(self).__name__}: got both use_karras_sigmas and use_exponential_sigmas, "
                "expected one of them at most"
            )

    @cached_property
    def _sigmas(self) -> Tensor:
        """(num_train_timesteps,) float64, ascending."""
        squared = self.noise_schedule.alphas_cumprod.clone()
        if self.rescale_betas_zero_snr:
            squared[-1] = LEAST_SIGNAL
        return ((1 - squared) / squared).sqrt()

    def _grid(self, n: int) -> Grid:
        """Levels of the k-diffusion family: fractional timesteps, sigmas interpolated between them.

        Karras and exponential sigmas respace the range that `timestep_spacing` covers.
        """
        visited = self._timesteps(n)
        sigmas = [interpolate(self._sigmas, t) for t in visited]
        if self.use_karras_sigmas or self.use_exponential_sigmas:
            sigmas = spaced(sigmas[0], sigmas[-1], n, rho=self._rho)
            visited = [timestep_of(sigma, self._sigmas) for sigma in sigmas]
        return Grid(visited, [*sigmas, self._last])

    def _integer_grid(self, n: int) -> Grid:
        """Levels of the DPM-Solver family: the timesteps that the model was trained on.

        Karras and exponential sigmas respace the whole schedule, and the model is told the nearest timestep.
        """
        if not (self.use_karras_sigmas or self.use_exponential_sigmas):
            visited = [float(round(t)) for t in self._timesteps(n, ahead=1)]
            return Grid(visited, [*(float(self._sigmas[int(t)]) for t in visited), self._last])
        sigmas = spaced(float(self._sigmas[-1]), float(self._sigmas[0]), n, rho=self._rho)
        positions = [timestep_of(sigma, self._sigmas) for sigma in sigmas]
        return Grid([float(round(position)) for position in positions], [*sigmas, self._last])

    @property
    def _rho(self) -> float:
        return KARRAS_RHO if self.use_karras_sigmas else math.inf

    @property
    def _last(self) -> float:
        return 0.0 if self.final_sigmas_type == "zero" else float(self._sigmas[0])

    def _start(self, grid: Grid) -> float:
        """The scale of the first x where x = x0 + sigma noise; what Diffusers starts from."""
        first = grid.sigmas[0]
        return (first**2 + 1) ** 0.5 if self.timestep_spacing == "leading" else first
