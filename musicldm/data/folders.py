"""From a folder of sound files to tracks: captions from files beside them, or from their names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .annotations import read_annotation
from .manifest import Track
from .seeds import generator

__all__ = ["READABLE", "Found", "tracks_from_folder"]

READABLE = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".rf64",
    ]
)
UNREADABLE = frozenset([".m4a", ".mp4", ".aac", ".wma", ".wv", ".ape", ".mka", ".webm"])  # sound all the same
CAPTION_KEYS = ("caption", "captions", "text", "description", "prompt")


@dataclass(frozen=True)
class Found:
    """tracks, by path; named: how many have only their file's name for a caption; left: sound files of
    formats
    that libsndfile does not read."""

    tracks: list[Track]
    named: int
    left: list[Path]


def tracks_from_folder(
    folder: str | os.PathLike[str], validation: float = 0.0, seed: int = 0, *, test: float = 0.0
) -> Found:
    """Every sound file under a folder, hidden ones left out.

    Captions of song.wav: the lines of song.txt; or what song.json has under caption, captions, text,
    description or prompt; or else its name, with dashes and underscores for blanks and without a track
    number. Beats: song.beats, where there is one. validation, test: about these shares, drawn by each file's
    path, are of the splits "validation" and "test": a file stays where it is when others come, and a larger
    share keeps what the smaller one had.

    Raises ValueError naming every caption, annotation or name that cannot be used, for shares that leave
    nothing to train on, or if there is no sound.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):  # NaN is refused as well
        raise ValueError(
            f"shares of a folder: got validation {validation} and test {test}, expected two numbers from 0 "
            "on that are below 1 together: the rest is trained on"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    tracks, problems, left, named = [], [], [], 0
    for path in _files(folder):
        suffix = path.suffix.lower()
        if suffix in UNREADABLE:
            left.append(path)
        if suffix not in READABLE:
            continue
        name = path.relative_to(folder).as_posix()
        try:
            name.encode()  # a manifest is UTF-8
            captions = _sidecar(path)
            beside = path.with_suffix(".beats")
            found = read_annotation(beside) if beside.is_file() else None
        except UnicodeEncodeError:
            problems.append(f"{name!a}: the name is not UTF-8; rename it")
            continue
        except ValueError as error:
            problems.append(str(error))
            continue
        named += not captions
        tracks.append(
            Track(
                path=path,
                captions=captions or (_from_name(path.stem),),
                beats=found.beats if found else None,
                downbeats=found.downbeats if found else None,
                split=_split(_place(name, seed), validation, test),
            )
        )
    if problems:
        raise ValueError(f"{folder}: {len(problems)} files stand in the way\n  " + "\n  ".join(problems[:10]))
    if not tracks:
        others = f"; {len(left)} are in formats that are not read (convert them to .flac)" if left else ""
        raise ValueError(f"{folder}: no sound files in it{others}; expected {', '.join(sorted(READABLE))}")
    return Found(tracks, named, left)


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename}: cannot be looked into ({error.strerror})")

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _sidecar(path: Path) -> tuple[str, ...]:
    text, record = path.with_suffix(".txt"), path.with_suffix(".json")
    try:
        if text.is_file():
            return tuple(
                line.strip() for line in text.read_text(encoding="utf-8-sig").splitlines() if line.strip()
            )
        if not record.is_file():
            return ()
        value = json.loads(record.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{text if text.is_file() else record}: not a caption in UTF-8 ({error})") from None
    found = [value[key] for key in CAPTION_KEYS if key in value] if isinstance(value, dict) else []
    listed = found[0] if found and isinstance(found[0], list) else found[:1]
    if not listed or not all(isinstance(caption, str) and caption.strip() for caption in listed):
        raise ValueError(f"{record}: has no text under any of {', '.join(CAPTION_KEYS)}")
    return tuple(caption.strip() for caption in listed)


def _from_name(stem: str) -> str:
    words = re.sub(r"[\s_]+|(?<=\w)-(?=\w)", " ", stem).strip()
    return re.sub(r"^\d{1,3}[\s.)-]+(?=\S)", "", words) or stem


def _split(place: float, validation: float, test: float) -> str:
    """One share from either end: neither moves a file of the other."""
    if place < validation:
        return "validation"
    return "test" if place >= 1 - test else "train"


def _place(name: str, seed: int) -> float:
    return float(generator(seed, f"split {name!r}", 0, 0).random())
