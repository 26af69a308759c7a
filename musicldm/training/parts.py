"""Where a run's networks come from: a checkpoint, a preset, or an architecture written into the config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from musicldm.checkpoint import load_clap, load_network, load_scheduler
from musicldm.clap import CLAP
from musicldm.presets import UNET_16K, VAE_16K, VOCODER_16K
from musicldm.schedulers import DDIM, Scheduler
from musicldm.unet import UNet, UNetConfig
from musicldm.vae import VAE, VAEConfig
from musicldm.vocoder import HiFiGAN, VocoderConfig

from .config import ConfigError, parse
from .stage import seed_of

__all__ = ["PRESET", "Part", "clap_part", "network_part", "scheduler_part"]

PRESET = "preset:"
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
        return Part(load_network(source, component), scratch=False)
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
    clap = load_clap(source)
    clap.model.requires_grad_(False)
    return clap


def scheduler_part(source: str) -> Scheduler:
    """The scheduler of a folder or hub id; without one, the DDIM that the published model has."""
    return load_scheduler(source) if source else DDIM()
