"""Inpainting: parts of a clip made anew, in time, in frequency or both, to fit what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from musicldm.mel import MUSICLDM_16K
from musicldm.parts import Parts
from musicldm.stages import MusicLDMOutput, Request
from musicldm.waves import Wave, as_waves

from .regions import Region, latent_mask
from .source import Edit, deliver, sample, start
from .splice import splice

__all__ = ["fill", "inpaint"]


@torch.no_grad()
def inpaint(
    pipe: Parts, wave: Wave, rate: int, request: Request, *, regions: Sequence[Region]
) -> MusicLDMOutput:
    """A clip and regions of it -> a clip as long with those made anew under the prompt.

    Outside of the regions, rounded outwards to whole latents, the latents are the clip's; the audio is its
    plain reconstruction, `pipe.decode(pipe.encode(wave, rate))`, from `splice.reach` samples on (in frequency
    from a latent column on). `Region(low=4000)` is super-resolution. wave: see `waves.as_waves`; pairing with
    prompts: see `source.start`.

    Raises what `stages.check`, `as_waves` and `latent_mask` raise.
    """
    samples = as_waves(wave, rate, pipe.grid.rate).shape[1]
    mask = latent_mask(regions, samples, pipe.grid, MUSICLDM_16K)
    edit = start(pipe, wave, rate, request)
    return deliver(edit, fill(edit, mask), lambda made: splice(pipe, edit.source, made, mask, MUSICLDM_16K))


def fill(edit: Edit, mask: Tensor) -> Tensor:
    """mask: (t, f) -> (b n, c, t, f) latents, sampled where the mask is True, the source's elsewhere.

    What is kept enters every evaluation at the level of noise that the solver has reached, always under the
    same noise, that of the start: a forward path that ends in the source itself. Of a clip longer than the
    model's window, the network hears what is near.

    Source: Lugmayr et al. 2022 (arXiv 2201.09865), equation 8, without their repetitions. Differs: one noise
    for all steps.
    """
    job, plan = edit.job, edit.job.plan
    near = _near(mask, job.parts.unet.config.sample_size)
    source, mask = edit.source[:, :, near], mask[near].to(edit.source.device)
    noise = job.noise(len(mask)).float()
    begin = torch.where(mask, plan.init_scale * noise, plan.noised(source, noise))
    for step in sample(edit, plan.from_latents(), begin):
        following = step.row + 1
        kept = plan.noised(source, noise, following) if following < len(plan) else source
        step.x.copy_(torch.where(mask, step.x, kept))
    whole = edit.source.clone()
    whole[:, :, near] = step.x
    return whole


def _near(mask: Tensor, size: int) -> slice:
    """mask: (t, f) -> the rows from which the masked ones are made: half a window around, one at least."""
    masked = mask.any(dim=1).nonzero().flatten().tolist()
    first, last = max(0, masked[0] - size // 2), min(len(mask), masked[-1] + 1 + size // 2)
    missing = max(0, size - (last - first))
    first = max(0, first - missing)
    return slice(first, max(last, min(len(mask), first + size)))
