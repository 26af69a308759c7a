"""What is made once and found again on the disk: tensors by what they were made of, facts by their file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .files import as_json, atomic

__all__ = ["Cache", "StatCache", "file_state", "network_digest"]

log = logging.getLogger(__name__)

Facts = TypeVar("Facts")  # a dataclass of what JSON holds


class Cache:
    """A folder of small .safetensors files, each named by a digest of its key and holding key and checksum.

    A key is a JSON object that says all the value depends on: which clip (`Clip.key`: the file's bytes and
    the crop), which network (`network_digest`), which settings. Entries appear whole or not at all, and many
    processes may share a folder; one that is damaged is noticed by its checksum and made again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0  # by this object
        self.found = 0

    def get(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors that stand under a key, on the CPU; `make` makes them if none do."""
        known = self.load(key)
        if known is not None:
            self.found += 1
            return known
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        self.store(key, tensors)
        self.made += 1
        return tensors

    def load(self, key: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """None if there is no such entry, or, with a warning, if it is damaged."""
        path, text = self._entry(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        except (OSError, SafetensorError, ValueError) as error:
            log.warning("cache: %s cannot be read (%s) and is made again", path, error)
            return None
        if about.get("key") != text or about.get("checksum") != _checksum(tensors):
            log.warning("cache: %s is not what was written there and is made again", path)
            return None
        return tensors

    def store(self, key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write an entry, in place of the one that may be there."""
        path, text = self._entry(key)
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, shared=True, durable=False) as file:  # the checksum tells
            file.write(save(tensors, metadata={"key": text, "checksum": _checksum(tensors)}))

    def _entry(self, key: Mapping[str, Any]) -> tuple[Path, str]:
        text = json.dumps(key, sort_keys=True, allow_nan=False)
        name = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors", text


class StatCache(Generic[Facts]):
    """Facts of files in a folder of small JSON files, made once for each state of a file (see `file_state`).

    kind: the dataclass of the facts. purpose: all else that they depend on. Entries appear whole or not at
    all, and many processes may share a folder; one that cannot be read is made again.
    """

    def __init__(self, folder: Path, kind: type[Facts], purpose: str) -> None:
        self.folder = folder
        self.kind = kind
        self.purpose = purpose

    def get(self, path: Path, make: Callable[[Path], Facts]) -> Facts:
        """The facts of a file; `make` makes them if they are not known.

        Raises OSError if there is no such file, and whatever `make` raises, which is not kept.
        """
        name = file_state(path, self.purpose)
        entry = self.folder / name[:2] / f"{name}.json"
        with suppress(OSError, ValueError, TypeError):
            return self.kind(**json.loads(entry.read_bytes()))
        facts = make(path)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with atomic(entry, shared=True, durable=False) as file:  # half an entry is no JSON, and made again
            file.write(as_json(asdict(facts)))  # type: ignore[call-overload]
        return facts


def file_state(path: Path, purpose: str) -> str:
    """32 hexadecimal digits that name a file by its full path, size and time of change, for a purpose.

    Raises OSError if there is no such file.
    """
    state = path.stat()
    name = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {purpose}"
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def network_digest(module: nn.Module) -> str:
    """Names a network's weights: 32 hexadecimal digits of its class and state dict, on whatever device it is.

    Networks of one class and weights that differ in their config (head counts, a latent scale) have one
    digest: put such settings into the key.
    """
    return hashlib.blake2b(
        f"{type(module).__qualname__} {_checksum(module.state_dict())}".encode(), digest_size=16
    ).hexdigest()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
