"""Converted networks -> a folder in the hub's layout, with the report and the provenance of what was done."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .hub_folder import STEMS
from .reading import CheckpointError, check_values, sha256
from .release import Dropped, Network
from .writing import write_json, write_tensors

__all__ = ["FEATURE_EXTRACTOR", "Job", "cast", "copy_files", "describe", "write_networks"]

FEATURE_EXTRACTOR = {  # CLAP's, as its authors' front end and the published checkpoint have it
    "feature_extractor_type": "ClapFeatureExtractor",
    "feature_size": 64,
    "fft_window_size": 1024,
    "frequency_max": 14000,
    "frequency_min": 50,
    "hop_length": 480,
    "max_length_s": 10,
    "nb_frequency_bins": 513,
    "nb_max_samples": 480000,
    "padding": "repeatpad",
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 48000,
    "top_db": None,
    "truncation": "rand_trunc",
}
_PLAIN_FILES = (".json", ".txt")


@dataclass
class Job:
    """What is to be written: networks, which may be computed one at a time, and what is known about them."""

    sources: Mapping[str, Path]  # role -> file
    networks: Iterable[Network]
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    def provenance(self) -> dict[str, Any]:
        """Sources by name, size and SHA-256, what was decided, and every tensor left out, with the reason."""
        return {
            "sources": {
                role: {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
                for role, path in self.sources.items()
            },
            **self.facts,
            "notes": self.notes,
            "dropped": [
                {"file": d.file, "why": d.why, "tensors": len(d.names), "names": list(d.names)}
                for d in self.dropped
            ],
        }


def cast(network: Network, dtype: torch.dtype | None) -> Network:
    """The network with its floating tensors in that dtype; None leaves them as they are.

    Raises CheckpointError if a value is not finite, or not any more.
    """
    check_values(network.tensors, f"{network.source}, {network.name}")
    if dtype is None:
        return network
    tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in network.tensors.items()}
    check_values(tensors, f"{network.source}, {network.name}, as {dtype} (bfloat16 has float32's range)")
    config = dict(network.config)
    if network.name in ("text_encoder", "vocoder"):  # transformers 5 loads in the dtype that the config names
        config.pop("dtype", None)
        config["torch_dtype"] = str(dtype).removeprefix("torch.")
    return replace(network, tensors=tensors, config=config)


def write_networks(networks: Iterable[Network], root: Path, dtype: torch.dtype | None) -> Iterator[str]:
    """Write each network to its folder under root, one in memory at a time; yields a line about each.

    Raises CheckpointError if a value is not finite, or the disk refuses.
    """
    for network in networks:
        finished = cast(network, dtype)
        folder = root / network.name
        write_json(folder / "config.json", finished.config)
        write_tensors(folder / f"{STEMS[network.name]}.safetensors", finished.tensors)
        yield describe(finished)


def describe(network: Network) -> str:
    """One line: tensors, parameters, dtypes, and what only the config shows."""
    config, tensors = network.config, network.tensors
    line = (
        f"{network.name:<13}{len(tensors):>5} tensors {_parameters(tensors):>12,} values, {_dtypes(tensors)}"
    )
    said = {
        "unet": ("attention_head_dim",),
        "vae": ("scaling_factor",),
        "vocoder": ("upsample_rates",),
    }.get(network.name, ())
    shown = [f"{key} {config[key]}" for key in said if key in config]
    if network.name == "text_encoder":
        shown = [f"text layer_norm_eps {config['text_config'].get('layer_norm_eps', 1e-12)}"]
    return ", ".join([line, *shown])


def _parameters(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _dtypes(tensors: Mapping[str, Tensor]) -> str:
    found = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    return " and ".join(sorted(found))


def copy_files(source: Path, target: Path) -> None:
    """Copy a folder's JSON and text files. Raises CheckpointError if it has none, or one cannot be read."""
    try:
        files = [path for path in sorted(source.iterdir()) if path.suffix in _PLAIN_FILES and path.is_file()]
        if not files:
            raise CheckpointError(f"{source} holds no {' or '.join(_PLAIN_FILES)} files")
        target.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise CheckpointError(f"{source} could not be copied to {target}: {error}") from error
