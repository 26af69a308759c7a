"""The forward process: how much signal and how much noise a training timestep carries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["BETA_SCHEDULES", "NoiseSchedule"]

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """x_t = alpha_t x_0 + sigma_t noise, with alpha_t^2 + sigma_t^2 = 1 (variance preserving).

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 4; "scaled_linear" is linear in sqrt(beta), as latent
    diffusion has it; "squaredcos_cap_v2" is Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17.
    Differs: the table is float64.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    beta_schedule: str = "scaled_linear"
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        if self.num_train_timesteps < 1:
            raise ValueError(
                f"NoiseSchedule: num_train_timesteps must be >= 1, got {self.num_train_timesteps}"
            )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"NoiseSchedule: got beta_start {self.beta_start} and beta_end {self.beta_end}, "
                "expected 0 < beta_start <= beta_end < 1"
            )
        if self.beta_schedule not in BETA_SCHEDULES:
            raise ValueError(
                f"NoiseSchedule: got beta_schedule {self.beta_schedule!r}, expected one of {BETA_SCHEDULES}"
            )

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """(num_train_timesteps,) float64, alpha_t^2 for every training timestep."""
        cumprod = (1 - self._betas()).cumprod(0)
        return _zero_terminal_snr(cumprod) if self.rescale_betas_zero_snr else cumprod

    def _betas(self) -> Tensor:
        start, end, n = self.beta_start, self.beta_end, self.num_train_timesteps
        if self.beta_schedule == "linear":
            return torch.linspace(start, end, n, dtype=torch.float64)
        if self.beta_schedule == "scaled_linear":
            return torch.linspace(start**0.5, end**0.5, n, dtype=torch.float64) ** 2
        progress = torch.arange(n + 1, dtype=torch.float64) / n
        alpha_bar = torch.cos((progress + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x0, noise: (b, ...); timesteps: (b,) int -> (b, ...) noisy x_t."""
        alpha, sigma = self._per_item(timesteps, x0)
        return alpha * x0 + sigma * noise

    def velocity(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x0, noise: (b, ...); timesteps: (b,) int -> (b, ...) v-prediction target alpha noise - sigma x0.

        Source: Salimans and Ho 2022 (arXiv 2202.00512), appendix D.
        """
        alpha, sigma = self._per_item(timesteps, x0)
        return alpha * noise - sigma * x0

    def snr(self, timesteps: Tensor) -> Tensor:
        """timesteps: (b,) int -> (b,) float32 signal-to-noise ratio alpha^2 / sigma^2."""
        squared = self.alphas_cumprod.to(timesteps.device)[timesteps]
        return (squared / (1 - squared)).float()

    def _per_item(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        squared = self.alphas_cumprod.to(timesteps.device)[timesteps]
        squared = squared.reshape(-1, *[1] * (like.ndim - 1))
        return squared.sqrt().to(like), (1 - squared).sqrt().to(like)


def _zero_terminal_snr(cumprod: Tensor) -> Tensor:
    """Shift and stretch sqrt(alpha_bar) so that the last is 0.

    Source: Lin et al. 2023 (arXiv 2305.08891), algorithm 1.
    """
    root = cumprod.sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * first / (first - last)) ** 2
