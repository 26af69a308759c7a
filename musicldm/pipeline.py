"""Text to waveform: the published pipeline's call, over the stages of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from . import inputs, stages
from .parts import Parts
from .stages import Generators, MusicLDMOutput, Request

__all__ = ["MusicLDMOutput", "MusicLDMPipeline"]


class MusicLDMPipeline(Parts):
    """The seven parts of a checkpoint and the call that runs them.

    What the parts can do by themselves (load, save, move, compile, encode, decode, embed) is `Parts`.

    Source of the call: Diffusers 0.33.1, MusicLDMPipeline. Differs: candidates are ranked inside their
    prompt; lengths are exact; a negative prompt may be one for all and goes with `prompt_embeds`; what cannot
    be honoured is an error.
    """

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        audio_length_in_s: float | None = None,
        num_inference_steps: int = 200,
        guidance_scale: float = 2.0,
        negative_prompt: str | Sequence[str] | None = None,
        num_waveforms_per_prompt: int = 1,
        eta: float = 0.0,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        return_dict: bool = True,
        callback: Callable[[int, float, Tensor], None] | None = None,
        callback_steps: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        output_type: Literal["np", "pt", "latent"] = "np",
        *,
        seed: int | Sequence[int] | None = None,
        guidance_interval: tuple[float, float] | None = None,
        feature_reuse: int = 1,
    ) -> MusicLDMOutput | tuple[Any]:
        """Prompts, or their CLAP embeddings (b, d), -> b n clips of exactly `round(rate * seconds)` samples.

        seed: an int, or one per clip; clip k of an int has seed + k, and sounds the same alone or in any
        batch. generator: draws as the published pipeline does. latents: (b n, c, rows, columns) of unit
        variance. guidance_scale: up to 1 there is no guidance, as in the published pipeline. eta: share of
        ancestral noise, for DDIM. cross_attention_kwargs: {"scale": s} makes the loaded adapters s times as
        strong for this call. callback(step, timestep, latents): the latents are live.

        Two approximations, off by default (see `approximations`): guidance_interval, the lowest and the
        highest timestep (0 clean, 999 noise) with guidance; feature_reuse=n, the deep levels of the U-Net at
        every n-th evaluation only.

        Raises TypeError or ValueError, before any work, for whatever cannot be honoured; FloatingPointError
        if a network overflows.
        """
        request = Request(
            prompt=prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            num_waveforms_per_prompt=num_waveforms_per_prompt,
            eta=eta,
            generator=generator,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            callback=callback,
            callback_steps=callback_steps,
            cross_attention_kwargs=cross_attention_kwargs,
            output_type=output_type,
            seed=seed,
            guidance_interval=guidance_interval,
            feature_reuse=feature_reuse,
        )
        output = self._generate(request, audio_length_in_s, latents)
        return output if return_dict else (output.audios,)

    def _generate(self, request: Request, seconds: float | None, latents: Tensor | None) -> MusicLDMOutput:
        job = stages.check(self, request)
        samples = self.grid.samples(self.default_seconds if seconds is None else seconds)
        rows = self.grid.rows(samples)
        if latents is not None:
            inputs.check_latents(latents, job.shape(rows))
        conditions = stages.condition(job)
        noise = job.noise(rows) if latents is None else latents.to(self.device)
        *_, last = stages.run(job, conditions.denoiser(job.plan), job.plan, noise)
        if request.output_type == "latent":
            return MusicLDMOutput(last.x, None, stages.unranked(job))
        return stages.present(job, stages.finish(self, last.x, samples), conditions.embeds)
