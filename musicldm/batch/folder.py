"""The output folder: the names of its files, and what counts as complete."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicldm.io.files import PRIVATE, as_json, atomic, slug, write_json

from .rows import BadRow, Row

__all__ = ["Folder", "Tally", "stem"]


def stem(row: Row | BadRow) -> str:
    """What a row's files are called: its number makes the name its own, the prompt makes it readable."""
    return f"{row.index:06d}-{slug(row.prompt)}"


@dataclass(frozen=True)
class Tally:
    """Rows of a whole prompt file by what became of them; `left` are neither complete nor failed."""

    complete: int
    failed: int
    left: int


class Folder:
    """Clips of one run, each beside a sidecar that is written last: where it stands, the row is complete.

    run: names the run (see `record`); files of another run are not this run's. suffix: ".wav", ...
    Raises OSError wherever the disk does.
    """

    def __init__(self, path: Path, run: str, suffix: str) -> None:
        self.path = path
        self.run = run
        self.suffix = suffix

    def complete(self, row: Row) -> dict[str, Any] | None:
        """The row's sidecar, if it is this run's and this row's, and its files have the sizes it names."""
        try:
            sidecar = json.loads((self.path / f"{stem(row)}.json").read_bytes())
            if sidecar["run"] != self.run or sidecar["row"] != row.digest:
                return None
            for file in sidecar["files"]:
                if os.stat(self.path / file["name"]).st_size != file["bytes"]:
                    return None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return dict(sidecar)

    def save(self, row: Row, clips: Iterable[bytes], about: Mapping[str, Any]) -> None:
        """Encoded clips, best first, then the sidecar: what is `about` them, names, sizes and hashes."""
        name = stem(row)
        sidecar = self.path / f"{name}.json"
        sidecar.unlink(missing_ok=True)  # never an old sidecar beside new audio
        files = []
        for place, clip in enumerate(clips, start=1):
            path = self.path / f"{name}{f'.{place}' * (place > 1)}{self.suffix}"
            with atomic(path) as file:
                file.write(clip)
            digest = hashlib.sha256(clip).hexdigest()
            files.append({"name": path.name, "bytes": len(clip), "sha256": digest})
        named = {"run": self.run, "row": row.digest, "index": row.index, "file": files[0]["name"]}
        write_json(sidecar, {**named, **about, "files": files})
        self._failure(row).unlink(missing_ok=True)

    def settle(self) -> None:
        """Put the folder's own list of names on the disk, where the system can."""
        with contextlib.suppress(OSError):  # Windows opens no folders, and some network disks sync none
            handle = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def fail(self, row: Row | BadRow, reason: str) -> None:
        """Note why a row has no clip, until it has one."""
        path = self._failure(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        row_id = row.id if isinstance(row, Row) else None
        error = {"run": self.run, "index": row.index, "id": row_id, "prompt": row.prompt, "reason": reason}
        write_json(path, error)

    def publish(self, rows: Iterable[Row | BadRow]) -> Tally:
        """Write manifest.jsonl and errors.jsonl, in the rows' order, from what the folder holds.

        Both are derived, anew each time: what counts are the sidecars. Without failures there is no
        errors.jsonl.
        """
        counts = {"complete": 0, "failed": 0, "left": 0}
        errors = self.path / "errors.jsonl"
        manifest = self.path / "manifest.jsonl"
        with atomic(manifest, shared=True) as good, atomic(errors, shared=True) as bad:
            for row in rows:
                state, found = self._state(row)
                counts[state] += 1
                if state == "complete":
                    good.write(as_json(_line(found)))
                elif state == "failed":
                    bad.write(as_json(found))
        if not counts["failed"]:
            errors.unlink(missing_ok=True)
        return Tally(**counts)

    def tally(self, rows: Iterable[Row | BadRow]) -> Tally:
        """What `publish` would count."""
        counts = {"complete": 0, "failed": 0, "left": 0}
        for row in rows:
            counts[self._state(row)[0]] += 1
        return Tally(**counts)

    def _state(self, row: Row | BadRow) -> tuple[str, dict[str, Any]]:
        sidecar = self.complete(row) if isinstance(row, Row) else None
        if sidecar is not None:
            return "complete", sidecar
        try:
            error = json.loads(self._failure(row).read_bytes())
        except FileNotFoundError:
            return "left", {}
        run = error.pop("run")
        return ("failed", error) if run == self.run else ("left", {})

    def _failure(self, row: Row | BadRow) -> Path:
        return self.path / PRIVATE / "errors" / f"{row.index:06d}.json"


_MANIFEST = (
    "index", "id", "file", "prompt", "negative", "seconds", "steps", "guidance", "seed", "score", "peak",
    "samples", "rate",
)  # fmt: skip


def _line(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    about = {name: sidecar[name] for name in _MANIFEST}
    return {**about, "sha256": sidecar["files"][0]["sha256"], "sidecar": f"{Path(sidecar['file']).stem}.json"}
