"""CLAP's stage: clips and captions into one space, by which the latent diffusion model is conditioned."""
# ruff: noqa: RUF009  (`key` makes a dataclass field; nothing it returns is shared)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from musicldm.checkpoint import load_clap, save_network
from musicldm.clap import CLAP
from musicldm.io.distributed import Group
from musicldm.mel import MUSICLDM_16K

from .clap_parts import start_clap
from .config import ConfigError, key
from .contrastive import contrastive, retrieval
from .data import ClipSource, clip_store, sources
from .parts import from_scratch, load_part
from .remembered import NOTHING, Remembered, Store
from .settings import RunConfig
from .stage import Batch, Draws, Loss, Stage, Turn, warmup

__all__ = ["CLAPSettings", "CLAPStage", "Config", "Parts", "build"]

LARGEST_LOG_SCALE = math.log(100.0)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where CLAP comes from."""

    init: str = key("folder or hub id whose text_encoder, tokenizer, feature_extractor are trained on", "")
    clap: str | dict[str, Any] = key(
        'from scratch: "preset:16k", "preset:small", or a table with text_config and audio_config', ""
    )
    feature_extractor: dict[str, Any] | None = key("from scratch: settings of the mel front end", None)
    vocab_size: int = key("from scratch: tokens of the tokenizer, which is learnt from the captions", 4096)


@dataclass(frozen=True, kw_only=True)
class CLAPSettings:
    """LAION's recipe, as far as it is known for music."""

    lr: float = key("AdamW's learning rate", 1e-4)
    betas: tuple[float, ...] = key("AdamW's", (0.9, 0.999))
    weight_decay: float = key("AdamW's", 0.0)
    warmup: int = key("steps in which the learning rate grows to its value", 3200)


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """`musicldm train clap`."""

    parts: Parts = key("networks")
    clap: CLAPSettings = key("the stage", CLAPSettings())


class CLAPStage(Stage):
    """Symmetric contrastive loss over the whole batch of all processes, with a learnt temperature.

    scratch: the statistics of the audio tower's batch norm are measured on the first batch; a trained tower
    has them. store: keeps the mel features of clips that come again.

    Source: Wu et al. 2023 (arXiv 2211.06687), section 2.1; LAION-AI/CLAP, loss.py, ClipLoss without its MLP
    heads: one temperature, `logit_scale_a`, at most 100. Differs: the batch norm over mel bins keeps its
    statistics, which shift and scale the input like any normalisation of a data set; LAION's follow each
    process's batch. Micro-batches are compared within themselves: negatives are the clips of one
    micro-batch, over all processes.
    """

    def __init__(
        self,
        clap: CLAP,
        settings: CLAPSettings,
        group: Group,
        *,
        scratch: bool,
        store: Store = NOTHING,
    ) -> None:
        self.clap, self.settings, self.group, self.scratch = clap, settings, group, scratch
        self.model = clap.model.to(group.device)
        about = {"what": "clap features", "front": clap.front_end.facts()}
        self._remembered = Remembered(store, about)
        self.networks = nn.ModuleDict({"clap": self.model})
        self.averaged = ("clap",)
        unused = {id(self.model.logit_scale_t)}  # set to the other when the model is written
        adam = AdamW(
            [parameter for parameter in self.model.parameters() if id(parameter) not in unused],
            lr=settings.lr,
            betas=(settings.betas[0], settings.betas[1]),
            weight_decay=settings.weight_decay,
        )
        self.turns = (Turn("contrast", adam, self.loss, warmup(settings.warmup)),)

    def prepare(self, share: Sequence[tuple[Batch, Draws]]) -> None:
        """From scratch: mean and variance of each mel bin, in dB, over the first batch of all processes."""
        if not self.scratch:
            return
        sums = torch.zeros(3, self.model.config.audio.num_mel_bins, dtype=torch.float64)
        for batch, _ in share:
            values = self._features(batch).double().flatten(0, 2)  # frames of all, bins
            sums += torch.stack(
                [values.sum(0), values.square().sum(0), torch.full_like(sums[0], len(values))]
            )
        total, squares, count = self.group.sum(sums)
        mean = total / count
        for held, measured in zip(
            self.model.audio.statistics, (mean, squares / count - mean.square()), strict=True
        ):
            held.copy_(measured)

    def loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        """Of all pairs of clip and caption in a batch."""
        with torch.no_grad():
            self.model.logit_scale_a.clamp_(0.0, LARGEST_LOG_SCALE)
        audio, text = self._embedded(batch)
        audio, text = self.group.gather(audio), self.group.gather(text)
        value = contrastive(audio, text, self.model.logit_scale_a)
        figures = {"retrieval": retrieval(audio, text), "scale": self.model.logit_scale_a.exp()}
        return Loss(value, figures)

    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Within each process's own batch, so that the figures depend on its size."""
        audio, text = self._embedded(batch)
        value = contrastive(audio, text, self.model.logit_scale_a)
        return {"loss": value, "retrieval": retrieval(audio, text)}

    def save(self, folder: Path) -> None:
        """text_encoder/, tokenizer/ and feature_extractor/ of the hub's layout."""
        with torch.no_grad():
            self.model.logit_scale_t.copy_(self.model.logit_scale_a)
        save_network(folder, "text_encoder", self.model)
        save_front_end(folder, self.clap)

    def _embedded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.clap.encode_audio(self._features(batch)), self.clap.encode_text(batch["caption"])

    def _features(self, batch: Batch) -> Tensor:
        """-> (b, 1, t, f) in dB, on the CPU, where they are made."""
        wave = batch["wave"]

        def make(places: list[int]) -> Tensor:
            return self.clap.features(wave[places], MUSICLDM_16K.sampling_rate)

        return self._remembered(batch["key"], make, torch.device("cpu"))


def save_front_end(folder: Path, clap: CLAP) -> None:
    """tokenizer/ and feature_extractor/ of the hub's layout."""
    clap.tokenizer.save_pretrained(folder / "tokenizer")
    clap.front_end.save_pretrained(folder / "feature_extractor")


def build(config: Config, group: Group) -> tuple[CLAPStage, ClipSource, ClipSource | None]:
    """The stage and its clips. Raises ValueError for what cannot be honoured."""
    parts, output = config.parts, Path(config.output)
    if config.mixup.strategy != "none":
        raise ConfigError(f"mixup.strategy {config.mixup.strategy!r}: a mix has no caption for CLAP to read")
    train, held_out = sources(config, 1)
    _check_captions(train)
    scratch = from_scratch(parts.clap)
    if scratch:
        begun = output if any(output.glob("checkpoints/*")) else None
        captions = [caption for track in train.clips.tracks for caption in track.captions]
        clap = start_clap(
            parts.clap, parts.feature_extractor or {}, captions,
            vocab_size=parts.vocab_size, seed=config.seed, begun=begun,
        )  # fmt: skip
        if group.first and begun is None:
            save_front_end(output, clap)  # at once: a resumed run reads words as this one does
    elif parts.clap or parts.init:
        clap = load_part("clap", str(parts.clap or parts.init), load_clap)
    else:
        raise ConfigError(
            "parts: got neither init nor clap, expected a folder or hub id to train on, or clap = "
            '"preset:small"'
        )
    stage = CLAPStage(clap, config.clap, group, scratch=scratch, store=clip_store(config))
    return stage, train, held_out


def _check_captions(train: ClipSource) -> None:
    silent = [track.path for track in train.clips.tracks if not any(track.captions)]
    if silent:
        raise ConfigError(
            f"data.manifest: {len(silent)} tracks have no caption, {silent[0]} first; CLAP learns from pairs "
            "of clip and caption: leave them out, or give them one"
        )
