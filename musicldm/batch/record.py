"""run.json: what a folder's clips were made with. A run that says something else is shown the difference."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicldm.io.files import BLOCK, PRIVATE, create_json, value_digest, write_json

from .rows import Survey

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Record", "locked", "open_record"]

NAME = "run.json"
OURS = re.compile(r"\d{6,}-.*\.(json|wav|flac|ogg)")


@dataclass(frozen=True)
class Record:
    """settings: whatever the audio depends on besides the rows; prompts: the file with the rows."""

    settings: Mapping[str, Any]
    prompts: Path
    survey: Survey

    @property
    def _prompts(self) -> dict[str, Any]:
        return {"file": self.prompts.name, "bytes": self.survey.bytes, "sha256": self.survey.sha256}

    @property
    def run(self) -> str:
        """What its clips bear: a name made from the settings. (They bear their rows' names beside it.)"""
        return value_digest(self.settings)[:16]

    def as_dict(self) -> dict[str, Any]:
        """The JSON of run.json."""
        return {"run": self.run, "settings": dict(self.settings), "prompts": self._prompts}

    def differences(self, earlier: Mapping[str, Any]) -> list[str]:
        """What is not as in an earlier run.json, a line each. Rows added at a prompt file's end are no
        difference."""
        then = earlier["settings"]
        lines = [
            f"{name}: {_shown(then.get(name))} there, {_shown(self.settings.get(name))} now"
            for name in sorted({*then, *self.settings})
            if then.get(name) != self.settings.get(name)
        ]
        if not self._continues(earlier["prompts"]):
            was, now = earlier["prompts"], self._prompts
            lines.append(
                f"prompts: {was['file']}, {was['bytes']} bytes, SHA-256 {was['sha256'][:12]} there, "
                f"{now['file']}, {now['bytes']} bytes, {now['sha256'][:12]} now; rows may be added at its end"
            )
        return lines

    def _continues(self, prompts: Mapping[str, Any]) -> bool:
        if prompts["sha256"] == self.survey.sha256:
            return True
        if prompts["bytes"] >= self.survey.bytes or not prompts["bytes"]:
            return False
        digest, left = hashlib.sha256(), prompts["bytes"]
        with self.prompts.open("rb") as file:
            while left:
                block = file.read(min(left, BLOCK))
                if not block:
                    return False
                digest.update(block)
                left -= len(block)
            line_ends = block.endswith(b"\n") or file.read(1) in (b"\n", b"\r")
        return line_ends and digest.hexdigest() == prompts["sha256"]


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def open_record(
    folder: Path,
    record: Record,
    *,
    overwrite: Callable[[int, str | None], bool] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> str:
    """The run's name. Makes the folder if there is none.

    overwrite: removes the clips of other settings, and of (index, row's digest) for which it is false; with
    other settings, the digest is None. Several processes may come at once, each with its own rows: they all
    get to the same end.
    Raises ValueError if the folder holds clips of other settings or other prompts and `overwrite` is not
    given, or of nobody knows what. Other settings that nothing was made with are forgotten.
    """
    path = folder / NAME
    _begin(path, record)
    earlier = _read(path)
    lines = record.differences(earlier)
    if lines and not overwrite and any(entry.name.endswith(".json") for entry in _clips(folder)):
        raise ValueError(
            f"{folder} was made with other settings; use another folder, the old settings, or --overwrite, "
            "which removes what differs:\n  " + "\n  ".join(lines)
        )
    if overwrite:
        if lines:
            for name in ("manifest.jsonl", "errors.jsonl"):
                (folder / name).unlink(missing_ok=True)
            say("replacing what was made with other settings, or from other rows:\n  " + "\n  ".join(lines))
        removed = _remove_others(folder, record.run, overwrite)
        if removed:
            say(f"removed the clips of {removed} row{'s' * (removed > 1)}")
        elif not lines:
            say("there is nothing to replace")
    if record.as_dict() != earlier:  # other settings, or rows were added
        write_json(path, record.as_dict(), shared=True)
    return record.run


def _begin(path: Path, record: Record) -> None:
    """See to it that there is a folder, and a record in it: this one, unless there was one before."""
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder for the clips")
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    stray = next(_clips(folder), None)
    if stray and not path.exists():  # now there is one: another process of this run was quicker
        raise ValueError(
            f"{folder} holds clips ({stray.name}, ...) but no {NAME} that says what they are; use another"
        )
    create_json(path, record.as_dict())


def _clips(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Audio and sidecars, by their names."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if OURS.fullmatch(entry.name))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
        value["run"], value["prompts"]["sha256"], value["prompts"]["bytes"], value["settings"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a record of a batch ({error!r}); use another folder") from error
    return dict(value)


def _remove_others(folder: Path, run: str, current: Callable[[int, str | None], bool]) -> int:
    """Remove clips of other settings, or of rows that are not current; how many rows' they were.

    A sidecar goes before its audio, so that what is half removed is not complete.
    """
    removed, found = 0, True
    while found:  # a folder that changes while it is listed may skip names
        found = False
        for entry in _clips(folder):
            files = _others(Path(entry.path), run, current)
            if files:
                found = True
                removed += 1
                for file in (Path(entry.path), *files):
                    file.unlink(missing_ok=True)
    return removed


def _others(sidecar: Path, run: str, current: Callable[[int, str | None], bool]) -> list[Path]:
    """The audio of a sidecar that is to be replaced; [] if it stays, or the file is anything else."""
    if sidecar.suffix != ".json":
        return []
    try:
        value = json.loads(sidecar.read_bytes())
        if current(value["index"], value["row"] if value["run"] == run else None):
            return []
        return [sidecar.with_name(Path(file["name"]).name) for file in value["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextmanager
def locked(folder: Path, share: str) -> Iterator[None]:
    """Hold one share of a folder's work: the same command, started twice by mistake, is refused.

    The system lets go when a process ends, however it ends. Where there are no locks, none is held.
    Raises ValueError if another process has it.
    """
    if fcntl is None:
        yield
        return
    path = folder / PRIVATE / f"lock-{share}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is at work in {folder}; wait for it, or end it first"
            ) from None
        except OSError:
            pass  # a network disk without locks
        yield
