"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .reading import CheckpointError, check_values

__all__ = ["file_in_one_piece", "folder_in_one_piece", "write_checkpoint", "write_json", "write_tensors"]


@contextmanager
def folder_in_one_piece(target: Path) -> Iterator[Path]:
    """A folder beside `target` to fill; it takes the target's place when the block ends, or vanishes.

    If the target exists, its other files stay, and those of the same names are replaced.
    Raises CheckpointError if the disk is full or not writable; the target is then as it was.
    """
    partial = _beside(target)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise _not_written(target, error) from error
    try:
        yield partial
        _place(partial, target)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # what is left after a failure, or empty folders


@contextmanager
def file_in_one_piece(target: Path) -> Iterator[Path]:
    """A file beside `target` to write; it takes the target's place when the block ends, or vanishes.

    Raises CheckpointError if the disk is full or not writable.
    """
    partial = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise _not_written(target, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    return target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:8]}"


def _place(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    for path in sorted(partial.rglob("*")):
        place = target / path.relative_to(partial)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            path.replace(place)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, readable and the same for the same value. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. Raises CheckpointError if a value is not finite, or the disk refuses."""
    check_values(tensors, str(path))
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        mode = path.stat().st_mode
        save_file(held, path, metadata={"format": "pt"})
        path.chmod(mode)  # the library leaves its files unreadable for all but their owner
    except (SafetensorError, OSError) as error:
        raise _not_written(path, error) from error


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a torch checkpoint, tensors under "state_dict", those that share memory once.

    Raises CheckpointError if the disk refuses.
    """
    # copies: torch would save the whole file that a view looks into. What two names share is copied once
    copies = {_identity(tensor): tensor for tensor in tensors.values()}
    copies = {identity: tensor.clone() for identity, tensor in copies.items()}
    held = {name: copies[_identity(tensor)] for name, tensor in tensors.items()}
    with file_in_one_piece(path) as partial:
        try:
            torch.save({"state_dict": held}, partial)
        except RuntimeError as error:  # torch's own writer does not raise OSError
            raise _not_written(path, error) from error


def _identity(tensor: Tensor) -> tuple[int, torch.Size, torch.dtype]:
    return tensor.data_ptr(), tensor.shape, tensor.dtype


def _not_written(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} could not be written ({error}); nothing is left of it. Make room, or choose another place"
    )
