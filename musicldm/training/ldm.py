"""The latent diffusion model's stage: the U-Net learns to predict noise; everything else is frozen."""
# ruff: noqa: RUF009  (`key` makes a dataclass field; nothing it returns is shared)

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from musicldm.checkpoint import save_components
from musicldm.io.distributed import Group
from musicldm.mel import MUSICLDM_16K, log_mel
from musicldm.pipeline import MusicLDMPipeline
from musicldm.unet import ResBlock, Transformer, UNet

from .adapter import AdapterStage, LoRASettings
from .conditions import Condition, Conditions, with_nulls
from .config import ConfigError, key
from .data import ClipSource, clip_store, sources
from .parts import clap_part, network_part, scheduler_part
from .remembered import NOTHING, Store
from .settings import RunConfig
from .stage import Batch, Draws, Loss, Preview, Stage, Turn, warmup
from .targets import ClipLatents, MixedLatents, latent_scale, scaled

__all__ = ["Config", "LDMSettings", "LDMStage", "Parts", "build", "zero_outputs"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the networks come from: a folder or hub id, "preset:16k", or a table with the architecture."""

    init: str = key("folder or hub id for every part that is not named", "")
    unet: str | dict[str, Any] = key("what is trained; empty: init's", "")
    vae: str = key("folder or hub id; empty: init's", "")
    vocoder: str = key("folder or hub id; empty: init's", "")
    clap: str = key("folder or hub id with text_encoder, tokenizer, feature_extractor; empty: init's", "")
    scheduler: str = key("folder or hub id of the noise schedule; empty: init's, or the published one", "")


@dataclass(frozen=True, kw_only=True)
class LDMSettings:
    """The authors' recipe, where it is known."""

    lr: float = key("AdamW's learning rate", 3e-5)
    betas: tuple[float, ...] = key("AdamW's", (0.9, 0.999))
    weight_decay: float = key("AdamW's", 0.01)
    warmup: int = key("steps in which the learning rate grows to its value", 1000)
    condition: Literal["audio", "text", "mix"] = key(
        "CLAP embedding of the clip, of its caption, or either", "audio"
    )
    text_share: float = key("for condition = mix: of clips that are told their caption", 0.5)
    null_share: float = key("of clips that are told the empty prompt, for guidance", 0.1)
    preview_steps: int = key("solver steps of a preview", 50)
    preview_guidance: float = key("guidance of a preview", 2.0)


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """`musicldm train ldm`."""

    parts: Parts = key("networks")
    ldm: LDMSettings = key("the stage", LDMSettings())
    lora: LoRASettings = key("an adapter in place of the U-Net's weights", LoRASettings())


class LDMStage(Stage):
    """Noise prediction on latents, given a CLAP embedding.

    pipe: the seven parts, of which the U-Net is trained. target: what is denoised and heard (`targets.py`).
    store: keeps CLAP's embeddings of clips that come again.
    scratch: the U-Net has no training behind it, so that the latent scale is measured on the first batch.

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 14; RetroCirce/MusicLDM c8100b5, musicldm.py. Differs:
    the null condition is drawn in training only; CLAP stays in evaluation mode and hears the middle 10 s of a
    clip, not random ones.
    """

    def __init__(
        self,
        pipe: MusicLDMPipeline,
        target: ClipLatents,
        settings: LDMSettings,
        group: Group,
        *,
        scratch: bool,
        store: Store = NOTHING,
    ) -> None:
        self.pipe = pipe.to(group.device)
        for frozen in (pipe.vae, pipe.vocoder, pipe.text_encoder):
            frozen.requires_grad_(False).eval()
        self.unet: UNet = pipe.unet
        self.target, self.settings, self.group, self.scratch = target, settings, group, scratch
        self.schedule = pipe.scheduler.noise_schedule
        aims: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
            "epsilon": lambda latents, noise, timesteps: noise,
            "v_prediction": self.schedule.velocity,
            "sample": lambda latents, noise, timesteps: latents,
        }
        self.aim = aims[pipe.scheduler.prediction_type]
        known = Conditions(pipe.clap, MUSICLDM_16K.sampling_rate, settings.text_share, store)
        ways: dict[str, Condition] = {"audio": known.audio, "text": known.text, "mix": known.mix}
        self.condition = ways[settings.condition]
        self.null = pipe.clap.embed_text([""])[0]
        self.networks = nn.ModuleDict({"unet": self.unet})
        self.averaged = ("unet",)
        adam = _adamw(settings, self.unet.parameters())
        self.turns = (Turn("denoise", adam, self.loss, warmup(settings.warmup)),)

    def prepare(self, share: Sequence[tuple[Batch, Draws]]) -> None:
        """From scratch, the latent scale; a trained U-Net has one already."""
        if self.scratch:
            scaled(self.pipe.vae, latent_scale(self.pipe.vae, list(share), self.group))

    def loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        """Of a clip at a timestep of its own."""
        target = self.target(batch, draws)
        cond = self.condition(target, batch["caption"], draws)
        cond = with_nulls(cond, self.null, self.settings.null_share, draws)
        error = self._error(target.latents, cond, draws)
        mixed = [float(outcome == "mixed") for outcome in batch["outcome"]]
        return Loss(error, {"mixed": error.new_tensor(mixed).mean()})

    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The loss without null conditions."""
        target = self.target(batch, draws)
        cond = self.condition(target, batch["caption"], draws)
        return {"loss": self._error(target.latents, cond, draws)}

    def _error(self, latents: Tensor, cond: Tensor, draws: Draws) -> Tensor:
        timesteps = draws.integers(self.schedule.num_train_timesteps).to(latents.device)
        noise = draws.normal(*latents.shape[1:]).to(latents.device)
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        made = self.unet(noisy, timesteps, cond)
        return F.mse_loss(made.float(), self.aim(latents, noise, timesteps).float())

    def previews(self, batch: Batch) -> list[Preview]:
        """A clip for each caption; without captions, for the clips' own embeddings."""
        captions = list(batch["caption"])
        rate = MUSICLDM_16K.sampling_rate
        told: dict[str, Any] = {"prompt": captions}
        if not all(captions):
            told = {"prompt_embeds": self.pipe.clap.embed_audio(batch["wave"], rate)}
        made: Any = self.pipe(
            **told,
            audio_length_in_s=batch["wave"].shape[1] / rate,
            num_inference_steps=self.settings.preview_steps,
            guidance_scale=self.settings.preview_guidance,
            seed=0,
        )
        waves = made.audios
        mels = log_mel(torch.from_numpy(waves))[:, 0].numpy()
        return [
            Preview(caption or f"clip {place}", mel, wave, rate)
            for place, (caption, mel, wave) in enumerate(zip(captions, mels, waves, strict=True))
        ]

    def save(self, folder: Path) -> None:
        """All parts: a folder that the pipeline loads."""
        save_components(folder, self.pipe.components)

    def facts(self) -> dict[str, float]:
        """The latent scale."""
        return {"scaling_factor": self.pipe.vae.config.scaling_factor}

    def restore(self, facts: Mapping[str, float]) -> None:
        """The latent scale."""
        scaled(self.pipe.vae, facts["scaling_factor"])


def zero_outputs(unet: UNet) -> None:
    """Make a new U-Net predict 0, and each of its residual branches add 0: where it starts to learn from.

    Source: RetroCirce/MusicLDM c8100b5, openaimodel.py, the layers wrapped in `zero_module`.
    """
    last: list[nn.Conv2d | nn.Linear] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, ResBlock):
            last.append(module.conv2)
        elif isinstance(module, Transformer):
            last.append(module.proj_out)
    for layer in last:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def build(config: Config, group: Group) -> tuple[Stage, ClipSource, ClipSource | None]:
    """The stage and its clips. Raises ValueError for what cannot be honoured."""
    parts, mixup = config.parts, config.mixup
    if mixup.strategy != "none" and config.ldm.condition != "audio":
        raise ConfigError(
            f"mixup.strategy {mixup.strategy!r} with ldm.condition {config.ldm.condition!r}: a mix has "
            'no caption; train with condition "audio", then fine-tune with "text" and strategy "none"'
        )
    unet = network_part("unet", parts.unet or parts.init, config.seed)
    if unet.scratch:
        zero_outputs(unet.network)
    if config.loop.precision == "bfloat16":  # 1.3 times the clips a second on a CPU with AMX
        unet.network.to(memory_format=torch.channels_last)
    clap = clap_part(parts.clap or parts.init)
    pipe = MusicLDMPipeline(
        vae=network_part("vae", parts.vae or parts.init, config.seed).network,
        text_encoder=clap.model,
        tokenizer=clap.tokenizer,
        feature_extractor=clap.front_end,
        unet=unet.network,
        scheduler=scheduler_part(parts.scheduler or parts.init),
        vocoder=network_part("vocoder", parts.vocoder or parts.init, config.seed).network,
    )
    store = clip_store(config)
    target = (
        MixedLatents(pipe.vae, pipe.vocoder, mixup.padding, store)
        if mixup.strategy == "blm"
        else ClipLatents(pipe.vae, store)
    )
    train, held_out = sources(config, pipe.vae.config.factor)
    stage = LDMStage(pipe, target, config.ldm, group, scratch=unet.scratch, store=store)
    return (_adapted(stage, config) if config.lora.rank else stage), train, held_out


def _adamw(settings: LDMSettings, parameters: Iterable[nn.Parameter]) -> AdamW:
    betas = (settings.betas[0], settings.betas[1])
    return AdamW(parameters, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay)


def _adapted(stage: LDMStage, config: Config) -> AdapterStage:
    """The same, with a LoRA adapter trained in place of the U-Net. Raises ConfigError without a base."""
    if stage.scratch:
        raise ConfigError(
            f"lora.rank {config.lora.rank}: an adapter needs a trained U-Net to adapt; name one by "
            "parts.init or parts.unet"
        )
    base = str(config.parts.unet or config.parts.init)
    optimizer = partial(_adamw, config.ldm)
    return AdapterStage(stage, stage.unet, config.lora, optimizer, base_model=base, seed=config.seed)
