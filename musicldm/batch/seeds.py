"""Names that depend on what they name alone: a row's noise, a model's files, a solver's table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from musicldm.io.files import file_digest
from musicldm.schedulers import Plan

__all__ = ["model_digests", "plan_digest", "row_seed"]

SEED_BITS = 52  # a JSON number that every reader keeps exact, with room for the candidates


def row_seed(run_seed: int, index: int) -> int:
    """The seed of a row that names none: the first 52 bits of BLAKE2b of "musicldm RUN_SEED INDEX".

    Candidate j has the row's seed + j, which is what `musicldm generate --seed` does: the row can be made
    again alone. Neither batches, order, shards nor earlier runs come in.
    """
    digest = hashlib.blake2b(f"musicldm {run_seed} {index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)


def model_digests(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 for a checkpoint's files in the hub's layout: weights, configs, vocabularies.

    Where a part has safetensors, its .bin files are left out: they are not read.
    """
    suffixes = (".json", ".txt", ".safetensors", ".bin")
    files = [path for path in sorted(folder.glob("*/*")) if path.suffix in suffixes]
    safe = {path.parent for path in files if path.suffix == ".safetensors"}
    read = [folder / "model_index.json", *(p for p in files if p.suffix != ".bin" or p.parent not in safe)]
    return {path.relative_to(folder).as_posix(): file_digest(path)[0] for path in read if path.is_file()}


def plan_digest(plan: Plan) -> str:
    """SHA-256 of a scheduler's table: the numbers that the sampler multiplies by, as float64."""
    tensors = (plan.timesteps, plan.input_scale, plan.table, plan.noise_std, torch.tensor([plan.init_scale]))
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.to("cpu", torch.float64).contiguous().numpy().tobytes())
    return digest.hexdigest()
