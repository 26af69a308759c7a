"""Minutes of music, prompts along a timeline, loops: windows in sampling and in decoding, in flat memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from musicldm import chunks, inputs, stages
from musicldm.approximations import in_interval
from musicldm.parts import DECODED_ROWS, DECODED_WHOLE, VOCODED_FRAMES, Parts, weight_of
from musicldm.sampling import Conditioned, Denoiser, Guided, denoise_step
from musicldm.stages import Conditions, Job, MusicLDMOutput, Request

from .timeline import Timeline
from .windows import Layout, Through, Windowed, add_window, cover

__all__ = ["Form", "compose", "decode", "denoiser", "layout_of"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How long a clip is, and of what windows it is made.

    seconds: of the whole, None for the length of the model's training clips; a loop has whole latent rows
    (0.04 s). timeline: in place of a prompt. loop: the end leads into the beginning. window: seconds that the
    networks see at a time, None as for the whole. overlap: share of a window that it has in common with the
    next, at least. transition: seconds in which one cue of the timeline turns into the next. at_once: windows
    that the U-Net works on together, which costs memory and may save time.
    """

    seconds: float | None = None
    timeline: Timeline | None = None
    loop: bool = False
    window: float | None = None
    overlap: float = 0.25
    transition: float = 4.0
    at_once: int = 1


@torch.no_grad()
def compose(parts: Parts, request: Request, form: Form) -> MusicLDMOutput:
    """b n clips of that form; a clip of one window is what the pipeline's call gives, bit for bit.

    Each window has the condition of the moment in its middle. Candidates are ranked by their middle 10 s,
    which is what CLAP hears.

    Raises TypeError or ValueError, before any work, for what cannot be honoured; TimelineError for a cue
    that no window would hear; FloatingPointError if a network overflows.
    """
    seconds = parts.default_seconds if form.seconds is None else form.seconds
    layout, samples = layout_of(parts, form), parts.grid.samples(seconds)
    times = [centre * parts.grid.seconds(1) for centre in layout.centres]
    job = stages.check(parts, _request(request, form, seconds, times))
    conditions = stages.condition(job)
    cond = conditions.cond.expand(len(layout), -1, -1)
    if form.timeline is not None:
        embeds = parts.embed_text(form.timeline.prompts)
        around = seconds if form.loop else None
        heard = form.timeline.conditions(embeds, [*times, seconds / 2], form.transition, around)
        conditions = replace(conditions, embeds=heard[-1:])
        cond = heard[:-1, None].expand(-1, job.clips, -1)
    noise = job.noise(layout.rows)
    windowed = denoiser(conditions, layout, cond, job, form.at_once)
    *_, last = stages.run(job, windowed, job.plan, noise, step=denoise_step)
    if request.output_type == "latent":
        return MusicLDMOutput(last.x, None, stages.unranked(job))
    wave = stages.check_overflow(parts, decode(parts, last.x, layout)[:, :samples].float())
    return stages.present(job, wave, conditions.embeds)


def _request(request: Request, form: Form, seconds: float, times: Sequence[float]) -> Request:
    """With the timeline's first prompt in the place of the prompt, so that the checks are the usual ones."""
    inputs.as_count(form.at_once, "at_once")
    if not (math.isfinite(form.transition) and form.transition >= 0):
        raise ValueError(f"transition: got {form.transition}, expected 0 or more seconds")
    if form.timeline is None:
        return request
    if request.prompt is not None or request.prompt_embeds is not None:
        raise ValueError("got both a prompt and a timeline, which says the prompts: give one")
    form.timeline.check(seconds, times)
    return replace(request, prompt=form.timeline.prompts[0])


def layout_of(parts: Parts, form: Form) -> Layout:
    """The windows of that form, in latent rows. Raises TypeError or ValueError."""
    grid = parts.grid
    seconds = parts.default_seconds if form.seconds is None else form.seconds
    samples = grid.samples(seconds)
    rows = grid.rows(samples)
    row = grid.hop * grid.factor
    if form.loop and samples % row:
        near = ", ".join(f"{k * row / grid.rate:g}" for k in (samples // row, samples // row + 1))
        raise ValueError(
            f"loop: got {seconds:g} s, expected whole latent rows of {row / grid.rate:g} s; near: {near}"
        )
    size = parts.unet.config.sample_size if form.window is None else grid.rows(grid.samples(form.window))
    if not 0 <= form.overlap < 1:
        raise ValueError(f"overlap: got {form.overlap}, expected a share of a window from 0, less than 1")
    return cover(rows, size, min(round(form.overlap * size), size - 1), loop=form.loop)


def denoiser(
    conditions: Conditions,
    layout: Layout,
    cond: Tensor,
    job: Job,
    at_once: int = 1,
) -> Denoiser | Sequence[Denoiser]:
    """`Conditions.denoiser` by windows. cond: (n, b, d), each window's condition for each clip.

    Every group of windows steps by itself, compiled or with features reused as the job says: for `iterate`
    the step is plain.
    """
    groups = torch.split(cond.to(conditions.cond), at_once)
    steps = [job.parts.step_functions.start(job.every) for _ in groups]
    ready = list(zip(groups, steps, strict=True))
    unet, uncond = conditions.unet, conditions.uncond
    plain = Windowed(layout, [Through(Conditioned(unet, g.flatten(0, 1)), s) for g, s in ready], at_once)
    if uncond is None:
        return plain
    led = [Guided(unet, g.flatten(0, 1), uncond.repeat(len(g), 1), conditions.guidance) for g in groups]
    guided = Windowed(layout, [Through(each, s) for each, s in zip(led, steps, strict=True)], at_once)
    if conditions.interval is None:
        return guided
    return in_interval(job.plan, conditions.interval, guided, plain)


def decode(parts: Parts, latents: Tensor, layout: Layout) -> Tensor:
    """latents: (b, c, t, f) at unit scale -> (b, s) waveform; one window gives what `parts.decode` gives.

    The VAE decodes each window and the log-mels are blended, so it sees lengths that it was trained on, and
    memory does not grow. In a loop the vocoder reads on around the end: s is whole rows then, and the last
    sample leads into the first.
    """
    scaled, vae = layout.scaled(parts.vae.config.factor), parts.vae
    with parts.placed(vae):
        pieces = zip(layout.indices(), scaled.indices(), scaled.weights(), strict=True)
        blended: Tensor | None = None
        for rows, frames, weights in pieces:
            piece = latents[:, :, rows.to(latents.device)].to(weight_of(vae))
            mel = chunks.decode(vae, piece, DECODED_ROWS, DECODED_WHOLE)
            if blended is None:
                blended = mel.new_zeros(*mel.shape[:2], scaled.rows, mel.shape[3])
            add_window(blended, mel * weights.to(mel)[:, None], frames.to(mel.device))
    assert blended is not None  # a layout has a window
    mel = blended[:, 0]
    vocoder = parts.vocoder
    ends = 0 if layout.fixed_ends else chunks.receptive_frames(vocoder.config)
    around = torch.arange(-ends, scaled.rows + ends, device=mel.device) % scaled.rows
    with parts.placed(vocoder):
        wave = chunks.vocode(vocoder, mel[:, around].to(weight_of(vocoder)), VOCODED_FRAMES)
    hop = vocoder.config.hop_length
    return wave if layout.fixed_ends else wave[:, ends * hop : (ends + scaled.rows) * hop]
