"""The authors' files and the manifests of the published ones, unpacked for tests."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"
TINY_ORIGINAL = GOLDENS / "tiny-original"
PREFIXES = {  # of the full checkpoint; where its networks stand
    "unet": "model.diffusion_model.",
    "ema": "model_ema.",
    "vae": "first_stage_model.",
    "vocoder": "first_stage_model.vocoder.",
    "text_encoder": "cond_stage_model.model.",
}


def unpack(name: str, folder: Path) -> Path:
    """One of the authors' files ("musicldm-ckpt.ckpt", ...) in a folder."""
    path = folder / name
    if not path.exists():
        path.write_bytes(lzma.decompress((TINY_ORIGINAL / f"{name}.xz").read_bytes()))
    return path


def manifest(name: str) -> dict[str, Any]:
    """What a published file holds, or the mapping between two."""
    return json.loads(lzma.decompress((GOLDENS / "manifests" / f"{name}.json.xz").read_bytes()))


@cache
def on_meta(name: str) -> dict[str, Tensor]:
    """The tensors of a published file, without values."""
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype) in manifest(name).items()
    }


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def flags(folder: Path = TINY_ORIGINAL) -> list[str]:
    """The command's flags for the files beside the tiny checkpoint."""
    return [
        *("--config", str(folder / "musicldm.yaml")),
        *("--vocoder-config", str(folder / "config_16k_64.json")),
        *("--tokenizer", str(folder / "tokenizer")),
    ]
