"""Where a run's networks come from: a checkpoint, a preset, or an architecture written into the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from musicldm.checkpoint import CheckpointError, load_clap, load_network, load_scheduler
from musicldm.clap import CLAP
from musicldm.hub import DEMO, PUBLISHED
from musicldm.presets import UNET_16K, VAE_16K, VOCODER_16K
from musicldm.schedulers import DDIM, Scheduler
from musicldm.unet import UNet, UNetConfig
from musicldm.vae import VAE, VAEConfig
from musicldm.vocoder import HiFiGAN, VocoderConfig

from .config import ConfigError, parse
from .stage import seed_of

__all__ = [
    "PRESET",
    "Part",
    "clap_part",
    "from_scratch",
    "load_part",
    "network_part",
    "refuse_unheard_init",
    "scheduler_part",
]

T = TypeVar("T")

PRESET = "preset:"
STAGE_OF = {"unet": "ldm", "vae": "vae", "vocoder": "vocoder", "clap": "clap"}  # what trains it
CONFIGS: dict[str, tuple[type[Any], type[nn.Module], dict[str, Any]]] = {
    "unet": (UNetConfig, UNet, {"16k": UNET_16K}),
    "vae": (VAEConfig, VAE, {"16k": VAE_16K}),
    "vocoder": (VocoderConfig, HiFiGAN, {"16k": VOCODER_16K}),
}


@dataclass(frozen=True)
class Part:
    """A network, and whether it starts from scratch."""

    network: Any
    scratch: bool


def network_part(component: str, source: str | Mapping[str, Any], seed: int) -> Part:
    """The "unet", "vae" or "vocoder" that a config asks for, in float32, in evaluation mode.

    source: a folder or hub id; "preset:16k", the published size from scratch; or a table with the
    architecture. seed: names the random start. Raises ConfigError, or as `checkpoint.load_network` does.
    """
    kind, network, presets = CONFIGS[component]
    if isinstance(source, str) and not source.startswith(PRESET):
        if not source:
            raise ConfigError(
                f"parts.{component}: got nothing, expected a folder or hub id, {PRESET}16k, or a table with "
                'the architecture (or `init = "..."` for all parts)'
            )
        load = partial(load_network, component=component)
        return Part(load_part(component, source, load), scratch=False)
    if isinstance(source, str):
        name = source.removeprefix(PRESET)
        if name not in presets:
            raise ConfigError(f"parts.{component}: got {source!r}, expected {PRESET}{' or '.join(presets)}")
        config = presets[name]
    else:
        config = parse(kind, source, f"parts.{component}")
    with torch.random.fork_rng(devices=[]):  # modules draw their start from the global generator
        torch.default_generator.manual_seed(seed_of(seed, "start", component))
        return Part(network(config).eval(), scratch=True)


def clap_part(source: str) -> CLAP:
    """CLAP with its tokenizer and feature extractor, from a folder or hub id; frozen.

    Raises ConfigError, or as `checkpoint.load_components` does.
    """
    if not source:
        raise ConfigError(
            'parts.clap: got nothing, expected a folder or hub id with a text_encoder (or `init = "..."`)'
        )
    clap = load_part("clap", source, load_clap)
    clap.model.requires_grad_(False)
    return clap


def scheduler_part(source: str) -> Scheduler:
    """The scheduler of a folder or hub id; without one, the DDIM that the published model has."""
    return load_scheduler(source) if source else DDIM()


def from_scratch(source: Any) -> bool:
    """Whether a key of `[parts]` asks for new weights: a preset, or a table with the architecture."""
    return isinstance(source, Mapping) or (isinstance(source, str) and source.startswith(PRESET))


def load_part(component: str, source: str, load: Callable[[str], T]) -> T:
    """`load(source)`; where nothing is found, the CheckpointError also names the command that makes it."""
    try:
        return load(source)
    except CheckpointError as error:
        if source in (DEMO, PUBLISHED) or Path(source).exists():
            raise
        raise CheckpointError(
            f"parts.{component} (or parts.init): {error}. `musicldm train {STAGE_OF[component]} CONFIG --set "
            f"output={source}` would make such a folder; --set parts.{component}={PUBLISHED} (or {DEMO}) "
            "takes another model's"
        ) from error


def refuse_unheard_init(table: Mapping[str, Any], overrides: Sequence[str], where: str) -> None:
    """Raises ConfigError if `--set parts.init=...` leaves a part to start from scratch, as `where` has it.

    A part's own key comes before `init`. In a file both stand side by side for all to see; the command line
    alone does not show that the file it names has a preset, or a table, for the part.
    """
    given = [override.partition("=")[0].strip() for override in overrides]
    parts = table.get("parts", {})
    init = parts.get("init") if isinstance(parts, Mapping) else None
    if "parts.init" not in given or not init:
        return
    kept = [name for name in STAGE_OF if from_scratch(parts.get(name)) and f"parts.{name}" not in given]
    if kept:
        instead = " ".join(f"--set parts.{name}={init}" for name in kept)
        raise ConfigError(
            f"--set parts.init={init}: {where} starts {', '.join(f'parts.{name}' for name in kept)} from "
            f"scratch, which comes before init. To train on from {init}: {instead}. To take its other parts "
            "alone, name them one by one (--set parts.NAME=...) in place of parts.init"
        )
