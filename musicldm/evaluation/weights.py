"""A tagger's published weights: from a file that the user has, to a module of ours; and what was hashed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from weights_convert.mapping import Table, convert
from weights_convert.reading import CheckpointError, check_values, read_checkpoint, sha256

__all__ = ["Published", "fill", "state_sha256"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """Where weights come from. sha256: of the published file, or its first digits, as far as known to us."""

    file: str
    address: str
    licence: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.file} from {self.address} ({self.licence})"


def fill(module: nn.Module, table: Table, path: str | os.PathLike[str], published: Published) -> str:
    """Load a module from a local file, strictly, and put it into evaluation mode -> the file's SHA-256.

    Nothing is fetched. A file that is not the published one is used with a warning: its hash stands in the
    report. Raises CheckpointError saying where the file comes from, MappingError listing what does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{table.name}: there is no file {path}. Get {published}, and give its path; nothing is "
            "downloaded by this package"
        )
    tensors = read_checkpoint(path).tensors
    filled = convert(table, tensors, module.state_dict(), where=str(path))
    check_values(filled, str(path))
    module.load_state_dict(filled)
    module.eval()
    digest = sha256(path)
    if not digest.startswith(published.sha256):
        log.warning(
            "%s: %s has SHA-256 %s..., the published %s has %s...: numbers will differ from others'",
            table.name, path, digest[:12], published.file, published.sha256[:12],
        )  # fmt: skip
    return digest


def state_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values, in the order of the names: of weights without a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
