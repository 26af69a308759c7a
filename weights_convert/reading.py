"""Weights and JSON off a disk that is not trusted: every broken file is one `CheckpointError` that names it.

Nothing here knows what a MusicLDM is. Values are checked (no NaN, no infinity), names and shapes are the
tables' business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from . import pickles

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "check_values",
    "read_checkpoint",
    "read_json",
    "read_shapes",
    "read_tensors",
    "sha256",
]

LARGEST_JSON = 1 << 26  # bytes; the largest file of a checkpoint, a tokenizer, has 4 million
LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
READ_AT_ONCE = 1 << 22  # bytes hashed at a time

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


class CheckpointError(ValueError):
    """A checkpoint that cannot be read as it is; the message says which file, and what to do."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises CheckpointError if it is missing, too large, not JSON, not an object, or names a key twice.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes are too many for a JSON config")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} is missing: looked for {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
        return value

    def finite(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, or of a .bin that holds tensors by name and nothing else.

    float64 becomes float32 (old transformers saved CLAP's logit scales so).
    Raises CheckpointError if the file is broken, holds anything but tensors, or a value is not finite.
    """
    if path.suffix == ".safetensors":
        header, start = _header(path)  # refuses what load_file would let pass, such as a name given twice
        try:
            tensors = load_file(path)
            broken = _broken_values(path, header, start)
        except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise _broken(path, error) from error
        if broken:
            raise _damaged(broken, str(path))
    else:
        tensors = _pickled_tensors(path)
        check_values(tensors, str(path))
    return {name: t.float() if t.dtype == torch.float64 else t for name, t in tensors.items()}


def read_shapes(path: Path) -> dict[str, Tensor]:
    """The tensors of a file on the meta device: names, shapes and dtypes, no values.

    Raises CheckpointError as `read_tensors` does, but for values.
    """
    if path.suffix != ".safetensors":
        return {
            name: torch.empty(t.shape, dtype=t.dtype, device="meta")
            for name, t in _pickled_tensors(path).items()
        }
    header, _ = _header(path)
    return {name: _described(path, name, entry) for name, entry in header.items()}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The entries of a safetensors file, each checked, and the byte at which the values start."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise CheckpointError(
                    f"{path} is broken: {size} bytes, of which the header should take {length}; it may be "
                    "cut short: fetch it again"
                )
            text = file.read(length).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(path, error) from error
    header = _parse(text, path)
    header.pop("__metadata__", None)
    for name, entry in header.items():
        _described(path, name, entry)
    return header, 8 + length


def _broken_values(path: Path, header: Mapping[str, Any], start: int) -> list[str]:
    """Names of the tensors that are not finite. Read, not mapped: unused tensors never enter memory."""
    broken, block = [], bytearray(READ_AT_ONCE)
    with path.open("rb", buffering=0) as file:
        for name, entry in header.items():
            (begin, end), dtype = entry["data_offsets"], _DTYPES[entry["dtype"]]
            file.seek(start + begin)
            while dtype.is_floating_point and begin < end:
                got = file.readinto(memoryview(block)[: min(READ_AT_ONCE, end - begin)])
                if not got or got % dtype.itemsize:
                    raise OSError(f"the values end {end - begin} bytes early")
                if not _finite(torch.frombuffer(block, dtype=dtype, count=got // dtype.itemsize)):
                    broken.append(name)
                    break
                begin += got
    return broken


def _described(path: Path, name: str, entry: Any) -> Tensor:
    """A meta tensor from an entry of a safetensors header."""
    try:
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        count = 1
        for n in shape:
            if type(n) is not int or n < 0:
                raise ValueError(f"shape {shape}")
            count *= n
        if count * dtype.itemsize != end - begin:
            raise ValueError(f"shape {shape} in {end - begin} bytes")
        return torch.empty(shape, dtype=dtype, device="meta")
    except KeyError as error:
        raise CheckpointError(
            f"{path}: tensor {name!r} has no {error}, or an unsupported type; expected one of {list(_DTYPES)}"
        ) from error
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{path} is broken at tensor {name!r}: {error}") from error


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a training checkpoint, as views of its file, and what else it holds.

    foreign: names of the objects that were not built. other: keys beside the tensors ("epoch", ...).
    """

    path: Path
    tensors: Mapping[str, Tensor]
    foreign: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


_NESTS = ("state_dict", "generator", "model")


def read_checkpoint(path: Path) -> Checkpoint:
    """A training checkpoint: tensors by name, in torch's files bare or under one of _NESTS.

    Values are not looked at: a file of 3 GB is mapped, not read. Raises CheckpointError as `read_tensors`
    does; objects beside the tensors (optimizer, callbacks) are named, not built.
    """
    if path.suffix == ".safetensors":
        read_shapes(path)
        try:
            return Checkpoint(path, load_file(path))
        except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise _broken(path, error) from error
    graph, foreign = _unpickled(path)
    if not isinstance(graph, dict):
        raise CheckpointError(f"{path}: expected a mapping, got {type(graph).__name__}")
    nest = next((key for key in _NESTS if isinstance(graph.get(key), dict)), None)
    other = [] if nest is None else [str(key) for key in graph if key != nest]
    return Checkpoint(path, _by_name(graph if nest is None else graph[nest], path), foreign, other)


def check_values(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError if a value is NaN or infinite, naming `where` and the tensors."""
    broken = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if broken:
        raise _damaged(broken, where)


def _damaged(broken: list[str], where: str) -> CheckpointError:
    more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
    return CheckpointError(
        f"{where}: NaN or infinity in {', '.join(broken[:5])}{more}; these weights are damaged"
    )


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return True
    low, high = (
        tensor.aminmax()
    )  # NaN and infinity both show here, and nothing as large as the tensor is made
    return bool(low.isfinite() and high.isfinite())


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal. Raises CheckpointError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(READ_AT_ONCE):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return digest.hexdigest()


def _pickled_tensors(path: Path) -> dict[str, Tensor]:
    graph, foreign = _unpickled(path)
    if foreign:
        raise CheckpointError(
            f"{path} holds more than tensors, and was not run: {', '.join(foreign[:5])}; a training "
            "checkpoint goes through `python -m weights_convert` first"
        )
    if not isinstance(graph, dict):
        raise CheckpointError(f"{path}: expected tensors by name, got {type(graph).__name__}")
    return _by_name(graph, path)


def _unpickled(path: Path) -> pickles.Loaded:
    try:
        return pickles.load(path)
    except (pickles.UnsafePickleError, OSError) as error:
        raise _broken(path, error) from error


def _by_name(values: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: expected tensors by name, got {type(value).__name__} at {str(name)[:80]!r}"
            )
        if value.layout != torch.strided or value.dtype not in _DTYPES.values():
            raise CheckpointError(f"{path}: {name} is {value.dtype} ({value.layout}), expected plain floats")
    return dict(values)


def _broken(path: Path, error: BaseException) -> CheckpointError:
    what = str(error) or type(error).__name__
    if isinstance(error, OSError):
        return CheckpointError(f"{path} cannot be read: {what}")
    return CheckpointError(f"{path} is broken: {what}; it may be cut short: fetch it again")
