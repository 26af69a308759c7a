"""A clip under another prompt: to the noise that leads to it, and from there another way back."""

from __future__ import annotations

from dataclasses import replace

import torch

from musicldm.parts import Parts
from musicldm.stages import MusicLDMOutput, Request
from musicldm.waves import Wave

from .inversion import FixedPoint, plans
from .source import deliver, sample, start

__all__ = ["reprompt"]


@torch.no_grad()
def reprompt(
    pipe: Parts,
    wave: Wave,
    rate: int,
    request: Request,
    *,
    source_prompt: str | None = None,
    refinements: int = 1,
) -> MusicLDMOutput:
    """A clip and a prompt -> a clip as long that keeps what the noise keeps: where things happen in time.

    source_prompt: describes the clip on its way to noise; None takes the clip's own CLAP embedding. The same
    prompt at guidance 1 gives the clip back. refinements: see `inversion.FixedPoint`. Both ways are DDIM,
    whatever the scheduler, and draw nothing; the callback sees the steps of both. wave: see
    `waves.as_waves`; pairing with prompts: see `source.start`.

    Raises what `stages.check` and `as_waves` raise, and ValueError for an eta or several clips per prompt,
    which would all be one.

    Source: Song et al. 2021 (arXiv 2010.02502), section 4.3; Mokady et al. 2022 (arXiv 2211.09794), 3.1.
    """
    if request.eta or request.num_waveforms_per_prompt != 1:
        raise ValueError(
            f"reprompt: got eta {request.eta} and {request.num_waveforms_per_prompt} clips per prompt, "
            "expected 0 and 1: nothing is drawn, so all clips would be one; audio_to_audio and vary draw"
        )
    step = FixedPoint(refinements)
    edit = start(pipe, wave, rate, request)
    there, back = plans(edit.job.scheduler, edit.job.steps)
    described = pipe.embed_audio(wave, rate) if source_prompt is None else pipe.embed_text(source_prompt)
    cond = described.to(edit.conditions.cond).expand_as(edit.conditions.cond)
    as_it_is = replace(edit, conditions=replace(edit.conditions, cond=cond, uncond=None))
    *_, noisy = sample(as_it_is, there, edit.source, step=step)
    *_, last = sample(edit, back, noisy.x)
    return deliver(edit, last.x, pipe.decode)
