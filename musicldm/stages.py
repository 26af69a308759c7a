"""The stages that generation and editing share: a request is checked, heard, sampled, decoded, handed over.

    job = check(pipe, Request(prompt="...", seed=0))      everything that can be wrong is refused here
    conditions = condition(job)                           CLAP runs
    denoiser = conditions.denoiser(job.plan)
    for step in run(job, denoiser, job.plan, job.noise(rows)): ...
    wave = finish(pipe, step.x, samples)

Each takes what the one before gave, so a method that needs another plan, another denoiser or a change between
two steps replaces that stage and keeps the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import audio, inputs, lora
from .approximations import in_interval
from .parts import Parts, weight_of
from .ranking import rank
from .sampling import Conditioned, Denoiser, Guided, Step, StepFunction, draw_noise, iterate
from .schedulers import Scheduler
from .schedulers.plan import Plan
from .unet import UNet

__all__ = [
    "Conditions",
    "Generators",
    "Job",
    "MusicLDMOutput",
    "Request",
    "check",
    "check_overflow",
    "condition",
    "finish",
    "present",
    "run",
    "unranked",
]

log = logging.getLogger(__name__)

Generators = torch.Generator | Sequence[torch.Generator] | None
OutputType = Literal["np", "pt", "latent"]


@dataclass(frozen=True)
class MusicLDMOutput:
    """What a call gives.

    audios: (b n, s) float32 array or tensor, prompt-major, each prompt's best candidate first; or latents.
    scores: (b, n) CLAP cosines in the same order, None unless ranked. order: (b, n) which candidate, 0 to n -
    1, each clip was: with a seed s, clip (i, j) is s + i n + order[i, j].
    """

    audios: Any
    scores: np.ndarray | None
    order: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a sampling run, whatever it starts from: the arguments of the pipeline's call.

    Names, defaults and meaning are those of `MusicLDMPipeline.__call__`. Nothing is checked here.
    """

    prompt: str | Sequence[str] | None = None
    num_inference_steps: int = 200
    guidance_scale: float = 2.0
    negative_prompt: str | Sequence[str] | None = None
    num_waveforms_per_prompt: int = 1
    eta: float = 0.0
    generator: Generators = None
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    callback: Callable[[int, float, Tensor], None] | None = None
    callback_steps: int = 1
    cross_attention_kwargs: dict[str, Any] | None = None
    output_type: OutputType = "np"
    seed: int | Sequence[int] | None = None
    guidance_interval: tuple[float, float] | None = None
    feature_reuse: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that can be honoured, and the parts that will. No network has run yet.

    prompts, negatives: b texts or embeddings, or one negative for all; n: clips per prompt. plan: that of a
    whole run; `scheduler.plan(steps, skip=...)` makes others. every: `feature_reuse`.
    """

    parts: Parts
    request: Request
    prompts: inputs.Prompts
    negatives: inputs.Prompts
    n: int
    guidance: float
    interval: tuple[float, float] | None
    every: int
    lora_scale: float
    scheduler: Scheduler
    steps: int
    plan: Plan
    generators: torch.Generator | list[torch.Generator] | None

    @property
    def clips(self) -> int:
        """b n, all that is sampled."""
        return len(self.prompts) * self.n

    def shape(self, rows: int) -> tuple[int, int, int, int]:
        """(b n, c, t, f) of that many latent rows."""
        return (self.clips, self.parts.unet.config.in_channels, rows, self.parts.columns)

    def noise(self, rows: int) -> Tensor:
        """The next draw of the clips' generators: (b n, c, t, f) of unit variance, on the device."""
        # parity: the published pipeline draws in the model's dtype, on which a generator's stream depends
        dtype = weight_of(self.parts.unet).dtype if self.request.seed is None else torch.float32
        return draw_noise(self.shape(rows), self.generators, self.parts.device, dtype)


def check(parts: Parts, request: Request, clips: int = 1) -> Job:
    """Raises TypeError or ValueError, before any work, for whatever in a request cannot be honoured.

    Raises MissingLibraryError if candidates cannot be ranked for want of soxr.

    clips: how many an edit starts from; a single prompt is repeated for each, and a single clip serves any
    number of prompts.
    """
    n = inputs.as_count(request.num_waveforms_per_prompt, "num_waveforms_per_prompt")
    inputs.as_count(request.callback_steps, "callback_steps")
    if request.output_type not in ("np", "pt", "latent"):
        raise ValueError(f"output_type: got {request.output_type!r}, expected 'np', 'pt' or 'latent'")
    prompts, negatives = inputs.as_conditions(
        request.prompt,
        request.negative_prompt,
        request.prompt_embeds,
        request.negative_prompt_embeds,
        parts.clap.dim,
        clips,
    )
    if n > 1 and request.output_type != "latent":  # candidates are ranked by what CLAP hears at its own rate
        audio.check_resampler(parts.grid.rate, parts.clap.front_end.sampling_rate)
    scheduler = parts.scheduler.with_eta(request.eta) if request.eta else parts.scheduler
    steps = inputs.as_count(request.num_inference_steps, "num_inference_steps")
    return Job(
        parts=parts,
        request=request,
        prompts=prompts,
        negatives=negatives,
        n=n,
        guidance=inputs.as_guidance(request.guidance_scale),
        interval=inputs.as_interval(request.guidance_interval),
        every=inputs.as_count(request.feature_reuse, "feature_reuse"),
        lora_scale=lora.call_scale(parts.unet, request.cross_attention_kwargs),
        scheduler=scheduler,
        steps=steps,
        plan=scheduler.plan(steps),
        generators=inputs.as_generators(request.generator, request.seed, len(prompts) * n),
    )


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What steers a run. `dataclasses.replace` makes others of them.

    embeds: (b, d), the prompts', by which candidates are ranked. cond: (b n, d), one per clip, on the device
    in the U-Net's dtype; uncond: the same for the other side of guidance, None where there is none.
    """

    unet: UNet
    embeds: Tensor
    cond: Tensor
    uncond: Tensor | None
    guidance: float
    interval: tuple[float, float] | None

    def denoiser(self, plan: Plan) -> Denoiser | Sequence[Denoiser]:
        """For `iterate` over that plan: one for all rows, or one for each if guidance has an interval."""
        plain = Conditioned(self.unet, self.cond)
        if self.uncond is None:
            return plain
        guided = Guided(self.unet, self.cond, self.uncond, self.guidance)
        return guided if self.interval is None else in_interval(plan, self.interval, guided, plain)


def condition(job: Job) -> Conditions:
    """Embed the prompts, and what guidance leads away from."""
    embeds = _embed(job.parts, job.prompts)
    uncond = None
    if job.guidance > 1:
        uncond = _one_per_clip(job, _embed(job.parts, job.negatives))
    elif isinstance(job.negatives, Tensor) or any(job.negatives):
        log.warning("guidance_scale %g is no guidance: the negative prompt has no effect", job.guidance)
    return Conditions(
        unet=job.parts.unet,
        embeds=embeds,
        cond=_one_per_clip(job, embeds),
        uncond=uncond,
        guidance=job.guidance,
        interval=job.interval,
    )


def _embed(parts: Parts, prompts: inputs.Prompts) -> Tensor:
    return prompts if isinstance(prompts, Tensor) else parts.embed_text(prompts)


def _one_per_clip(job: Job, embeds: Tensor) -> Tensor:
    embeds = embeds.to(weight_of(job.parts.unet)).expand(len(job.prompts), -1)
    return embeds.repeat_interleave(job.n, dim=0).to(job.parts.device)


def run(
    job: Job,
    denoiser: Denoiser | Sequence[Denoiser],
    plan: Plan,
    noise: Tensor,
    *,
    step: StepFunction | None = None,
) -> Iterator[Step]:
    """`iterate`, with the U-Net where it computes, the job's adapters, callback and generators.

    noise: (b n, c, t, f), as `iterate` takes it. step: None for the job's own. What the consumer changes in
    a step's `x` is what the callback, and then the next step, see.
    """
    parts, request, rows = job.parts, job.request, noise.shape[2]
    step_noise = (job.noise(rows) for _ in range(len(plan))) if plan.stochastic else None
    step_function = parts.step_functions.start(job.every) if step is None else step
    with parts.placed(parts.unet), lora.scaled(parts.unet, job.lora_scale):
        for made in iterate(denoiser, plan, noise.float(), step_noise=step_noise, step=step_function):
            yield made
            if request.callback is not None and made.row % request.callback_steps == 0:
                request.callback(made.row, made.timestep, made.x)


def finish(parts: Parts, latents: Tensor, samples: int) -> Tensor:
    """latents: (b, c, t, f) at unit scale -> (b, samples) float32 waveform.

    Raises FloatingPointError if a network overflowed.
    """
    return check_overflow(parts, parts.decode(latents)[:, :samples].float())


def check_overflow(parts: Parts, wave: Tensor) -> Tensor:
    """wave: (b, s), as it was. Raises FloatingPointError for NaN or infinity."""
    if not torch.isfinite(wave).all():
        raise FloatingPointError(
            f"the waveform holds NaN or infinity (U-Net {weight_of(parts.unet).dtype}, VAE "
            f"{weight_of(parts.vae).dtype}, vocoder {weight_of(parts.vocoder).dtype}); use float32 or "
            "bfloat16, for one network with pipe.vae.to(torch.float32)"
        )
    return wave


def present(job: Job, wave: Tensor, embeds: Tensor) -> MusicLDMOutput:
    """wave: (b n, s); embeds: (b, d) of the prompts -> the clips, ranked inside their prompt if n > 1."""
    scores, order = None, unranked(job)
    if job.n > 1:
        wave, scores, order = _ranked(job.parts, wave, embeds)
    audios = wave.cpu().numpy()
    for k, clip in enumerate(audios):
        audio.warn_if_silent(clip, f"clip {k}")
    return MusicLDMOutput(wave if job.request.output_type == "pt" else audios, scores, order)


def unranked(job: Job) -> np.ndarray:
    """The order (b, n) of candidates that stand as they were made."""
    return np.tile(np.arange(job.n), (len(job.prompts), 1))


def _ranked(parts: Parts, wave: Tensor, embeds: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
    heard = parts.embed_audio(wave, parts.grid.rate)
    scores, order = rank(heard, embeds.to(heard.device))
    clips = wave.reshape(*order.shape, -1)
    index = order.to(wave.device)[..., None].expand_as(clips)
    return clips.gather(1, index).flatten(0, 1), scores.cpu().numpy(), order.cpu().numpy()
