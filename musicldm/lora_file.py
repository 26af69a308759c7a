"""LoRA adapters on disk: safetensors that say what they are and what they were trained on.

The spelling is PEFT's, over the hub's names: `unet.<module>.lora_A.weight` (r, in) and `.lora_B.weight`
(out, r) for each of to_q, to_k, to_v and to_out.0, which Diffusers' `unet.load_lora_adapter` reads. Rank,
alpha, targets, the base's name and its probes are JSON in the metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from weights_convert.diffusers_layout import UNET
from weights_convert.mapping import source_names
from weights_convert.reading import CheckpointError, check_values, read_tensors
from weights_convert.writing import file_in_one_piece

from .lora import LoRAConfig, LowRank, as_scale, attach, is_merged, live, targeted
from .unet import UNet

__all__ = ["load_adapter", "save_adapter"]

METADATA = "musicldm_lora"
MOST_LISTED = 20
# A base read in half precision is the same base. Rounding to bfloat16 moves a probe by about 0.001 rms of
# the weights; another model's is as far off as it is large.
PROBE_TOLERANCE = 0.02


def save_adapter(path: str | os.PathLike[str], unet: UNet, *, base_model: str) -> None:
    """Write the one adapter that is attached. base_model: the name of what it was trained on.

    Raises ValueError if none or several are attached, CheckpointError if a value is not finite or the disk
    refuses.
    """
    linears = live(unet)
    parts = {name: linear.adapters[0] for name, linear in linears.items() if len(linear.adapters) == 1}
    if not parts or len(parts) < len(linears):
        raise ValueError("LoRA: a file holds one adapter, and this U-Net has none, or several, attached")
    config = next(iter(parts.values())).config
    assert isinstance(config, LoRAConfig)
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        assert isinstance(part, LowRank)
        for k, theirs in enumerate(_hub_names(name)):
            tensors[f"unet.{theirs}.lora_A.weight"] = part.down[k].detach().float().cpu().contiguous()
            tensors[f"unet.{theirs}.lora_B.weight"] = part.up[k].detach().float().cpu().contiguous()
    check_values(tensors, str(path))
    probes = {name: _probe(linear.weight)[0] for name, linear in linears.items()}
    about = {**asdict(config), "base_model": base_model, "base_probes": probes}
    modules = sorted({_projection(name) for name in tensors})
    peft = {"unet.r": config.rank, "unet.lora_alpha": config.alpha, "unet.target_modules": modules}
    metadata = {"format": "pt", METADATA: json.dumps(about), "lora_adapter_metadata": json.dumps(peft)}
    with file_in_one_piece(Path(path)) as partial:
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(0o644)  # the library leaves its files unreadable for all but their owner


def load_adapter(
    unet: UNet, path: str | os.PathLike[str], scale: float = 1.0, *, any_base: bool = False
) -> None:
    """Read an adapter and put it on the U-Net, beside those that are there, frozen.

    scale: multiplies its strength; 0 is off, negative is away from what it learnt. any_base: take an adapter
    of another base, or a file of another tool that does not say what its base was (its alpha is then taken
    to be its rank); shapes must fit all the same.
    Raises CheckpointError, before anything is changed, if the file is broken, does not fit, or has another
    base; TypeError or ValueError for a scale that is no finite number.
    """
    if is_merged(unet):
        raise ValueError("LoRA: this U-Net has adapters merged into it; detach them first")
    file = Path(path)
    factor = as_scale(scale, "scale")
    tensors = {name.removeprefix("unet."): tensor for name, tensor in read_tensors(file).items()}
    about = _about(file)
    if about is None and not any_base:
        raise CheckpointError(
            f"{file} does not say what it was trained on (no {METADATA!r} in its metadata); if you know that "
            "it fits this model, pass any_base=True"
        )
    config = _config(file, tensors, about)
    wanted = _checked(unet, file, tensors, config)
    if about is not None and not any_base:
        _check_base(unet, file, about, wanted)
    parts = attach(unet, config)
    for part, names in zip(parts, wanted.values(), strict=True):
        part.down.data.copy_(torch.stack([tensors[f"{name}.lora_A.weight"] for name in names]))
        part.up.data.copy_(torch.stack([tensors[f"{name}.lora_B.weight"] for name in names]))
        part.strength.mul_(factor)
        part.requires_grad_(False)


def _hub_names(linear: str) -> list[str]:
    """What the hub calls the projections of one of our linears: three for a fused product."""
    return [name.removesuffix(".weight") for name in source_names(UNET, [f"{linear}.weight"])]


def _projection(tensor: str) -> str:
    """The projection's own name, "to_q" or "to_out.0", out of a tensor's."""
    module = tensor.split(".lora_")[0]
    return module[module.rfind(".to_") + 1 :]


def _about(file: Path) -> dict[str, Any] | None:
    """What the file says about itself in our words, None if it is another tool's."""
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is no adapter, but broken, or no safetensors file: {error}") from error
    if text is None:
        return None
    try:
        about = json.loads(text)
        probes = {str(name): float(probe) for name, probe in about["base_probes"].items()}
        return {**about, "base_model": str(about["base_model"]), "base_probes": probes}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: its {METADATA!r} metadata is damaged ({error!r})") from error


def _config(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None) -> LoRAConfig:
    ranks = {
        len(tensor) for name, tensor in tensors.items() if name.endswith(".lora_A.weight") and tensor.ndim
    }
    projections = {_projection(name) for name in tensors}
    targets = ("qkv",) * bool(projections & {"to_q", "to_k", "to_v"}) + ("out",) * ("to_out.0" in projections)
    if len(ranks) != 1 or not targets:
        raise CheckpointError(
            f"{file} is no adapter for attention projections: got tensors like {list(tensors)[:2]} of ranks "
            f"{sorted(ranks)}, expected unet.<module>.to_q.lora_A.weight and so on, all of one rank"
        )
    rank = ranks.pop()
    try:
        config = LoRAConfig(rank=rank, alpha=about["alpha"] if about else rank, targets=targets)
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{file}: its {METADATA!r} metadata is damaged ({error!r})") from error
    said = (about.get("rank"), sorted(about.get("targets", ()))) if about else (rank, sorted(targets))
    if said != (rank, sorted(targets)):
        raise CheckpointError(
            f"{file} is damaged: it says rank and targets {said}, and holds {(rank, sorted(targets))}"
        )
    return config


def _checked(
    unet: UNet, file: Path, tensors: Mapping[str, Tensor], config: LoRAConfig
) -> dict[str, list[str]]:
    """The U-Net's targeted linears, and what the file calls their projections.

    Raises CheckpointError with every tensor that is missing, unexpected or mis-shaped.
    """
    wanted = {name: _hub_names(name) for name in targeted(unet, config.targets)}
    shapes: dict[str, tuple[int, int]] = {}
    for name, projections in wanted.items():
        linear = unet.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        for theirs in projections:
            shapes[f"{theirs}.lora_A.weight"] = (config.rank, linear.in_features)
            shapes[f"{theirs}.lora_B.weight"] = (linear.out_features // len(projections), config.rank)
    problems = [f"missing      {name}" for name in shapes if name not in tensors]
    problems += [f"unexpected   {name}" for name in tensors if name not in shapes]
    problems += [
        f"wrong shape  {name} {tuple(tensors[name].shape)}: expected {shape}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        more = [f"... and {len(problems) - MOST_LISTED} more"] * (len(problems) > MOST_LISTED)
        raise CheckpointError(
            f"{file} does not fit this U-Net; is it an adapter of another model?\n  "
            + "\n  ".join(problems[:MOST_LISTED] + more)
        )
    return wanted


def _check_base(unet: UNet, file: Path, about: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    told = about["base_probes"]
    other = []
    for name in wanted:
        linear = unet.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        probe, rms = _probe(linear.weight)
        if name not in told or not abs(probe - told[name]) <= PROBE_TOLERANCE * rms:
            other.append(name)
    if other:
        raise CheckpointError(
            f"{file} was trained on {about['base_model']!r}, and this U-Net has other weights: {len(other)} "
            f"of {len(wanted)} projections differ, {other[0]} first. Load that model, or take the adapter "
            "all the same with any_base=True"
        )


def _probe(weight: Tensor) -> tuple[float, float]:
    """A figure that another matrix would not have, and the rms of the elements, for a measure of it.

    u W v with fixed unit vectors u and v: it sees every element and its place, and hardly moves when the
    weights are rounded to half precision, as a hash would.
    """
    w = weight.detach().double().cpu()
    u, v = (torch.cos(1.0 + frequency * torch.arange(n, dtype=torch.float64))
            for n, frequency in zip(w.shape, (0.7, 1.3), strict=True))  # fmt: skip
    probe = (u / u.norm()) @ w @ (v / v.norm())
    return probe.item(), w.square().mean().sqrt().item()
