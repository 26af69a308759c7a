"""The VAE's stage: log-mel -> latents -> log-mel, with a patch discriminator from a set step on."""
# ruff: noqa: RUF009  (`key` makes a dataclass field; nothing it returns is shared)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from musicldm.checkpoint import save_network
from musicldm.io.distributed import Group
from musicldm.mel import MUSICLDM_16K
from musicldm.vae import VAE, Posterior
from musicldm.vocoder import HiFiGAN

from .config import key
from .data import ClipSource, refuse_latent_mixup, sources
from .front import mel_of
from .parts import network_part
from .patch import PatchDiscriminator
from .settings import RunConfig
from .stage import Batch, Draws, Loss, Preview, Stage, Turn, warmup
from .vae_losses import adaptive_weight, hinge, kl_divergence, reconstruction, sampled

__all__ = ["Config", "Parts", "VAESettings", "VAEStage", "build"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the networks come from: a folder or hub id, "preset:16k", or a table with the architecture."""

    init: str = key("folder or hub id for every part that is not named", "")
    vae: str | dict[str, Any] = key("what is trained; empty: init's", "")
    vocoder: str | dict[str, Any] = key("makes previews audible; empty: previews are pictures alone", "")


@dataclass(frozen=True, kw_only=True)
class VAESettings:
    """The authors' recipe, where it is known."""

    lr: float = key("Adam's learning rate, of both networks", 4.5e-6)
    betas: tuple[float, ...] = key("Adam's", (0.5, 0.9))
    warmup: int = key("steps in which the learning rate grows to its value", 0)
    kl_weight: float = key(
        "of the divergence, summed over latents, against the summed reconstruction error", 1.0
    )
    judge_from: int = key("the first step with the discriminator", 50001)
    judge_weight: float = key("of the adversarial term, on top of its adaptive weight", 0.5)
    judge_channels: int = key("the discriminator's first width", 64)
    judge_layers: int = key("the discriminator's layers", 3)


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """`musicldm train vae`."""

    parts: Parts = key("networks")
    vae: VAESettings = key("the stage", VAESettings())


class VAEStage(Stage):
    """Reconstruction, divergence, and from `judge_from` on the adversarial term.

    Source: RetroCirce/MusicLDM c8100b5, autoencoder.py, training_step, and the run's settings in
    musicldm.yaml; the losses are `vae_losses`'. Differs: see there; and the discriminator's turn begins
    together with the adversarial term, where the original runs it from the start at weight 0.
    """

    def __init__(
        self,
        vae: VAE,
        judge: PatchDiscriminator,
        settings: VAESettings,
        group: Group,
        vocoder: HiFiGAN | None = None,
    ) -> None:
        self.vae, self.judge = vae.to(group.device), judge.to(group.device)
        self.vocoder = None if vocoder is None else vocoder.to(group.device).requires_grad_(False)
        self.settings, self.group = settings, group
        self.networks = nn.ModuleDict({"vae": self.vae, "judge": self.judge})
        self.averaged = ("vae",)
        betas = (settings.betas[0], settings.betas[1])
        rate = warmup(settings.warmup)
        autoencode = Adam(vae.parameters(), lr=settings.lr, betas=betas)
        judging = Adam(judge.parameters(), lr=settings.lr, betas=betas)
        self.turns = (
            Turn("autoencode", autoencode, self.autoencoder_loss, rate),
            Turn("judge", judging, self.judge_loss, rate, starts=settings.judge_from),
        )

    def autoencoder_loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        """The encoder's and decoder's turn."""
        mel = mel_of(batch["wave"])
        made, posterior = self._through(mel, draws)
        error, kl = reconstruction(made, mel), kl_divergence(posterior)
        loss = error + self.settings.kl_weight * kl / mel[0].numel()
        figures = {"reconstruction": error, "kl": kl}
        if step < self.settings.judge_from:
            return Loss(loss, figures)
        adversarial = -self.judge(made).float().mean()
        weight = self.settings.judge_weight * self._adaptive(error, adversarial)
        return Loss(loss + weight * adversarial, {**figures, "adversarial": adversarial, "weight": weight})

    def judge_loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        """The discriminator's turn."""
        mel = mel_of(batch["wave"])
        made, _ = self._through(mel, draws)
        return Loss(hinge(self.judge(mel), self.judge(made)))

    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Of the posterior's mean: what the LDM and the user get is decoded from about there."""
        mel = mel_of(batch["wave"])
        posterior = self.vae.encode(mel)
        error, kl = reconstruction(self._decoded(posterior.mode()), mel), kl_divergence(posterior)
        loss = error + self.settings.kl_weight * kl / mel[0].numel()
        return {"loss": loss, "reconstruction": error, "kl": kl}

    def previews(self, batch: Batch) -> list[Preview]:
        """Reconstructions, heard through the vocoder if there is one."""
        made = self._decoded(self.vae.encode(mel_of(batch["wave"])).mode())[:, 0].float()
        waves: list[Any] = [None] * len(made)
        if self.vocoder is not None:
            waves = list(self.vocoder(made).float().cpu().numpy())
        return [
            Preview(f"reconstruction {place}", mel.cpu().numpy(), wave, MUSICLDM_16K.sampling_rate)
            for place, (mel, wave) in enumerate(zip(made, waves, strict=True))
        ]

    def save(self, folder: Path) -> None:
        """vae/ of the hub's layout."""
        save_network(folder, "vae", self.vae)

    def _through(self, mel: Tensor, draws: Draws) -> tuple[Tensor, Posterior]:
        posterior = self.vae.encode(mel)
        latents = sampled(posterior, draws.normal(*posterior.mean.shape[1:]))
        return self._decoded(latents), posterior

    def _decoded(self, latents: Tensor) -> Tensor:
        """latents in the encoder's own units: the latent scale is for the LDM."""
        return self.vae.decode(latents * self.vae.config.scaling_factor)

    def _adaptive(self, error: Tensor, adversarial: Tensor) -> Tensor:
        """Both gradients are averaged over processes first, so that all have one weight."""
        last = self.vae.decoder.conv_out.weight
        gradients = [torch.autograd.grad(term, last, retain_graph=True)[0] for term in (error, adversarial)]
        mean = [self.group.sum(gradient) / self.group.world for gradient in gradients]
        return adaptive_weight(mean[0], mean[1])


def build(config: Config, group: Group) -> tuple[VAEStage, ClipSource, ClipSource | None]:
    """The stage and its clips. Raises ValueError for what cannot be honoured."""
    refuse_latent_mixup(config.mixup)
    parts = config.parts
    vae = network_part("vae", parts.vae or parts.init, config.seed).network
    source = parts.vocoder or parts.init
    vocoder = network_part("vocoder", source, config.seed).network if source else None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        judge = PatchDiscriminator(config.vae.judge_channels, config.vae.judge_layers)
    train, held_out = sources(config, vae.config.factor)
    return VAEStage(vae, judge, config.vae, group, vocoder), train, held_out
