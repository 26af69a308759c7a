"""From noise to latents: the step, the loop, guidance. The text that a researcher copies.

A *denoiser* is any callable `(x, timestep) -> model output`. A *plan* (see `schedulers`) is a table of
numbers. The loop is a generator: progress bars, previews, early stops and edits belong to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from .schedulers.plan import Plan, Row

__all__ = [
    "Conditioned",
    "Denoiser",
    "Guided",
    "Model",
    "Step",
    "StepFunction",
    "denoise_step",
    "draw_noise",
    "iterate",
    "sample",
]

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x, timestep) -> model output
Model = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, timestep, conditions) -> model output: a U-Net
StepFunction = Callable[[Denoiser, Tensor, Row, Tensor], tuple[Tensor, Tensor]]  # `denoise_step`'s kind


class Step(NamedTuple):
    """What `iterate` yields after each evaluation of the model."""

    row: int
    timestep: float
    x: Tensor  # (b, c, t, f), the live state: editing it in place edits the trajectory
    x0: Tensor  # (b, c, t, f), the estimate of the finished latents that this step was made from


def denoise_step(denoiser: Denoiser, state: Tensor, row: Row, noise: Tensor) -> tuple[Tensor, Tensor]:
    """state: (w, b, c, t, f); noise: (b, c, t, f) -> next state, (b, c, t, f) estimate of x0.

    Pure, branch-free, the same for every solver and step: this is what gets compiled.
    """
    out = denoiser(row.input_scale * state[0], row.timestep)
    seen = torch.cat([state, out[None].to(state.dtype)])
    # a product with a (w+1, w+1) matrix, written so that neither TF32 nor autocast can round it
    moved = (row.table[:, :, None, None, None, None] * seen).sum(dim=1)
    x = moved[:1] + row.noise_std * noise
    return torch.cat([x, moved[1:-1]]), moved[-1]


class Guided:
    """Turns a U-Net and two conditions into a denoiser by classifier-free guidance: u + w (c - u).

    cond, uncond: (b, d); scale: a number or a () tensor. The U-Net runs once on both halves, unconditional
    first, in the conditions' dtype; guidance itself is computed in the state's.

    Source: Ho and Salimans 2022 (arXiv 2207.12598), equation 6, with w counted as MusicLDM does (1 = no
    guidance).
    """

    def __init__(self, unet: Model, cond: Tensor, uncond: Tensor, scale: Tensor | float) -> None:
        self.unet = unet
        self.conds = torch.cat([uncond, cond])
        self.scale = torch.as_tensor(scale, dtype=torch.float32, device=cond.device)

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x: (b, c, t, f); timestep: () -> (b, c, t, f)."""
        return self.run(self.unet, x, timestep)

    def run(self, model: Model, x: Tensor, timestep: Tensor) -> Tensor:
        """The same, of another model under the same conditions."""
        out = model(torch.cat([x, x]).to(self.conds.dtype), timestep, self.conds).to(x.dtype)
        without, with_cond = out.chunk(2)
        return without + self.scale * (with_cond - without)


class Conditioned:
    """Turns a U-Net and one condition into a denoiser, without guidance. cond: (b, d)."""

    def __init__(self, unet: Model, cond: Tensor) -> None:
        self.unet = unet
        self.conds = cond

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x: (b, c, t, f); timestep: () -> (b, c, t, f)."""
        return self.run(self.unet, x, timestep)

    def run(self, model: Model, x: Tensor, timestep: Tensor) -> Tensor:
        """The same, of another model under the same condition."""
        return model(x.to(self.conds.dtype), timestep, self.conds).to(x.dtype)


def iterate(
    denoiser: Denoiser | Sequence[Denoiser],
    plan: Plan,
    noise: Tensor,
    *,
    step_noise: Iterable[Tensor] | None = None,
    step: StepFunction = denoise_step,
) -> Iterator[Step]:
    """noise: (b, c, t, f) of unit variance -> one `Step` per row of the plan; the last carries the sample.

    denoiser: one for all rows, or a sequence of one per row.
    step_noise: (k, b, c, t, f), or any iterable of k tensors (b, c, t, f); what a stochastic plan adds.
    step: `denoise_step`, or that function compiled.

    The state has the noise's dtype, float32 at least. Gradients flow. Nothing is read back from the device,
    and with a plan that was moved there (`plan.to`) nothing is copied to it: a CUDA graph can hold the loop.
    Raises ValueError if the plan is stochastic and has no `step_noise`, or `step_noise` has the wrong length.
    """
    if noise.ndim != 4:
        raise ValueError(f"iterate: got noise of shape {tuple(noise.shape)}, expected (b, c, t, f)")
    if step_noise is None:
        if plan.stochastic:
            raise ValueError(
                f"iterate: this {plan.solver} plan adds noise at its steps; pass step_noise ({len(plan)}, "
                f"{', '.join(map(str, noise.shape))}), or plan with eta = 0"
            )
        step_noise = repeat(torch.zeros_like(noise), len(plan))
    elif isinstance(step_noise, Tensor) and step_noise.shape != (len(plan), *noise.shape):
        raise ValueError(
            f"iterate: got step_noise of shape {tuple(step_noise.shape)}, expected "
            f"{(len(plan), *noise.shape)}"
        )
    denoisers = denoiser if isinstance(denoiser, Sequence) else [denoiser] * len(plan)
    if len(denoisers) != len(plan):
        raise ValueError(
            f"iterate: got {len(denoisers)} denoisers for {len(plan)} rows, expected one per row"
        )
    return _steps(denoisers, plan, noise, step_noise, step)


def _steps(
    denoisers: Sequence[Denoiser],
    plan: Plan,
    noise: Tensor,
    step_noise: Iterable[Tensor],
    step: StepFunction,
) -> Iterator[Step]:
    dtype = torch.promote_types(noise.dtype, torch.float32)
    tables = plan.to(noise.device, dtype)
    state = tables.start(noise.to(dtype))
    rows = zip(denoisers, tables.rows(), step_noise, strict=True)
    for k, (denoiser, row, extra) in enumerate(rows):
        state, x0 = step(denoiser, state, row, extra.to(state))
        yield Step(k, plan.visited[k], state[0], x0)


@torch.no_grad()
def sample(
    denoiser: Denoiser | Sequence[Denoiser],
    plan: Plan,
    noise: Tensor,
    *,
    step_noise: Iterable[Tensor] | None = None,
    step: StepFunction = denoise_step,
) -> Tensor:
    """noise: (b, c, t, f) -> (b, c, t, f) latents: `iterate` run to its end, without gradients."""
    *_, last = iterate(denoiser, plan, noise, step_noise=step_noise, step=step)
    return last.x


def draw_noise(
    shape: tuple[int, ...],
    generators: torch.Generator | Sequence[torch.Generator] | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """-> shape (b, c, t, f) of unit variance, drawn on the generators' device and moved.

    A sequence has one generator per item, so that item k depends on its own alone: not on the batch it is in.
    One generator, or None (torch's global one), draws the whole batch at once, as the published pipeline
    does.
    """
    if isinstance(generators, Sequence):
        items = [draw_noise((1, *shape[1:]), generator, device, dtype) for generator in generators]
        return torch.cat(items)
    drawn_on = device if generators is None else generators.device
    return torch.randn(shape, generator=generators, device=drawn_on, dtype=dtype).to(device)
