"""Beats for every track of a manifest, once: from annotations that exist or from a program that hears
them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from musicldm.io.cache import file_state
from musicldm.io.files import as_json

from .annotations import Beats, as_times, read_annotation
from .beat_backends import BACKENDS
from .manifest import Track

__all__ = ["Failure", "Journal", "annotated", "backend_version", "find_beats"]


@dataclass(frozen=True)
class Failure:
    """A track without beats, and why."""

    path: Path
    reason: str


def annotated(track: Track, folder: Path) -> Beats | None:
    """What a folder of annotations has for a track: STEM.beats, or STEM_beat_pred.npy with
    STEM_downbeat_pred.npy
    as the authors keep them. None if it has nothing."""
    stem = track.path.stem
    text = folder / f"{stem}.beats"
    if text.is_file():
        return read_annotation(text)
    beats, downbeats = folder / f"{stem}_beat_pred.npy", folder / f"{stem}_downbeat_pred.npy"
    if not beats.is_file():
        return None
    later = read_annotation(downbeats).beats if downbeats.is_file() else None
    return Beats(read_annotation(beats).beats, later)


class Journal:
    """What was heard so far, a line a file, so that a run that was stopped goes on, and a
    longer manifest asks for its new tracks alone. A line may be torn.

    by: which program heard, and its version; lines by another do not count, nor those of a file that changed.
    """

    def __init__(self, path: Path, by: str) -> None:
        self.path = path
        self.by = by
        self._known: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    self._known[row["file"]] = row

    def get(self, path: Path) -> Beats | None:
        """The beats of a file, if they are known."""
        row = self._known.get(file_state(path, self.by))
        try:
            return (
                Beats(as_times(row["beats"], "beats"), as_times(row["downbeats"], "downbeats"))
                if row
                else None
            )
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, path: Path, found: Beats) -> None:
        """Append, and see it to the disk."""
        downbeats = np.zeros(0) if found.downbeats is None else found.downbeats
        row = {"file": file_state(path, self.by), "path": str(path)}
        row |= {"beats": found.beats.tolist(), "downbeats": downbeats.tolist()}
        with self.path.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")
            file.write(as_json(row))
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def backend_version(name: str) -> str:
    """As "librosa 0.11.0"."""
    try:
        return f"{name} {metadata.version(BACKENDS[name].package)}"
    except metadata.PackageNotFoundError:
        return name


def find_beats(
    tracks: Sequence[Track],
    hear: Callable[[Path], Beats],
    journal: Journal,
    *,
    again: bool = False,
    progress: Callable[[Sequence[Track]], Iterable[Track]] = iter,
) -> tuple[list[Track], list[Failure]]:
    """The tracks, in their order, with the beats that could be found; and those for which none could.

    A track that has beats and downbeats keeps them, unless `again`. A file that fails, in whatever way its
    program fails, does not stop the others.
    """
    done: list[Track] = []
    failures: list[Failure] = []
    for track in progress(tracks):
        found: Beats | None = None
        if again or track.beats is None or track.downbeats is None:
            try:
                found = _heard(track.path, hear, journal)
            except Exception as error:  # a file must not end a night's run, whatever a backend raises
                reason = next(iter(str(error).splitlines()), "") or type(error).__name__
                failures.append(Failure(track.path, reason.removeprefix(f"{track.path}: ")))
        done.append(track if found is None else replace(track, beats=found.beats, downbeats=found.downbeats))
    return done, failures


def _heard(path: Path, hear: Callable[[Path], Beats], journal: Journal) -> Beats:
    if not path.is_file():
        raise ValueError("there is no such file")
    known = journal.get(path)
    if known is None:
        known = hear(path)
        journal.add(path, known)
    if len(known.beats) < 2:
        raise ValueError(f"{len(known.beats)} beats were heard; a tempo needs two")
    return known
