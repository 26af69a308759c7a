"""Which training timesteps a run of n steps visits."""

from __future__ import annotations

import torch

from .base import Scheduler

__all__ = ["timesteps"]

MAX_UNCOVERED = 0.2  # share of the schedule that an integer stride may leave out at its noisy end


def timesteps(scheduler: Scheduler, n: int) -> list[int]:
    """-> n distinct training timesteps, from noise to data.

    "leading": stride floor(N / n) from `steps_offset` up, as Diffusers and (for divisors of N) the authors.
    "trailing": from N - 1 down in steps of N / n. "linspace": evenly from N - 1 to 0.

    Source: Lin et al. 2023 (arXiv 2305.08891), table 2. Differs: where the integer stride of "leading" would
    start below 80 % of the schedule (334 steps start at 667, half signal, from pure noise), the stride is N / n;
    the offset gives way where it would leave the table (1,000 steps).
    """
    total = scheduler.num_train_timesteps
    if scheduler.timestep_spacing == "linspace":
        visited = torch.linspace(0, total - 1, n, dtype=torch.float64).round().flip(0)
    elif scheduler.timestep_spacing == "trailing":
        visited = (total - torch.arange(n, dtype=torch.float64) * total / n).round() - 1
    else:
        stride = total // n if n * (total // n) >= (1 - MAX_UNCOVERED) * total else total / n
        visited = (torch.arange(n, dtype=torch.float64) * stride).round().flip(0)
        visited += min(scheduler.steps_offset, total - 1 - int(visited[0]))
    return [int(t) for t in visited]
