"""Checkpoints of a run: each appears whole or not at all, the last few and the best are kept.

A checkpoint is two files, `step-00001000.pt` and then `step-00001000.json` with the digest of the first:
where the second stands, the first was complete; where the digest does not fit, it has been damaged since.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from musicldm.io.files import atomic, file_digest, write_json

__all__ = ["Checkpoints", "Entry"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A checkpoint after `step` optimiser steps. loss: on the held-out items, None if not looked at then."""

    step: int
    loss: float | None
    bytes: int
    sha256: str


class Checkpoints:
    """A folder of checkpoints. keep: how many of the last stay; the best stays besides."""

    def __init__(self, folder: Path, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints: got keep {keep}, expected at least 1")
        self.folder = folder
        self.keep = keep

    def save(self, state: Mapping[str, Any], step: int, loss: float | None) -> Path:
        """Write a checkpoint, then remove those that need not be kept. Raises OSError if the disk does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(step)
        path.with_suffix(".json").unlink(missing_ok=True)  # never an old digest beside a new file
        with atomic(path) as file:
            try:
                hashing = _Hashing(file)
                torch.save(dict(state), hashing)  # type: ignore[arg-type]  # needs write and flush alone
            except RuntimeError as error:  # torch's own writer does not raise OSError
                raise OSError(f"{path} could not be written ({error}); make room") from error
        entry = Entry(step, loss, hashing.bytes, hashing.digest.hexdigest())
        write_json(path.with_suffix(".json"), asdict(entry))
        self._prune()
        return path

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"step-{step:08d}.pt"

    def entries(self) -> list[Entry]:
        """What the folder says that it holds, oldest first."""
        found = (_entry(path) for path in self.folder.glob("step-*.json"))
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.step)

    def best(self) -> Entry | None:
        """The checkpoint with the lowest loss on the held-out items."""
        judged = [entry for entry in self.entries() if entry.loss is not None]
        return min(judged, key=lambda entry: entry.loss or 0.0, default=None)

    def newest(self) -> tuple[Entry, dict[str, Any]] | None:
        """The newest checkpoint that is whole, and its content; None if there is none at all.

        A damaged one is passed over with a warning. Raises ValueError if all are damaged.
        """
        entries = self.entries()
        for entry in reversed(entries):
            state = self._whole(entry)
            if state is not None:
                return entry, state
        if entries or any(self.folder.glob("step-*.pt")):
            raise ValueError(
                f"{self.folder}: no checkpoint is whole; remove the folder to start from the beginning"
            )
        return None

    def load(self, entry: Entry) -> dict[str, Any]:
        """The content of a checkpoint, on the CPU. Raises ValueError if it is missing or damaged."""
        path = self.path(entry.step)
        try:
            if file_digest(path)[0] != entry.sha256:
                raise ValueError("its bytes are not those that were written")
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except (ValueError, OSError, RuntimeError) as error:
            raise ValueError(f"checkpoint {path} is damaged ({error})") from error

    def _whole(self, entry: Entry) -> dict[str, Any] | None:
        try:
            return self.load(entry)
        except ValueError as error:
            log.warning("%s; falling back to the one before", error)
            return None

    def _prune(self) -> None:
        entries = self.entries()
        best = self.best()
        kept = {entry.step for entry in entries[-self.keep :]} | ({best.step} if best else set())
        for entry in entries:
            if entry.step not in kept:
                self.path(entry.step).with_suffix(".json").unlink(missing_ok=True)
                self.path(entry.step).unlink(missing_ok=True)


def _entry(path: Path) -> Entry | None:
    try:
        return Entry(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        log.warning("%s is damaged (%s); its checkpoint is passed over", path, error)
        return None


class _Hashing:
    """A file that knows the digest of what has been written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """As a file's."""
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """As a file's."""
        self._file.flush()
