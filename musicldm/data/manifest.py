"""What to train on: a .jsonl or .csv file that names sound files, captions, beats and splits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicldm.io.files import as_json, atomic
from musicldm.io.tables import Record, csv_records, jsonl_records, opened

from .annotations import as_times, read_annotation

__all__ = ["FIELDS", "Track", "read_manifest", "write_manifest"]

Times = NDArray[np.float64]
SUFFIXES = (".jsonl", ".csv")
SHOWN = 10  # problems in one error


@dataclass(frozen=True, kw_only=True)
class Track:
    """One sound file and what is known of it.

    captions: none, one, or several that say the same. beats, downbeats: (n,) seconds from the file's start,
    ascending; None where nobody looked. split: "train" unless the manifest says otherwise.
    """

    path: Path
    captions: tuple[str, ...] = ()
    beats: Times | None = field(default=None, compare=False)
    downbeats: Times | None = field(default=None, compare=False)
    split: str = "train"


_COLUMN = {"captions": "caption"}
FIELDS = tuple(_COLUMN.get(column.name, column.name) for column in fields(Track))


def read_manifest(
    path: str | os.PathLike[str], split: str | None = None, columns: Mapping[str, str] | None = None
) -> list[Track]:
    """The tracks of a manifest, in its order; of one split, or of all.

    A .jsonl file has an object a line, a .csv file (RFC 4180) a header. Only `path` is needed; it is relative
    to the manifest's folder. `caption` is a string or, in .jsonl, a list of them; `beats` and `downbeats` are
    lists of seconds, or the path of a .npy or .beats file (see `annotations`); no `split` means "train".
    columns: our names to the file's, as {"caption": "text"}; then those columns are read and no others.

    Raises ValueError naming the file and every line that is wrong, or a split that nobody is in.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path}: cannot tell what is in a {path.suffix or 'file without suffix'}, expected "
            f"{' or '.join(SUFFIXES)}; `musicldm manifest FOLDER` writes one from a folder of sound files"
        )
    names = {theirs: ours for ours, theirs in (columns or {}).items()}
    unknown = sorted(set(names.values()) - set(FIELDS))
    if unknown:
        raise ValueError(f"columns: got {', '.join(unknown)}, expected some of {', '.join(FIELDS)}")
    tracks: list[Track] = []
    problems: list[str] = []
    for record in _records(path):
        try:
            tracks.append(_track(record, path.parent, names))
        except ValueError as error:  # noqa: PERF203 (all of them, in one error)
            problems.append(f"line {record.line}: {error}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(f"{path}: {len(problems)} bad rows\n  " + "\n  ".join(problems[:SHOWN]) + more)
    if not tracks:
        raise ValueError(f"{path}: holds no rows; put at least one track in it")
    chosen = [track for track in tracks if split in (None, track.split)]
    if not chosen:
        found = ", ".join(sorted({repr(track.split) for track in tracks}))
        raise ValueError(f"{path}: no track is in split {split!r}; it has {found}")
    return chosen


def write_manifest(path: str | os.PathLike[str], tracks: Iterable[Track]) -> None:
    """A .jsonl manifest that `read_manifest` gives back; it appears whole or not at all.

    Paths are written relative to its folder where the tracks lie under it, absolute elsewhere; times to 0.1
    ms.
    """
    path = Path(path)
    if path.suffix.lower() != ".jsonl":
        raise ValueError(f"{path}: manifests are written as .jsonl")
    folder = Path(os.path.abspath(path.parent))
    with atomic(path) as file:
        for track in tracks:
            file.write(as_json(_row(track, folder)))


def _row(track: Track, folder: Path) -> dict[str, Any]:
    where = Path(os.path.abspath(track.path))
    row: dict[str, Any] = {
        "path": where.relative_to(folder).as_posix() if where.is_relative_to(folder) else where.as_posix()
    }
    if track.captions:
        row["caption"] = track.captions[0] if len(track.captions) == 1 else list(track.captions)
    for name, times in (("beats", track.beats), ("downbeats", track.downbeats)):
        if times is not None:
            row[name] = [round(float(time), 4) for time in times]
    return {**row, "split": track.split}


def _records(path: Path) -> Iterator[Record]:
    """Raises ValueError for a file that is no table at all."""
    try:
        with opened(path) as file:
            if path.suffix.lower() == ".jsonl":
                yield from jsonl_records(file, '{"path": "...", "caption": "..."}')
                return
            header, records = csv_records(path, file)
            if len(set(header)) < len(header):
                raise ValueError(f"{path}, line 1: a column stands in the header twice: {', '.join(header)}")
            yield from records
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a manifest ({error.strerror})") from None


def _track(record: Record, folder: Path, names: Mapping[str, str]) -> Track:
    """Raises ValueError without the line's number."""
    if record.fault:
        raise ValueError(record.fault)
    row = record.cells
    if names:
        row = {names[name]: value for name, value in row.items() if name in names}
    unknown = [repr(name)[:60] for name in row if name not in FIELDS]
    if unknown:
        raise ValueError(f"got {', '.join(unknown[:5])}, expected only {', '.join(FIELDS)}")
    path = _string(row.get("path"), "path")
    beats, downbeats = (_times(row.get(name), name, folder) for name in ("beats", "downbeats"))
    split = row.get("split")
    return Track(
        path=folder / path,
        captions=_captions(row.get("caption")),
        beats=beats.beats if beats else None,
        downbeats=downbeats.beats if downbeats else beats.downbeats if beats else None,
        split="train" if split is None else _string(split, "split"),
    )


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{name}: got {repr(value)[:80]}, expected a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: got {ascii(value)[:80]}, which has half a surrogate pair") from None
    return value


def _captions(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    listed = value if isinstance(value, list) else [value]
    return tuple(_string(caption, "caption") for caption in listed)


@dataclass(frozen=True)
class _Given:
    beats: Times
    downbeats: Times | None = None


def _times(value: Any, name: str, folder: Path) -> _Given | None:
    """Times as they stand in the row or in the file that it names. `beats` here are the field's own times."""
    if value is None:
        return None
    if isinstance(value, list):
        return _Given(as_times(value, name))
    where = folder / _string(value, name)
    found = read_annotation(where)
    if name == "downbeats" and where.suffix.lower() != ".npy":  # a .beats file says which ones they are
        if found.downbeats is None:
            raise ValueError(f"downbeats: {where} does not say which beats are downbeats")
        return _Given(found.downbeats)
    return _Given(found.beats, found.downbeats)
