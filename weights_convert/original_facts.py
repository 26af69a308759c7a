"""What the authors' config files say and their tensors do not: channels per head, strides, noise schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from . import hub_config
from .hub_config import COUNT, NUMBER, ConfigError, Kind
from .reading import LARGEST_JSON, CheckpointError, read_json

__all__ = ["Facts", "check_stated", "read_facts"]


@dataclass(frozen=True)
class Facts:
    """What the tensors cannot show; the defaults are the release's.

    stated: sizes that a YAML names although the tensors show them, to be compared. sources: files read.
    """

    num_head_channels: int = 32
    latent_t_size: int = 256
    sampling_rate: int = 16000
    hop_length: int = 160
    linear_start: float = 0.0015
    linear_end: float = 0.0195
    timesteps: int = 1000
    upsample_rates: tuple[int, ...] = (5, 4, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 8, 4, 4)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    stated: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()


_UNET_PARAMS = ("model", "params", "unet_config", "params")
_VAE_PARAMS = ("model", "params", "first_stage_config", "params", "ddconfig")
_YAML_FACTS: Mapping[str, tuple[tuple[str, ...], Kind]] = {
    "num_head_channels": ((*_UNET_PARAMS, "num_head_channels"), COUNT),
    "latent_t_size": (("model", "params", "latent_t_size"), COUNT),
    "sampling_rate": (("preprocessing", "audio", "sampling_rate"), COUNT),
    "hop_length": (("preprocessing", "stft", "hop_length"), COUNT),
    "linear_start": (("model", "params", "linear_start"), NUMBER),
    "linear_end": (("model", "params", "linear_end"), NUMBER),
    "timesteps": (("model", "params", "timesteps"), COUNT),
}
_YAML_STATED = {
    "U-Net model_channels": (*_UNET_PARAMS, "model_channels"),
    "U-Net channel_mult": (*_UNET_PARAMS, "channel_mult"),
    "U-Net num_res_blocks": (*_UNET_PARAMS, "num_res_blocks"),
    "VAE ch": (*_VAE_PARAMS, "ch"),
    "VAE ch_mult": (*_VAE_PARAMS, "ch_mult"),
    "VAE num_res_blocks": (*_VAE_PARAMS, "num_res_blocks"),
    "VAE z_channels": (*_VAE_PARAMS, "z_channels"),
}
_VOCODER_KEYS = {
    "upsample_rates": hub_config.COUNTS,
    "upsample_kernel_sizes": hub_config.COUNTS,
    "resblock_dilation_sizes": hub_config.VOCODER.facts["resblock_dilation_sizes"],
}


def read_facts(config: Path | None = None, vocoder_config: Path | None = None) -> Facts:
    """The release's facts, changed by what a `musicldm.yaml` and a `config_16k_64.json` say.

    Raises CheckpointError if a file cannot be read, ConfigError if a value has the wrong type.
    """
    facts = Facts()
    if config is not None:
        tree = _read_yaml(config)
        found = {name: _at(tree, path) for name, (path, _) in _YAML_FACTS.items()}
        found = {name: value for name, value in found.items() if value is not None}
        _check(config, {name: kind for name, (_, kind) in _YAML_FACTS.items()}, found)
        if _at(tree, (*_UNET_PARAMS, "num_heads")) is not None:
            raise ConfigError(f"{config}: num_heads is not supported; the release gives num_head_channels")
        stated = {name: _at(tree, path) for name, path in _YAML_STATED.items()}
        stated = {name: value for name, value in stated.items() if value is not None}
        facts = replace(facts, **found, stated=stated, sources=(config,))
    if vocoder_config is not None:
        values = read_json(vocoder_config)
        if values.get("resblock", "1") != "1":
            raise ConfigError(
                f"{vocoder_config}: resblock {values['resblock']!r:.80}: only '1' is built here"
            )
        found = {key: values[key] for key in _VOCODER_KEYS if key in values}
        _check(vocoder_config, _VOCODER_KEYS, found)
        found = {key: hub_config.tupled(value) for key, value in found.items()}
        facts = replace(facts, **found, sources=(*facts.sources, vocoder_config))
    return facts


def _check(path: Path, kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> None:
    problems = hub_config.check_kinds(kinds, values)
    if problems:
        raise ConfigError(f"{path}:\n  " + "\n  ".join(problems))


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes are too many for a config")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: expected a YAML mapping, got {type(tree).__name__}")
    return tree


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(key)
    return tree


def check_stated(facts: Facts, found: Mapping[str, Any]) -> None:
    """Raises ConfigError if the YAML states other sizes than the tensors show."""
    wrong = [
        f"{name}: the config says {facts.stated[name]!r:.80}, the tensors {value!r}"
        for name, value in found.items()
        if name in facts.stated and facts.stated[name] != value
    ]
    if wrong:
        raise ConfigError("config and weights are of different models:\n  " + "\n  ".join(wrong))
