"""Opt-in approximations: less work for the U-Net, at a measured loss. Off unless asked for.

Two ways, which combine: guidance inside an interval of timesteps only, and the deep levels of the U-Net
computed at every n-th evaluation only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor

from .compilation import Compiled
from .sampling import Conditioned, Denoiser, Guided, StepFunction, denoise_step
from .schedulers.plan import Plan, Row
from .unet import DownStage, UNet

__all__ = [
    "DeepReuse",
    "Steps",
    "forward_keeping",
    "forward_reusing",
    "in_interval",
    "step_keeping",
    "step_reusing",
]

FromUNet = Guided | Conditioned


def in_interval(
    plan: Plan, interval: tuple[float, float], inside: Denoiser, outside: Denoiser
) -> Sequence[Denoiser]:
    """One denoiser per row of the plan: `inside` where low <= timestep <= high, `outside` elsewhere.

    With a `Guided` inside and its `Conditioned` outside, a row outside costs half.

    Source: Kynkaanniemi et al. 2024 (arXiv 2404.07724), section 3. Differs: bounds are training timesteps (0
    clean, 999 noise), not noise levels.
    """
    low, high = interval
    return [inside if low <= timestep <= high else outside for timestep in plan.visited]


class DeepReuse:
    """A `step` for `iterate` that computes the U-Net's deep levels at every n-th row only.

    What enters the last stage of the way up is kept from one evaluation to the next; between, only the
    highest resolution is computed. Make one for each run: it counts the rows.

    keeping, reusing: `step_keeping` and `step_reusing`, or those compiled.

    Source: Ma et al. 2023 (arXiv 2312.00858), section 3.2, uniform, with the branch at the first level.
    """

    def __init__(
        self,
        every: int,
        keeping: Callable[..., Any],
        reusing: Callable[..., Any],
    ) -> None:
        self.every = every
        self.keeping = keeping
        self.reusing = reusing
        self.age = every  # rows since the deep levels were computed
        self.deep: Tensor | None = None

    def __call__(self, denoiser: Any, state: Tensor, row: Row, noise: Tensor) -> tuple[Tensor, Tensor]:
        """As `denoise_step`. Raises TypeError if the denoiser is not a U-Net under one condition per item."""
        if not isinstance(denoiser, FromUNet):
            raise TypeError(
                f"feature reuse: got {type(denoiser).__name__}, expected Guided or Conditioned, whose U-Net "
                "it splits; for windows put each window through its own step (editing.windows.Through)"
            )
        n = len(denoiser.conds)
        if self.deep is None or self.age >= self.every or len(self.deep) < n:
            state, x0, self.deep = self.keeping(denoiser, state, row, noise)
            self.age = 1
            return state, x0
        self.age += 1
        return self.reusing(denoiser, self.deep[-n:], state, row, noise)  # the conditional half is the last


def step_keeping(denoiser: FromUNet, state: Tensor, row: Row, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`denoise_step`, and the deep features (n, c, t, f) that it went through; n = b, 2b with guidance."""
    kept: list[Tensor] = []

    def model(x: Tensor, timestep: Tensor, cond: Tensor) -> Tensor:
        out, deep = forward_keeping(cast(UNet, denoiser.unet), x, timestep, cond)
        kept.append(deep)
        return out

    state, x0 = denoise_step(lambda x, timestep: denoiser.run(model, x, timestep), state, row, noise)
    return state, x0, kept[0]


def step_reusing(
    denoiser: FromUNet, deep: Tensor, state: Tensor, row: Row, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """`denoise_step` with deep features (n, c, t, f) of an earlier one."""

    def model(x: Tensor, timestep: Tensor, cond: Tensor) -> Tensor:
        return forward_reusing(cast(UNet, denoiser.unet), x, timestep, cond, deep)

    return denoise_step(lambda x, timestep: denoiser.run(model, x, timestep), state, row, noise)


@dataclass(frozen=True)
class Steps:
    """The functions that a run may step with: as they are written here, or compiled."""

    plain: Callable[..., Any] = denoise_step
    keeping: Callable[..., Any] = step_keeping
    reusing: Callable[..., Any] = step_reusing

    def start(self, every: int) -> StepFunction:
        """The `step` of one run, which computes deep features at every n-th evaluation; 1 is exact."""
        return self.plain if every == 1 else DeepReuse(every, self.keeping, self.reusing)

    def compiled(self, **options: Any) -> Steps:
        """All three as `compilation.Compiled`, with its options."""
        functions = (self.plain, self.keeping, self.reusing)
        return Steps(*(Compiled(function, function.__name__, **options) for function in functions))


def forward_keeping(unet: UNet, x: Tensor, timestep: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
    """-> what `unet` gives, and what enters its last stage: (b, c, t, f), all that the deep levels add."""
    emb = unet.embed(timestep, cond)
    x = unet.conv_in(x)
    skips = [x]
    for stage in unet.down:
        x, made = stage(x, emb)
        skips += made
    x = unet.mid(x, emb)
    for stage in unet.up[:-1]:
        x = stage(x, skips, emb)
    return _finish(unet, x, skips, emb), x


def forward_reusing(unet: UNet, x: Tensor, timestep: Tensor, cond: Tensor, deep: Tensor) -> Tensor:
    """-> what `unet` gives, with `deep` in place of everything below the highest resolution."""
    emb = unet.embed(timestep, cond)
    x = unet.conv_in(x)
    skips = [x]
    first = cast(DownStage, unet.down[0])
    for res, attn in zip(first.res, first.attn, strict=True):
        x = attn(res(x, emb))
        skips.append(x)
    return _finish(unet, deep, skips, emb)


def _finish(unet: UNet, deep: Tensor, skips: list[Tensor], emb: Tensor) -> Tensor:
    return unet.conv_out(F.silu(unet.norm_out(unet.up[-1](deep, skips, emb))))
