"""The seven parts of a checkpoint: loaded, saved, moved, compiled, and what each can do by itself.

Clips to latents and back, prompts and clips to CLAP embeddings. How parts work together is in `stages`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import chunks, inputs, lora, lora_file, waves
from .approximations import Steps
from .checkpoint import Heads, load_components, save_components
from .clap import CLAP, ClapModel, FrontEnd, Tokenizer
from .compilation import compile_in_place
from .mel import MUSICLDM_16K, MelConfig, log_mel
from .schedulers import Scheduler
from .unet import UNet
from .vae import VAE
from .vocoder import HiFiGAN

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Parts", "weight_of"]

DECODED_WHOLE = 512  # latent rows, 20 s in the published model: longer clips are decoded by pieces ...
DECODED_ROWS = 64  # ... of this length
VOCODED_FRAMES = 1024


class Parts:
    """Networks, tokenizer, scheduler. `MusicLDMPipeline` is this and the call that makes clips.

    `scheduler` may be set at any time; the other parts are modules like any other. Parts can be shared:
    `type(pipe)(**pipe.components)` copies nothing.
    """

    def __init__(
        self,
        vae: VAE,
        text_encoder: ClapModel,
        tokenizer: Tokenizer,
        feature_extractor: FrontEnd,
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
        self.step_functions = Steps()
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
    ) -> Self:
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
    def columns(self) -> int:
        """Latent columns: mel bins over the VAE's factor."""
        return self.vocoder.config.model_in_dim // self.vae.config.factor

    @property
    def default_seconds(self) -> float:
        """Length of the model's training clips."""
        return self.grid.seconds(self.unet.config.sample_size)

    @property
    def _modules(self) -> tuple[nn.Module, ...]:
        return self.vae, self.text_encoder, self.unet, self.vocoder

    def to(self, *device_or_dtype: Any, memory_format: torch.memory_format | None = None) -> Self:
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
    ) -> Self:
        """Compile the sampling step, the VAE's decoder and the vocoder, as they stand. Returns the pipeline.

        Each new size of batch or length compiles at its first clip, which takes minutes on a CPU, and says
        so; dynamic=True makes one graph for all lengths. Parameters stay parameters: keys do not change, and
        later `.to(...)`, adapters or training steps are seen. mode: torch.compile's; "reduce-overhead" for
        CUDA graphs.
        """
        options: dict[str, Any] = {"mode": mode, "dynamic": dynamic, "backend": backend}
        self.step_functions = Steps().compiled(**options)
        for module in (self.vae.decoder, self.vocoder):
            compile_in_place(module, **options)
        return self

    @property
    def device(self) -> torch.device:
        """Where the next call computes."""
        return self._offload_to or weight_of(self.unet).device

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
    def placed(self, module: nn.Module) -> Iterator[None]:
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

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (b, c, t, f) at unit scale -> (b, s) waveform, uncut: the VAE's decoder, then the
        vocoder, by pieces where the clip is long."""
        return self.vocode(self.decode_mel(latents))

    def decode_mel(self, latents: Tensor) -> Tensor:
        """latents: (b, c, t, f) at unit scale -> (b, mel frames, mel bins) log-mel, in the VAE's dtype."""
        with self.placed(self.vae):
            latents = latents.to(weight_of(self.vae))
            return chunks.decode(self.vae, latents, DECODED_ROWS, DECODED_WHOLE)[:, 0]

    def vocode(self, mel: Tensor) -> Tensor:
        """mel: (b, t, f) log-mel -> (b, s) waveform, uncut."""
        with self.placed(self.vocoder):
            return chunks.vocode(self.vocoder, mel.to(weight_of(self.vocoder)), VOCODED_FRAMES)

    def encode(
        self,
        wave: waves.Wave,
        rate: int,
        *,
        generator: torch.Generator | None = None,
        mel: MelConfig = MUSICLDM_16K,
    ) -> Tensor:
        """A clip at `rate` Hz, or a batch of them -> (b, c, t, f) latents at unit scale.

        wave: see `waves.as_waves` for layouts and sample types. The clip is resampled to the model's rate
        and padded at its end, with silence, to whole latent rows (0.04 s in the published model):
        `decode(latents)[:, :s]` has the length of the clip again. Its level is left alone. The mean of the
        posterior, or with a generator a draw of it. Gradients flow, unless the rate has to change.

        Raises TypeError or ValueError for what is no clip, and if `mel` is not what the vocoder is made for.
        """
        self._check_mel(mel)
        clips = waves.as_waves(wave, rate, self.grid.rate).to(self.device)
        missing = self.grid.rows(clips.shape[1]) * self.grid.hop * self.grid.factor - clips.shape[1]
        log_mels = log_mel(nn.functional.pad(clips, (0, missing)), mel)
        with self.placed(self.vae):
            posterior = self.vae.encode(log_mels.to(weight_of(self.vae)))
        drawn = posterior.mode() if generator is None else posterior.sample(generator)
        return drawn.float() * self.vae.config.scaling_factor

    def embed_text(self, prompts: str | Sequence[str]) -> Tensor:
        """b prompts -> (b, d) unit-norm CLAP embeddings: what `prompt_embeds` takes."""
        with self.placed(self.text_encoder):
            return self.clap.embed_text(inputs.as_prompts(prompts))

    def embed_audio(self, wave: waves.Wave, rate: int) -> Tensor:
        """A clip at `rate` Hz, or a batch of them -> (b, d) unit-norm CLAP embeddings.

        MusicLDM was trained on these, so `prompt_embeds=pipe.embed_audio(...)` asks for something like the
        clip. CLAP hears the middle 10 s. wave: as for `encode`.
        """
        clips = waves.as_waves(wave, rate, rate)
        with self.placed(self.text_encoder):
            return self.clap.embed_audio(clips, rate)

    def _check_mel(self, mel: MelConfig) -> None:
        vocoder = self.vocoder.config
        ours = (mel.sampling_rate, mel.hop_length, mel.n_mels)
        theirs = (vocoder.sampling_rate, vocoder.hop_length, vocoder.model_in_dim)
        if ours != theirs:
            raise ValueError(
                f"encode: got a mel of (rate, hop, bins) {ours} for a vocoder of {theirs}; pass "
                "mel=MelConfig(...) with the settings that this checkpoint was trained with"
            )


def weight_of(module: nn.Module) -> Tensor:
    """A parameter that shows a network's dtype and device."""
    return next(module.parameters())
