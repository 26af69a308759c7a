"""A sampling run as a table of numbers: every solver is linear in what it has seen.

The sampler carries a state of a few latents: the current point x in slot 0, and whatever the solver remembers
(a base point, earlier model outputs) in the others. One evaluation of the model maps it on:

    [next state, x0 estimate] = table[k] @ [state, model output]  +  noise_std[k] * noise   (into x alone)

A solver never runs during sampling. It runs once on the host, in float64, on *symbols*: `PlanBuilder` hands
out unit vectors for the slots and for the model output, the solver does its paper's algebra on them, and the
vectors that come out are the rows of the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SLOTS", "Plan", "PlanBuilder", "Row"]

SLOTS = 6  # enough for every solver here; one width for all means one compiled step for all


class Row(NamedTuple):
    """What one evaluation of the model needs, as tensors on the sampler's device."""

    timestep: Tensor  # ()
    input_scale: Tensor  # (), the model sees input_scale * x
    table: Tensor  # (SLOTS + 1, SLOTS + 1)
    noise_std: Tensor  # ()


@dataclass(frozen=True)
class Plan:
    """A whole sampling run, one row per evaluation of the model. `print` shows it.

    timesteps, input_scale, noise_std: (k,); table: (k, SLOTS + 1, SLOTS + 1); all float64 on the CPU as
    built. `init_scale` multiplies unit-variance noise to give the first x. levels: (k, 2), how much of the
    data and how much unit-variance noise a row's first x consists of. visited: the timesteps once more, as
    numbers of the host: a loop that is being captured as a CUDA graph may not read them off the device.
    """

    timesteps: Tensor
    input_scale: Tensor
    table: Tensor
    noise_std: Tensor
    levels: Tensor
    init_scale: float
    stochastic: bool
    solver: str
    visited: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.timesteps)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Plan:
        """A copy on a device, in the precision of the sampler's state."""
        return replace(
            self,
            timesteps=self.timesteps.to(device, dtype),
            input_scale=self.input_scale.to(device, dtype),
            table=self.table.to(device, dtype),
            noise_std=self.noise_std.to(device, dtype),
            levels=self.levels.to(device, dtype),
        )

    def rows(self) -> Iterator[Row]:
        """One `Row` of views per evaluation."""
        yield from map(Row, self.timesteps, self.input_scale, self.table, self.noise_std)

    def start(self, noise: Tensor) -> Tensor:
        """noise: (b, c, t, f) of unit variance -> (SLOTS, b, c, t, f) first state."""
        state = noise.new_zeros(SLOTS, *noise.shape)
        state[0] = noise * self.init_scale
        return state

    def noised(self, x0: Tensor, noise: Tensor, row: int = 0) -> Tensor:
        """x0, noise: (b, c, t, f), clean latents and unit-variance noise -> the x at which that row begins.

        `iterate` starts there with `self.from_latents()`.
        """
        signal, sigma = self.levels[row].tolist()
        return signal * x0 + sigma * noise

    def from_latents(self) -> Plan:
        """The same run, started at a given x instead of at noise."""
        return replace(self, init_scale=1.0)

    def __str__(self) -> str:
        lines = [f"{self.solver}: {len(self)} evaluations, first x = {self.init_scale:.6g} * noise"]
        if self.table[:, 0, 1:SLOTS].any():
            lines[0] += f"; s1 to s{SLOTS - 1} are what the row before kept"
        lines.append(f"{'row':>4}  {'timestep':>8}  {'model sees':>12}  next x")
        for k, row in enumerate(self.rows()):
            scale, std = float(row.input_scale), float(row.noise_std)
            seen = "x" if scale == 1 else f"{scale:.6f} x"
            weights = zip(row.table[0].tolist(), _SYMBOLS, strict=True)
            terms = [f"{weight:+.6f} {name}" for weight, name in weights if weight]
            terms += [f"{std:+.6f} noise"] * (std > 0)
            lines.append(f"{k:4d}  {float(row.timestep):8.2f}  {seen:>12}  {'  '.join(terms)}")
        return "\n".join(lines)


_SYMBOLS = ("x", *(f"s{i}" for i in range(1, SLOTS)), "out")


class PlanBuilder:
    """Collects the rows of a plan while a solver does its algebra on symbols.

    `x` is the current point, `slots` what the previous row kept (`slots[0]` is the first thing kept), `out`
    the model output. All are (SLOTS + 1,) float64 unit vectors: add and scale them, no more.
    """

    def __init__(self, solver: str, init_scale: float = 1.0) -> None:
        self.solver = solver
        self.init_scale = init_scale
        basis = torch.eye(SLOTS + 1, dtype=torch.float64)
        self.x: Tensor = basis[0]
        self.slots: tuple[Tensor, ...] = tuple(basis[1:SLOTS])
        self.out: Tensor = basis[SLOTS]
        self._rows: list[tuple[float, float, Tensor, float, tuple[float, float]]] = []

    def add(
        self,
        timestep: float,
        x: Tensor,
        x0: Tensor,
        *,
        level: tuple[float, float],
        keep: tuple[Tensor, ...] = (),
        noise_std: float = 0.0,
        input_scale: float = 1.0,
    ) -> None:
        """One evaluation at `timestep`: the next x, the estimate of x0, and what the next row may use.

        level: signal and sigma of `self.x`, where x = signal * x0 + sigma * noise.
        """
        assert len(keep) < SLOTS, f"{self.solver} keeps {len(keep)} tensors, there is room for {SLOTS - 1}"
        empty = [torch.zeros_like(x)] * (SLOTS - 1 - len(keep))
        self._rows.append((timestep, input_scale, torch.stack([x, *keep, *empty, x0]), noise_std, level))

    def plan(self) -> Plan:
        """The finished table. Raises ValueError if a coefficient is not finite."""
        timesteps, scales, tables, stds, levels = zip(*self._rows, strict=True)
        table = torch.stack(tables)
        if not torch.isfinite(table).all():
            bad = timesteps[int((~torch.isfinite(table)).flatten(1).any(1).nonzero()[0])]
            raise ValueError(
                f"{self.solver}: the coefficients at timestep {bad:g} are not finite: x is all "
                "noise or all signal there, and the model predicts what it cannot see. 'v_prediction' always "
                "works; otherwise change rescale_betas_zero_snr, set_alpha_to_one or timestep_spacing"
            )
        return Plan(
            timesteps=torch.tensor(timesteps, dtype=torch.float64),
            input_scale=torch.tensor(scales, dtype=torch.float64),
            table=table,
            noise_std=torch.tensor(stds, dtype=torch.float64),
            levels=torch.tensor(levels, dtype=torch.float64),
            init_scale=self.init_scale,
            stochastic=any(stds),
            solver=self.solver,
            visited=tuple(map(float, timesteps)),
        )
