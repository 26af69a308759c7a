"""Text to waveform: the published pipeline's call, over the functions of this package."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from . import audio, chunks, inputs, lora, lora_file
from .approximations import Steps, in_interval
from .checkpoint import Heads, load_components, save_components
from .clap import CLAP
from .compilation import compile_in_place
from .ranking import rank
from .sampling import Conditioned, Denoiser, Guided, draw_noise, iterate
from .schedulers import Scheduler
from .schedulers.plan import Plan
from .unet import UNet
from .vae import VAE
from .vocoder import HiFiGAN

__all__ = ["MusicLDMOutput", "MusicLDMPipeline"]

log = logging.getLogger(__name__)

Generators = torch.Generator | Sequence[torch.Generator] | None
DECODED_ROWS = 512  # of latents, 20 s: longer clips are decoded by pieces, in flat memory
VOCODED_FRAMES = 1024


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


class MusicLDMPipeline:
    """The seven parts of a checkpoint and the call that runs them.

    `scheduler` may be set at any time; the other parts are modules like any other. Parts can be shared:
    `MusicLDMPipeline(**pipe.components)` copies nothing.

    Source of the call: Diffusers 0.33.1, MusicLDMPipeline. Differs: candidates are ranked inside their
    prompt; lengths are exact; a negative prompt may be one for all and goes with `prompt_embeds`; what cannot
    be honoured is an error.
    """

    def __init__(
        self,
        vae: VAE,
        text_encoder: Any,
        tokenizer: Any,
        feature_extractor: Any,
        unet: UNet,
        scheduler: Scheduler,
        vocoder: HiFiGAN,
    ) -> None:
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor
        self.unet = unet
        self.scheduler = scheduler
        self.vocoder = vocoder
        self._offload_to: torch.device | None = None
        self._steps = Steps()
        self._check_seams()

    def _check_seams(self) -> None:
        unet, vae, vocoder = self.unet.config, self.vae.config, self.vocoder.config
        seams = [
            ("latent channels", "U-Net input", unet.in_channels, "VAE", vae.latent_channels),
            ("latent channels", "U-Net output", unet.out_channels, "VAE", vae.latent_channels),
            ("condition width", "U-Net", unet.cond_dim, "CLAP", self.clap.dim),
            ("mel bins over the VAE's factor", "vocoder", vocoder.model_in_dim % vae.factor, "remainder", 0),
        ]
        for what, left, a, right, b in seams:
            if a != b:
                raise ValueError(f"these parts do not fit together: {what}, {left} {a}, {right} {b}")

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | os.PathLike[str],
        *,
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        heads: Heads = None,
    ) -> MusicLDMPipeline:
        """A pipeline from a hub id or a local folder; float32 unless `torch_dtype` says otherwise.

        The arguments and errors are those of `checkpoint.load_components`.
        """
        return cls(
            **load_components(
                id_or_folder,
                torch_dtype=torch_dtype or torch.float32,
                revision=revision,
                variant=variant,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                heads=heads,
            )
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder in the hub's layout (safetensors), which Diffusers 0.33.1 can read too.

        Raises ValueError while an adapter is loaded: the base or the merged model could be meant.
        """
        if lora.is_attached(self.unet):
            raise ValueError(
                "save_pretrained: an adapter is loaded; call pipe.unload_lora() to write the model without "
                "it, or musicldm.lora.merge(pipe.unet) to write the model with it"
            )
        save_components(folder, self.components)

    def load_lora(self, path: str | os.PathLike[str], scale: float = 1.0, *, any_base: bool = False) -> None:
        """Put a LoRA adapter (.safetensors) on the U-Net, `scale` times as strong, beside those there.

        The errors are those of `lora_file.load_adapter`. Pipelines that share the U-Net share the adapter.
        """
        lora_file.load_adapter(self.unet, path, scale, any_base=any_base)

    def unload_lora(self) -> None:
        """Take all adapters off the U-Net, merged ones too; it is then as it was, bit for bit."""
        lora.detach(self.unet)

    @property
    def components(self) -> dict[str, Any]:
        """The seven parts, by the constructor's names."""
        return {
            "vae": self.vae,
            "text_encoder": self.text_encoder,
            "tokenizer": self.tokenizer,
            "feature_extractor": self.feature_extractor,
            "unet": self.unet,
            "scheduler": self.scheduler,
            "vocoder": self.vocoder,
        }

    @property
    def clap(self) -> CLAP:
        """Prompts and clips to conditions, by the parts that the pipeline has now."""
        return CLAP(self.text_encoder, self.tokenizer, self.feature_extractor)

    @property
    def grid(self) -> inputs.Grid:
        """Seconds to samples to latent rows, by the parts that the pipeline has now."""
        vocoder = self.vocoder.config
        return inputs.Grid(vocoder.sampling_rate, vocoder.hop_length, self.vae.config.factor)

    @property
    def _modules(self) -> tuple[nn.Module, ...]:
        return self.vae, self.text_encoder, self.unet, self.vocoder

    def to(self, *device_or_dtype: Any, memory_format: torch.memory_format | None = None) -> MusicLDMPipeline:
        """Move every network to a device, a dtype, or both. Returns the pipeline.

        memory_format: torch.channels_last or contiguous_format, for the 2-d convolutions of U-Net and VAE.
        """
        for module in self._modules:
            module.to(*device_or_dtype)
        if memory_format is not None:
            for module in (self.unet, self.vae):
                module.to(memory_format=memory_format)  # type: ignore[call-overload]
        return self

    def compile(
        self,
        *,
        mode: str | None = None,
        dynamic: bool = False,
        backend: str | Callable[..., Any] = "inductor",
    ) -> MusicLDMPipeline:
        """Compile the sampling step, the VAE's decoder and the vocoder, as they stand. Returns the pipeline.

        Each new size of batch or length compiles at its first clip, which takes minutes on a CPU, and says
        so; dynamic=True makes one graph for all lengths. Parameters stay parameters: keys do not change, and
        later `.to(...)`, adapters or training steps are seen. mode: torch.compile's; "reduce-overhead" for
        CUDA graphs.
        """
        options: dict[str, Any] = {"mode": mode, "dynamic": dynamic, "backend": backend}
        self._steps = Steps().compiled(**options)
        for module in (self.vae.decoder, self.vocoder):
            compile_in_place(module, **options)
        return self

    @property
    def device(self) -> torch.device:
        """Where the next call computes."""
        return self._offload_to or _weight(self.unet).device

    def enable_model_cpu_offload(self, gpu_id: int = 0) -> None:
        """Keep the networks on the CPU and bring each to the GPU, whole, for the time that it works.

        Raises RuntimeError where there is no such GPU.
        """
        if gpu_id >= torch.cuda.device_count():
            raise RuntimeError(
                f"enable_model_cpu_offload: there is no GPU {gpu_id} here ({torch.cuda.device_count()} "
                "found); "
                "without it the pipeline runs on the CPU as it is"
            )
        self.to("cpu")
        self._offload_to = torch.device("cuda", gpu_id)

    @contextmanager
    def _placed(self, module: nn.Module) -> Iterator[None]:
        """`module` on the GPU while offloading, and back. Every use of a network goes through here, methods
        too."""
        if self._offload_to is None:
            yield
            return
        module.to(self._offload_to)
        try:
            yield
        finally:
            module.to("cpu")

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
        n = inputs.as_count(num_waveforms_per_prompt, "num_waveforms_per_prompt")
        inputs.as_count(callback_steps, "callback_steps")
        every = inputs.as_count(feature_reuse, "feature_reuse")
        interval = inputs.as_interval(guidance_interval)
        guidance = inputs.as_guidance(guidance_scale)
        if output_type not in ("np", "pt", "latent"):
            raise ValueError(f"output_type: got {output_type!r}, expected 'np', 'pt' or 'latent'")
        lora_scale = lora.call_scale(self.unet, cross_attention_kwargs)
        prompts, negatives = inputs.as_conditions(
            prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, self.clap.dim
        )
        batch = len(prompts)
        if audio_length_in_s is None:
            audio_length_in_s = self.grid.seconds(self.unet.config.sample_size)
        samples = self.grid.samples(audio_length_in_s)
        columns = self.vocoder.config.model_in_dim // self.grid.factor
        shape = (batch * n, self.unet.config.in_channels, self.grid.rows(samples), columns)
        if latents is not None:
            inputs.check_latents(latents, shape)
        generators = inputs.as_generators(generator, seed, batch * n)
        scheduler = self.scheduler.with_eta(eta) if eta else self.scheduler
        plan = scheduler.plan(inputs.as_count(num_inference_steps, "num_inference_steps"))

        cond = self._embed(prompts)
        denoiser = self._denoiser(cond, negatives, n, guidance, interval, plan)
        # parity: the published pipeline draws in the model's dtype, on which a generator's stream depends
        drawn_dtype = _weight(self.unet).dtype if seed is None else torch.float32
        draw = partial(draw_noise, shape, generators, self.device, drawn_dtype)
        noise = draw() if latents is None else latents.to(self.device)
        step_noise = (draw() for _ in range(len(plan))) if plan.stochastic else None
        run = self._steps.start(every)
        with self._placed(self.unet), lora.scaled(self.unet, lora_scale):
            for step in iterate(denoiser, plan, noise.float(), step_noise=step_noise, step=run):
                if callback is not None and step.row % callback_steps == 0:
                    callback(step.row, step.timestep, step.x)
        if output_type == "latent":
            return self._output(step.x, None, _unranked(batch, n), return_dict)
        wave = self._finite(self.decode(step.x)[:, :samples].float())
        wave, scores, order = self._ranked(wave, cond) if n > 1 else (wave, None, _unranked(batch, n))
        audios = wave.cpu().numpy()
        for k, clip in enumerate(audios):
            audio.warn_if_silent(clip, f"clip {k}")
        return self._output(wave if output_type == "pt" else audios, scores, order, return_dict)

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (b, c, t, f) at unit scale -> (b, s) waveform, uncut: the VAE's decoder, then the
        vocoder, by pieces where the clip is long."""
        with self._placed(self.vae):
            mel = chunks.decode(self.vae, latents.to(_weight(self.vae)), DECODED_ROWS)
        with self._placed(self.vocoder):
            return chunks.vocode(self.vocoder, mel[:, 0].to(_weight(self.vocoder)), VOCODED_FRAMES)

    def _embed(self, prompts: inputs.Prompts) -> Tensor:
        if isinstance(prompts, Tensor):
            return prompts
        with self._placed(self.text_encoder):
            return self.clap.embed_text(prompts)

    def _denoiser(
        self,
        cond: Tensor,
        negatives: inputs.Prompts,
        n: int,
        guidance: float,
        interval: tuple[float, float] | None,
        plan: Plan,
    ) -> Denoiser | Sequence[Denoiser]:
        def each(embeds: Tensor) -> Tensor:  # one condition per clip
            return embeds.to(_weight(self.unet)).expand(len(cond), -1).repeat_interleave(n, dim=0)

        if guidance <= 1:
            if isinstance(negatives, Tensor) or any(negatives):
                log.warning("guidance_scale %g is no guidance: the negative prompt has no effect", guidance)
            return Conditioned(self.unet, each(cond).to(self.device))
        uncond = self._embed(negatives)
        guided = Guided(self.unet, each(cond).to(self.device), each(uncond).to(self.device), guidance)
        if interval is None:
            return guided
        return in_interval(plan, interval, guided, Conditioned(self.unet, each(cond).to(self.device)))

    def _finite(self, wave: Tensor) -> Tensor:
        if not torch.isfinite(wave).all():
            raise FloatingPointError(
                f"the waveform holds NaN or infinity (U-Net {_weight(self.unet).dtype}, VAE "
                f"{_weight(self.vae).dtype}, "
                f"vocoder {_weight(self.vocoder).dtype}); use float32 or bfloat16, for one network with "
                "pipe.vae.to(torch.float32)"
            )
        return wave

    def _ranked(self, wave: Tensor, cond: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
        with self._placed(self.text_encoder):
            heard = self.clap.embed_audio(wave, self.grid.rate)
        scores, order = rank(heard, cond.to(heard.device))
        clips = wave.reshape(*order.shape, -1)
        index = order.to(wave.device)[..., None].expand_as(clips)
        return clips.gather(1, index).flatten(0, 1), scores.cpu().numpy(), order.cpu().numpy()

    @staticmethod
    def _output(
        audios: Any, scores: np.ndarray | None, order: np.ndarray, return_dict: bool
    ) -> MusicLDMOutput | tuple[Any]:
        return MusicLDMOutput(audios, scores, order) if return_dict else (audios,)


def _unranked(batch: int, n: int) -> np.ndarray:
    return np.tile(np.arange(n), (batch, 1))


def _weight(module: nn.Module) -> Tensor:
    """A parameter that shows a network's dtype and device."""
    return next(module.parameters())
