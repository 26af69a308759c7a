"""What an edit starts from: clips as latents, one for each clip that is to be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from musicldm.audio import warn_if_silent
from musicldm.parts import Parts
from musicldm.sampling import Step, StepFunction, denoise_step
from musicldm.schedulers.plan import Plan
from musicldm.stages import (
    Conditions,
    Job,
    MusicLDMOutput,
    Request,
    check,
    check_overflow,
    condition,
    present,
    run,
    unranked,
)
from musicldm.waves import Wave, as_waves

from .long_form import denoiser
from .windows import cover

__all__ = ["Edit", "deliver", "sample", "start"]

OVERLAP = 4  # a window has a fourth of its rows in common with the next


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An edit ready to be sampled.

    source: (b n, c, t, f) latents at unit scale: the clip that prompt k is paired with, n times, then the
    next. skipped: samples before the result begins; samples: its length. Both at the model's rate.
    """

    job: Job
    conditions: Conditions
    source: Tensor
    skipped: int
    samples: int

    @property
    def rows(self) -> int:
        """Of the latents."""
        return self.source.shape[2]


def start(pipe: Parts, wave: Wave, rate: int, request: Request, *, before: int = 0, after: int = 0) -> Edit:
    """Check everything, then hear the clips: encode them, embed the prompts.

    One clip serves any number of prompts, one prompt any number of clips; otherwise clip k goes with prompt
    k. A request without prompt takes each clip's own CLAP embedding, MusicLDM's native condition.

    before, after: samples at the model's rate by which the latents are longer than the clip; encoded is its
    mirror image there, so that the clip's ends are not heard as ends. Its first sample begins a latent row.

    Raises TypeError or ValueError, before any network runs.
    """
    clips = as_waves(wave, rate, pipe.grid.rate)
    embeds, own = request.prompt_embeds, request.prompt is None and request.prompt_embeds is None
    if own:
        embeds = torch.ones(len(clips), pipe.clap.dim)  # stands in while the rest is checked
    job = check(pipe, replace(request, prompt_embeds=embeds), len(clips))
    _check_direction(job)
    if own:
        for k, one in enumerate(clips):
            warn_if_silent(one.detach().cpu().numpy(), f"clip {k}, its own prompt,")
        job = replace(job, prompts=pipe.embed_audio(wave, rate))
    skipped = -before % (pipe.grid.hop * pipe.grid.factor)
    latents = pipe.encode(_mirrored(clips, skipped + before, after), pipe.grid.rate)
    source = latents.expand(len(job.prompts), -1, -1, -1).repeat_interleave(job.n, dim=0)
    samples = before + clips.shape[1] + after
    return Edit(job=job, conditions=condition(job), source=source, skipped=skipped, samples=samples)


def sample(edit: Edit, plan: Plan, begin: Tensor, *, step: StepFunction = denoise_step) -> Iterator[Step]:
    """begin: (b n, c, t, f), what the plan starts from -> `stages.run`'s steps under the edit's conditions.

    A clip longer than the model's training clips goes through the U-Net in overlapping windows of that
    length (see `windows`); a shorter one as it is.
    """
    job = replace(edit.job, plan=plan)
    size = job.parts.unet.config.sample_size
    layout = cover(begin.shape[2], size, size // OVERLAP)
    each = edit.conditions.cond.expand(len(layout), -1, -1)
    return run(job, denoiser(edit.conditions, layout, each, job), plan, begin, step=step)


def deliver(edit: Edit, latents: Tensor, decode: Callable[[Tensor], Tensor]) -> MusicLDMOutput:
    """latents: (b n, c, t, f), and what decodes them to (b n, s) -> what the request wants of them, cut.

    Raises FloatingPointError if a network overflowed.
    """
    if edit.job.request.output_type == "latent":
        return MusicLDMOutput(latents, None, unranked(edit.job))
    wave = decode(latents)[:, edit.skipped : edit.skipped + edit.samples].float()
    return present(edit.job, check_overflow(edit.job.parts, wave), edit.conditions.embeds)


def _mirrored(clips: Tensor, before: int, after: int) -> Tensor:
    """clips: (b, s) -> (b, before + s + after), the clip and its mirror image in turn."""
    length = clips.shape[1]
    position = torch.arange(-before, length + after) % (2 * length)
    return clips[:, torch.minimum(position, 2 * length - 1 - position).to(clips.device)]


def _check_direction(job: Job) -> None:
    if len(job.plan) > 1 and job.plan.levels[0, 1] < job.plan.levels[-1, 1]:
        raise ValueError(
            f"{job.plan.solver} leads from clips to noise; edit with one that leads to clips, such as "
            "DDIM.from_config(pipe.scheduler)"
        )
