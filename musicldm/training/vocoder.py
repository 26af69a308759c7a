"""The vocoder's stage: HiFi-GAN, log-mel -> waveform, against judges of periods and of scales."""
# ruff: noqa: RUF009  (`key` makes a dataclass field; nothing it returns is shared)

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import AdamW

from musicldm.checkpoint import save_network
from musicldm.io.distributed import Group
from musicldm.mel import MUSICLDM_16K
from musicldm.vocoder import HiFiGAN

from .config import ConfigError, key
from .data import ClipSource, refuse_latent_mixup, sources
from .discriminators import WaveDiscriminators
from .front import mel_of
from .gan import (
    FEATURE_WEIGHT,
    MEL_WEIGHT,
    feature_matching,
    judge_loss,
    mel_distance,
    offset_distance,
    persuasion,
)
from .parts import network_part
from .settings import RunConfig
from .stage import Batch, Draws, Loss, Preview, Stage, Turn, seed_of

__all__ = ["Config", "Parts", "VocoderSettings", "VocoderStage", "build", "fold", "normed", "segment"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the generator comes from: a folder or hub id, "preset:16k", or a table with the architecture."""

    init: str = key("folder or hub id for what is not named", "")
    vocoder: str | dict[str, Any] = key("what is trained; empty: init's", "")


@dataclass(frozen=True, kw_only=True)
class VocoderSettings:
    """The authors' recipe, which is HiFi-GAN's."""

    lr: float = key("AdamW's learning rate, of both networks", 2e-4)
    betas: tuple[float, ...] = key("AdamW's", (0.8, 0.99))
    decay: float = key("the learning rate is multiplied by this after each pass over the data", 0.999)
    segment: int = key("samples that a clip is cut to in a step; evaluation hears whole clips", 8192)
    judge_width: int = key("channels of the judges' widest layers, a multiple of 128", 1024)
    judge_from: int = key("the first step with the judges; before it, the mel loss alone", 0)


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """`musicldm train vocoder`."""

    parts: Parts = key("networks")
    vocoder: VocoderSettings = key("the stage", VocoderSettings())


class VocoderStage(Stage):
    """Least-squares adversarial loss, feature matching, mel distance.

    vocoder: folded, as it lies on disk; the stage trains a copy with weight norm and folds it when it saves.
    clips: in a pass over the data.

    Source: Kong et al. 2020 (arXiv 2010.05646), section 2; jik876/hifi-gan 4769534, train.py. Differs: each
    turn cuts a segment of its own; the mel front end is the LDM's, since it is the LDM's mels that will be
    heard; a loss on the offset, which a mel does not show (`gan.offset_distance`); the moving average
    (`loop.ema`), which the paper does not have.
    """

    def __init__(
        self,
        vocoder: HiFiGAN,
        judges: WaveDiscriminators,
        settings: VocoderSettings,
        group: Group,
        *,
        clips: int,
        batch_size: int,
    ) -> None:
        self.settings = settings
        self.generator = normed(vocoder).to(group.device)
        self.judges = judges.to(group.device)
        self.networks = nn.ModuleDict({"generator": self.generator, "judges": self.judges})
        self.averaged = ("generator",)

        def adam(network: nn.Module) -> AdamW:
            return AdamW(network.parameters(), lr=settings.lr, betas=(settings.betas[0], settings.betas[1]))

        def after(first: int) -> Any:  # a turn's schedule counts from the step at which it starts
            return lambda step: settings.decay ** ((step + first) * batch_size // clips)

        start = settings.judge_from
        self.turns = (
            Turn("judge", adam(self.judges), self.judge_loss, after(start), starts=start),
            Turn("generate", adam(self.generator), self.generator_loss, after(0)),
        )

    def judge_loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        """The discriminators' turn."""
        wave = segment(batch["wave"], self.settings.segment, draws)
        return Loss(judge_loss(self.judges(wave), self.judges(self._unbounded(mel_of(wave), wave).tanh())))

    def generator_loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        """The generator's turn."""
        wave = segment(batch["wave"], self.settings.segment, draws)
        mel = mel_of(wave)
        unbounded = self._unbounded(mel, wave)
        made = unbounded.tanh()
        distance = mel_distance(made, mel)
        offset = offset_distance(unbounded, wave)
        loss, figures = MEL_WEIGHT * (distance + offset), {"mel": distance, "offset": offset}
        if step < self.settings.judge_from:
            return Loss(loss, figures)
        with torch.no_grad():
            real = self.judges(wave)
        heard = self.judges(made)
        persuaded, features = persuasion(heard), feature_matching(real, heard)
        figures |= {"adversarial": persuaded, "features": features}
        return Loss(loss + persuaded + FEATURE_WEIGHT * features, figures)

    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Mel distance of whole clips."""
        wave = batch["wave"]
        mel = mel_of(wave)
        return {"loss": mel_distance(self._unbounded(mel, wave).tanh(), mel)}

    def previews(self, batch: Batch) -> list[Preview]:
        """Clips as the vocoder says them."""
        waves = self.generator(mel_of(batch["wave"])[:, 0]).float()
        return [
            Preview(f"copy {place}", mel.cpu().numpy(), wave.cpu().numpy(), MUSICLDM_16K.sampling_rate)
            for place, (mel, wave) in enumerate(zip(mel_of(waves)[:, 0], waves, strict=True))
        ]

    def save(self, folder: Path) -> None:
        """vocoder/ of the hub's layout, weight norm folded."""
        save_network(folder, "vocoder", fold(self.generator))

    def _unbounded(self, mel: Tensor, wave: Tensor) -> Tensor:
        """Before tanh, as long as the wave: the generator's few samples more or less are cut, or are 0."""
        made = self.generator.unbounded(mel[:, 0])[:, : wave.shape[1]]
        return nn.functional.pad(made, (0, wave.shape[1] - made.shape[1]))


def segment(wave: Tensor, samples: int, draws: Draws) -> Tensor:
    """wave: (b, s) -> (b, samples), cut at random from each item; the whole wave if it is not longer."""
    spare = max(0, wave.shape[1] - samples)
    starts = (draws.uniform().double() * (spare + 1)).long().tolist()
    return torch.stack([item[start : start + samples] for item, start in zip(wave, starts, strict=True)])


def normed(vocoder: HiFiGAN) -> HiFiGAN:
    """A copy with weight norm on every convolution, which computes the same.

    Source: Salimans and Kingma 2016 (arXiv 1602.07868), equation 2; the norm is over all axes but the first,
    of transposed convolutions too, as in the files that the authors published.
    """
    copy = deepcopy(vocoder)
    for module in list(copy.modules()):
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            weight_norm(module)
    return copy


def fold(vocoder: HiFiGAN) -> HiFiGAN:
    """A copy without weight norm, of the same weights bit for bit."""
    with torch.device("meta"):
        plain = HiFiGAN(vocoder.config)
    weights = {}
    for name in plain.state_dict():
        owner, _, kind = name.rpartition(".")
        weights[name] = getattr(vocoder.get_submodule(owner), kind).detach().clone()
    plain.load_state_dict(weights, assign=True)
    return plain.eval()


def build(config: Config, group: Group) -> tuple[VocoderStage, ClipSource, ClipSource | None]:
    """The stage and its clips. Raises ValueError for what cannot be honoured."""
    refuse_latent_mixup(config.mixup)
    part = network_part("vocoder", config.parts.vocoder or config.parts.init, config.seed)
    vocoder: HiFiGAN = part.network
    _check(vocoder, config.vocoder)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(config.seed, "start", "judges"))
        if part.scratch:
            _start(vocoder)
        judges = WaveDiscriminators(config.vocoder.judge_width)
    train, held_out = sources(config, 1)
    stage = VocoderStage(
        vocoder, judges, config.vocoder, group, clips=len(train), batch_size=config.loop.batch_size
    )
    return stage, train, held_out


def _check(vocoder: HiFiGAN, settings: VocoderSettings) -> None:
    ours, mel = vocoder.config, MUSICLDM_16K
    for what, got, expected in (
        ("mel bins", ours.model_in_dim, mel.n_mels),
        ("samples per frame", ours.hop_length, mel.hop_length),
        ("Hz", ours.sampling_rate, mel.sampling_rate),
    ):
        if got != expected:
            raise ConfigError(
                f"parts.vocoder: got {got} {what}, expected {expected}, as the mel front end has"
            )
    if settings.segment <= mel.n_fft:
        raise ConfigError(
            f"vocoder.segment: got {settings.segment}, expected more than the {mel.n_fft} of a mel window"
        )


def _start(vocoder: HiFiGAN) -> None:
    """Small weights where the upsampling and the residual blocks begin. Source: jik876/hifi-gan, utils.py."""
    for module in vocoder.stages.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            nn.init.normal_(module.weight, 0.0, 0.01)
