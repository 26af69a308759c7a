"""What a checkpoint holds, read from its headers and configs: the report behind `musicldm inspect`.

No weight is loaded, nothing is built but on the meta device. What is wrong with a component stands in the
report; the others are reported all the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from weights_convert.clap_layout import clap_facts
from weights_convert.hub_config import TABLES, unet_from_hub
from weights_convert.hub_folder import NETWORKS, find_weights
from weights_convert.mapping import convert
from weights_convert.reading import read_json, sha256

from . import schedulers
from .checkpoint import check_index, empty_network, load_front_end, trained_heads
from .hub import resolve
from .unet import UNetConfig

__all__ = ["Component", "Inspection", "inspect"]


@dataclass
class Component:
    """One network: its files, its tensors, its config, what loading would leave out, what would stop it.

    files: name -> (bytes, SHA-256 or ""). dtypes: name -> tensors of it. ignored: tensor, file or config key
    -> why nothing is lost without it. problem: "" if it would load (values are not looked at).
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    tensors: int = 0
    parameters: int = 0
    dtypes: Mapping[str, int] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass
class Inspection:
    """A checkpoint: its networks, its small parts in a line each, and what it says about the open facts."""

    folder: Path
    networks: list[Component]
    parts: dict[str, str | None]
    facts: dict[str, str]
    provenance: Mapping[str, Any]
    problems: list[str]

    def __str__(self) -> str:
        lines = [f"checkpoint {self.folder}"]
        for network in self.networks:
            lines += ["", *_described(network)]
        lines += ["", *(f"{name}: {line}" for name, line in self.parts.items() if line)]
        lines += ["", "open facts:", *(f"  {name}: {line}" for name, line in self.facts.items())]
        problems = [f"PROBLEM {problem}" for problem in self.problems]
        lines += ["", *(problems or ["would load (values are not looked at)"])]
        return "\n".join(lines)


def inspect(
    id_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    hashes: bool = True,
) -> Inspection:
    """Look at a hub id or folder without loading it. hashes: read every file for its SHA-256.

    Raises CheckpointError if there is no such checkpoint; what is wrong inside is in `problems`.
    """
    root = resolve(
        id_or_folder,
        revision=revision,
        variant=variant,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    networks = [_network(root, name, variant, hashes) for name in NETWORKS]
    problems = [f"{network.name}: {network.problem}" for network in networks if network.problem]
    parts = {
        name: _told(look, root, name, problems)
        for name, look in (("model_index", _index), ("scheduler", _scheduler), ("front end", _front_end))
    }
    provenance: Mapping[str, Any] = {}
    if (root / "provenance.json").is_file():
        provenance = _told(read_json, root / "provenance.json", "provenance", problems) or {}
    facts = _facts({network.name: network.config for network in networks}, provenance)
    return Inspection(root, networks, parts, facts, provenance, problems)


T = TypeVar("T")


def _told(look: Callable[[Path], T], path: Path, name: str, problems: list[str]) -> T | None:
    """What `look` finds, or None and one problem more."""
    try:
        return look(path)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return None


def _described(network: Component) -> list[str]:
    dtypes = ", ".join(f"{n} {dtype}" for dtype, n in network.dtypes.items())
    lines = [f"{network.name}: {network.tensors} tensors ({dtypes}), {network.parameters:,} parameters"]
    for name, (size, digest) in network.files.items():
        lines.append(f"  {name}  {size:,} bytes" + (f"  sha256 {digest}" if digest else ""))
    shown = _facts_of(network.name, network.config)
    if shown:
        lines.append("  config: " + ", ".join(f"{key}={value}" for key, value in shown.items()))
    lines += [f"  ignored: {name} ({why})" for name, why in network.ignored.items()]
    return lines


def _facts_of(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that could be otherwise in another MusicLDM."""
    if name in TABLES:
        kinds = {**TABLES[name].facts, **TABLES[name].derived}
        return {key: config[key] for key in kinds if key in config}
    try:
        parts = clap_facts(config, "")
    except ValueError:
        return {}
    return {f"{side} {key}": value for side, part in parts.items() for key, value in part.items()}


def _network(root: Path, name: str, variant: str | None, hashes: bool) -> Component:
    found = Component(name)
    path = root / name / "config.json"
    try:
        found.config = read_json(path)
        files = find_weights(root / name, name, variant)
        for file in files.shards:
            found.files[file.name] = (file.stat().st_size, sha256(file) if hashes else "")
        held = files.shapes()
        found.tensors = len(held)
        found.dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in held.values())
        module, table = empty_network(name, found.config, str(path))
        found.parameters = sum(parameter.numel() for parameter in module.parameters())
        reasons = {key: table.why_ignored(key) for key in held}
        found.ignored = {key: why for key, why in reasons.items() if why}
        found.ignored |= {file.name: why for file, why in files.ignored.items()}
        if name in TABLES:
            useless = [key for key in TABLES[name].ignored if key in found.config]
            found.ignored |= dict.fromkeys(useless, "of the config; changes nothing here")
        convert(table, held, module.state_dict(), where=files.where)
    except (ValueError, OSError) as error:
        found.problem = str(error)
    return found


def _index(root: Path) -> str:
    check_index(root / "model_index.json")
    return str(read_json(root / "model_index.json").get("_class_name", "MusicLDMPipeline"))


def _scheduler(root: Path) -> str:
    config = read_json(root / "scheduler" / "scheduler_config.json")
    return f"{config.get('_class_name')} -> {schedulers.from_config(config)}"


def _front_end(root: Path) -> str:
    parts = load_front_end(root)
    tokenizer, extractor = parts["tokenizer"], parts["feature_extractor"]
    return (
        f"tokenizer with {len(tokenizer)} tokens, up to {tokenizer.max_length}; "
        f"CLAP hears {extractor.sampling_rate} Hz, {extractor.mel.n_mels} mel bins"
    )


def _facts(configs: Mapping[str, Mapping[str, Any]], provenance: Mapping[str, Any]) -> dict[str, str]:
    """What these files settle of what published checkpoints leave open, a sentence each."""
    looks: dict[str, Callable[[], str]] = {
        "heads": lambda: _heads(configs["unet"], provenance),
        "EMA or raw": lambda: _averaged(provenance),
        "text epsilon": lambda: _epsilon(configs["text_encoder"]),
        "latent scale": lambda: f"{configs['vae']['scaling_factor']} (vae/config.json)",
    }
    return {name: _fact(look) for name, look in looks.items()}


def _fact(look: Callable[[], str]) -> str:
    try:
        return look()
    except (ValueError, KeyError, TypeError, AttributeError):
        return "cannot be told: the config is broken"  # how, is among the problems


def _heads(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    ours = UNetConfig(**unet_from_hub(config, "unet/config.json"))
    counts = "/".join(str(n) for n in ours.heads if n)
    try:
        trained = trained_heads(ours)
    except ValueError:
        trained = ()
    if "channels_per_head" in provenance:
        return f"{counts}, settled: converted with {provenance['channels_per_head']} channels each"
    if ours.heads == trained:
        return f"{counts}, as the authors trained (32 channels each)"
    other = "no heads of 32 channels fit"
    if trained:
        other = f'as trained would be {"/".join(str(n) for n in trained if n)}, heads="as-trained"'
    return f"{counts} by the config, open: the weights fit any count ({other}); compare by golden values"


def _averaged(provenance: Mapping[str, Any]) -> str:
    weights = provenance.get("unet_weights")
    if weights is None:
        return "open: weights do not tell, and there is no provenance.json"
    return f"{weights}, settled by provenance.json"


def _epsilon(config: Mapping[str, Any]) -> str:
    eps = config["text_config"].get("layer_norm_eps", 1e-12)
    what = {1e-5: "the authors' (RoBERTa's)", 1e-12: "the class default; the authors' RoBERTa has 1e-05"}
    return f"{eps}, {what.get(eps, 'neither the authors nor the class default')} (text_encoder/config.json)"
