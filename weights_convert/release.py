"""The authors' release (one full checkpoint, perhaps side files) -> the hub's networks, and back.

Nothing is copied that need not be: tensors stay views of the mapped files until they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from . import diffusers_layout, original_layout
from .clap_layout import text_constants
from .hub_config import ConfigError
from .mapping import Table, convert, invert
from .original_config import clap_config, scheduler_config, unet_config, vae_config, vocoder_config
from .original_facts import Facts
from .original_layout import CLAP_PREFIX, EMA_PREFIX, TOP_LEVEL, UNET_PREFIX, VAE_PREFIX, VOCODER_PREFIX
from .reading import Checkpoint, CheckpointError

__all__ = ["Dropped", "Network", "Release", "Weights", "convert_release", "to_original"]

Weights = Literal["ema", "raw"]
HubTensors = Callable[[str, Mapping[str, Any], str], Mapping[str, Tensor]]  # name, config, where -> on meta


@dataclass(frozen=True)
class Dropped:
    """Tensors of a source file that the hub's layout does not take, and why."""

    file: str
    why: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """One network of the hub's layout: its config, its tensors, and the file that they came from."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    source: Path


@dataclass
class Release:
    """A converted release, not yet written. notes: what a reader should be told."""

    weights: Weights
    networks: list[Network] = field(default_factory=list)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _View:
    """The tensors of a file under a prefix, without it."""

    path: Path
    prefix: str
    tensors: Mapping[str, Tensor]

    @property
    def where(self) -> str:
        return f"{self.path}, {self.prefix}*" if self.prefix else str(self.path)


def _under(checkpoint: Checkpoint, prefix: str) -> _View:
    tensors = {k[len(prefix) :]: t for k, t in checkpoint.tensors.items() if k.startswith(prefix)}
    return _View(checkpoint.path, prefix, tensors)


def convert_release(
    full: Checkpoint,
    hub_tensors: HubTensors,
    facts: Facts,
    *,
    weights: Weights | None = None,
    vae: Checkpoint | None = None,
    vocoder: Checkpoint | None = None,
    clap: Checkpoint | None = None,
) -> Release:
    """The full checkpoint, completed by side files, as networks of the hub's layout.

    hub_tensors: (network, hub config, where) -> its tensors on the meta device. weights: None takes the
    moving averages if there are any. What the full checkpoint holds wins over a side file: the authors' code
    loads the side files first, so that is what it ends up with.

    Raises MappingError or ConfigError (ValueErrors) where tensors are missing, unexpected or mis-shaped;
    CheckpointError if a network is in none of the files.
    """
    release = Release(_choose(full, weights))
    _check_top_level(full, release)
    _add_unet(release, full, hub_tensors, facts)

    heard = [_under(full, VOCODER_PREFIX), *_sides(vocoder, ""), *_sides(vae, "vocoder.")]
    heard_view = _first(release, "vocoder", "--vocoder", heard, "conv_pre.")
    view = _first(release, "VAE", "--vae", [_under(full, VAE_PREFIX), *_sides(vae, "")], "encoder.")
    with _of(view.where):
        config = vae_config(view.tensors, _scale(full), facts)
    table = original_layout.vae(len(config["block_out_channels"]))
    _add(release, "vae", config, table, view, hub_tensors("vae", config, view.where))
    if heard_view.path == view.path:  # the vocoder stands among the VAE's tensors, and is not dropped
        release.dropped = [d for d in release.dropped if d.why != table.ignore["vocoder.{rest}"]]

    with _of(heard_view.where):
        config = vocoder_config(heard_view.tensors, facts)
    targets = hub_tensors("vocoder", config, heard_view.where)
    _add(release, "vocoder", config, original_layout.VOCODER, heard_view, targets)

    sides = _sides(clap, "module.") or _sides(clap, "")  # several GPUs leave "module." before every name
    view = _first(release, "CLAP", "--clap", [_under(full, CLAP_PREFIX), *sides], "text_branch.")
    with _of(view.where):
        config = clap_config(view.tensors)
    _add(
        release,
        "text_encoder",
        config,
        original_layout.CLAP,
        view,
        hub_tensors("text_encoder", config, view.where),
    )

    with _of(str(full.path)):
        release.scheduler = scheduler_config(full.tensors, facts)
    return release


@contextmanager
def _of(where: str) -> Iterator[None]:
    """Errors about sizes and facts, with the name of the file that they are about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _add_unet(release: Release, full: Checkpoint, hub_tensors: HubTensors, facts: Facts) -> None:
    raw, averages = _under(full, UNET_PREFIX), _under(full, EMA_PREFIX)
    with _of(raw.where):
        config = unet_config(raw.tensors, facts)
    table = _unet_table(config)
    targets = hub_tensors("unet", config, raw.where)
    if release.weights == "raw":
        _add(release, "unet", config, table, raw, targets)
        other, why = averages, "moving averages; --ema takes them"
    else:
        _add(release, "unet", config, original_layout.ema(table, targets), averages, targets)
        other, why = raw, "the weights themselves, not their moving averages; --raw takes them"
    if other.tensors:
        names = tuple(other.prefix + name for name in other.tensors)
        release.dropped.append(Dropped(full.path.name, why, names))


def _unet_table(config: Mapping[str, Any]) -> Table:
    attending = [kind == "CrossAttnDownBlock2D" for kind in config["down_block_types"]]
    return original_layout.unet(config["layers_per_block"], attending)


def _choose(full: Checkpoint, asked: Weights | None) -> Weights:
    if not _under(full, UNET_PREFIX).tensors:
        raise CheckpointError(
            f"{full.path} holds no {UNET_PREFIX}*; expected the authors' musicldm-ckpt.ckpt, which side "
            "files can complete but not replace"
        )
    averaged = bool(_under(full, EMA_PREFIX).tensors)
    if asked == "ema" and not averaged:
        raise CheckpointError(f"{full.path} holds no moving averages ({EMA_PREFIX}*); leave out --ema")
    return asked or ("ema" if averaged else "raw")


def _check_top_level(full: Checkpoint, release: Release) -> None:
    """Everything under none of the prefixes must be known."""
    prefixes = (UNET_PREFIX, EMA_PREFIX, VAE_PREFIX, CLAP_PREFIX)
    rest = {name: tensor for name, tensor in full.tensors.items() if not name.startswith(prefixes)}
    table = Table("full checkpoint", (), ignore=TOP_LEVEL)
    convert(table, rest, {}, where=str(full.path))
    release.dropped += _dropped(table, full.path, "", rest)


def _scale(full: Checkpoint) -> float:
    tensor = full.tensors.get("scale_factor")
    if tensor is None or tensor.numel() != 1:
        raise CheckpointError(
            f"{full.path} holds no scale_factor, without which no latents can be decoded; expected the "
            "authors' musicldm-ckpt.ckpt"
        )
    return float(tensor)


def _sides(checkpoint: Checkpoint | None, prefix: str) -> list[_View]:
    view = _under(checkpoint, prefix) if checkpoint is not None else None
    return [view] if view is not None and view.tensors else []


def _first(release: Release, what: str, flag: str, views: Sequence[_View], mark: str) -> _View:
    """The first of these that holds the network, which has tensors beginning with `mark`."""
    holding = [view for view in views if any(name.startswith(mark) for name in view.tensors)]
    if not holding:
        looked = ", ".join(view.where for view in views)
        raise CheckpointError(f"no {what} ({mark}*) in {looked}; give its file with {flag}")
    release.notes += [
        f"{view.path.name} is not used for the {what}: {holding[0].path.name} has it, and wins"
        for view in holding[1:]
    ]
    return holding[0]


def _add(
    release: Release,
    name: str,
    config: Mapping[str, Any],
    table: Table,
    view: _View,
    targets: Mapping[str, Tensor],
) -> None:
    tensors = convert(table, view.tensors, targets, where=view.where)
    if name == "text_encoder":
        tensors |= text_constants(config["text_config"]["max_position_embeddings"])
    release.networks.append(Network(name, config, tensors, view.path))
    release.dropped += _dropped(table, view.path, view.prefix, view.tensors)


def _dropped(table: Table, path: Path, prefix: str, tensors: Mapping[str, Tensor]) -> list[Dropped]:
    reasons: dict[str, list[str]] = {}
    for name in tensors:
        why = table.why_ignored(name)
        if why is not None:
            reasons.setdefault(why, []).append(prefix + name)
    return [Dropped(path.name, why, tuple(names)) for why, names in reasons.items()]


def to_original(
    configs: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The hub's "unet", "vae", "vocoder" and "text_encoder" under the authors' names, bit for bit.

    The U-Net stands there twice, also as its own moving averages: the authors' code samples with those. The
    vocoder's weights are plain, as in their full checkpoint; of which g and v they were made cannot be known.
    """
    unet, unet_hub = _unet_table(configs["unet"]), tensors["unet"]
    clap = {k: t for k, t in tensors["text_encoder"].items() if not diffusers_layout.CLAP.why_ignored(k)}
    parts = (
        (UNET_PREFIX, unet, unet_hub),
        (EMA_PREFIX, original_layout.ema(unet, unet_hub), unet_hub),
        (VAE_PREFIX, original_layout.vae(len(configs["vae"]["block_out_channels"])), tensors["vae"]),
        (VOCODER_PREFIX, original_layout.VOCODER, tensors["vocoder"]),
        (CLAP_PREFIX, original_layout.CLAP, clap),
    )
    named = {
        prefix + name: tensor for prefix, table, held in parts for name, tensor in invert(table, held).items()
    }
    return named | {"scale_factor": torch.tensor(configs["vae"]["scaling_factor"], dtype=torch.float32)}
