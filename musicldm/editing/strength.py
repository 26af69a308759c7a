"""Audio to audio: a clip is covered with noise and denoised again, under its own prompt or another."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from musicldm.parts import Parts
from musicldm.stages import MusicLDMOutput, Request
from musicldm.waves import Wave

from .source import Edit, deliver, sample, start

__all__ = ["audio_to_audio", "steps_kept", "vary"]


@torch.no_grad()
def audio_to_audio(
    pipe: Parts, wave: Wave, rate: int, request: Request, *, strength: float
) -> MusicLDMOutput:
    """A clip and a prompt -> a clip as long that is as far from the first as `strength` says, 0 to 1.

    Of the scheduler's steps the last `strength * steps` are made, from the clip under as much noise as stands
    there. 0 makes none: the clip encoded and decoded. 1 makes all, from noise alone: what the prompt and the
    seed give without the clip. wave: see `waves.as_waves`; pairing with prompts: see `source.start`.

    Raises what `stages.check` and `as_waves` raise, and ValueError for another strength.

    Source: Meng et al. 2021 (arXiv 2108.01073), algorithm 1; Liu et al. 2023 (arXiv 2301.12503), section 3.4.
    """
    steps_kept(strength, 1)
    edit = start(pipe, wave, rate, request)
    return deliver(edit, _denoised_again(edit, strength), pipe.decode)


def vary(
    pipe: Parts, wave: Wave, rate: int, request: Request, *, count: int = 4, strength: float = 0.5
) -> MusicLDMOutput:
    """`count` variations of each clip: `audio_to_audio` with as many seeds, ranked by CLAP, best first.

    `order` names their seeds: variation j of clip i has seed + i * count + order[i, j].
    """
    several = replace(request, num_waveforms_per_prompt=count)
    return audio_to_audio(pipe, wave, rate, several, strength=strength)


def steps_kept(strength: float, steps: int) -> int:
    """How many steps of a run are made: the nearest to strength * steps, none only if strength is 0.

    Raises TypeError or ValueError if strength is not 0 to 1.
    """
    if isinstance(strength, bool) or not isinstance(strength, (int, float)):
        raise TypeError(f"strength: got {strength!r}, expected a number")
    if not 0 <= strength <= 1:
        raise ValueError(
            f"strength: got {strength}, expected 0 (the clip as it is) to 1 (the clip is ignored)"
        )
    return max(math.ceil(strength), round(strength * steps))


def _denoised_again(edit: Edit, strength: float) -> Tensor:
    job = edit.job
    kept = steps_kept(strength, job.steps)
    if not kept:
        return edit.source
    plan = job.scheduler.plan(job.steps, skip=job.steps - kept)
    begin = job.noise(edit.rows)
    if strength < 1:
        begin, plan = plan.noised(edit.source, begin.float()), plan.from_latents()
    *_, last = sample(edit, plan, begin)
    return last.x
