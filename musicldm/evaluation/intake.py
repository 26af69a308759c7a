"""A folder of sound files, a manifest, or what `musicldm batch` wrote -> the clips of one set.

Nothing is decoded here; `examine.py` looks at the files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from musicldm.batch.record import OURS
from musicldm.data.folders import READABLE, UNREADABLE
from musicldm.data.manifest import read_manifest
from musicldm.io.files import file_digest
from musicldm.io.tables import Record, csv_records, jsonl_records, opened

from .problems import Problem

__all__ = ["ROLES", "ClipSet", "Sound", "key_of", "read_set", "with_prompts"]

ROLES = ("GENERATED", "REFERENCE", "TRAIN")
NAME_COLUMNS = ("path", "file", "id")  # of --prompts: what names the clip
TEXT_COLUMNS = ("caption", "prompt", "text")


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A file of a set. name: as the set calls it. key: what pairs it with clips of other sets and with rows.

    sha256: of its bytes, as the batch's sidecar says. seed: of the noise. candidates: of how many the best
    was kept, and so chosen by the model's own CLAP.
    """

    path: Path
    name: str
    key: str
    prompt: str | None = None
    seed: int | None = None
    sha256: str | None = None
    candidates: int = 1


@dataclass(frozen=True)
class ClipSet:
    """role: of ROLES. source: as given. kind: "folder", "manifest" or "batch". about: for the report."""

    role: str
    source: Path
    kind: str
    sounds: tuple[Sound, ...] = ()
    problems: tuple[Problem, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def key_of(name: str) -> str:
    """The last part of a path, without the suffix of a sound file."""
    last = PurePosixPath(name.replace("\\", "/"))
    return last.stem if last.suffix.lower() in READABLE | UNREADABLE else last.name


def read_set(role: str, source: Path, split: str | None = None) -> ClipSet:
    """What is given for a role. Wrong sources come back as a set with problems, never as an error.

    split: of a manifest. Without it, a manifest must have one split only.
    """
    try:
        if source.is_dir() and (source / "run.json").is_file():
            found = _from_batch(role, source)
        elif source.is_dir():
            found = _from_folder(role, source)
        elif source.exists():
            found = _from_manifest(role, source, split)
        else:
            raise ValueError("there is no such folder or manifest")
    except (ValueError, OSError) as error:
        problem = Problem(role, str(source), "set", str(error))
        return ClipSet(role, source, "unusable", (), (problem,))
    return replace(found, sounds=_with_unique_keys(found.sounds, source))


def _with_unique_keys(sounds: tuple[Sound, ...], source: Path) -> tuple[Sound, ...]:
    """Files of one name in several folders are told apart by their folders."""
    often = Counter(sound.key for sound in sounds)
    return tuple(
        sound if often[sound.key] == 1 else replace(sound, key=str(PurePosixPath(sound.name).with_suffix("")))
        for sound in sounds
    )


def _from_folder(role: str, folder: Path) -> ClipSet:
    sounds, problems = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        if suffix in UNREADABLE:
            text = f"{suffix} is not read; convert it to .flac"
            problems.append(Problem(role, name.as_posix(), "unreadable", text))
        elif suffix in READABLE:
            sounds.append(Sound(path=path, name=name.as_posix(), key=key_of(path.name)))
    if not sounds:
        text = f"no sound files in it; expected {', '.join(sorted(READABLE))}"
        problems.append(Problem(role, str(folder), "set", text))
    return ClipSet(role, folder, "folder", tuple(sounds), tuple(problems))


def _from_manifest(role: str, path: Path, split: str | None) -> ClipSet:
    tracks = read_manifest(path, split)
    splits = sorted({track.split for track in tracks})
    if len(splits) > 1:
        option = f"--{role.lower()}-split"
        raise ValueError(f"it has the splits {', '.join(splits)}; say which by {option} NAME")
    sounds = []
    for track in tracks:
        at = track.path
        name = at.relative_to(path.parent) if at.is_relative_to(path.parent) else at
        prompt = track.captions[0] if track.captions else None
        sounds.append(Sound(path=at, name=name.as_posix(), key=key_of(at.name), prompt=prompt))
    about = {"split": splits[0], "manifest_sha256": file_digest(path)[0]}
    return ClipSet(role, path, "manifest", tuple(sounds), (), about)


def _from_batch(role: str, folder: Path) -> ClipSet:
    record = _object(folder / "run.json")
    run, settings = record.get("run"), record.get("settings")
    if not isinstance(run, str) or not isinstance(settings, dict):
        return _from_folder(role, folder)  # a run.json of something else, a training run's for one
    problems, sounds, named = [], [], set()
    for path in sorted(folder.iterdir()):
        if OURS.fullmatch(path.name) and path.suffix == ".json":
            try:
                sidecar = _object(path)
                if sidecar.get("run") != run:
                    raise ValueError("is of another run than run.json")
                sounds.append(_from_sidecar(folder, sidecar))
                named |= {file["name"] for file in sidecar["files"]}
            except (ValueError, KeyError, TypeError, IndexError) as error:
                problems.append(Problem(role, path.name, "unreadable", f"a sidecar that {_why(error)}"))
    problems += [
        Problem(role, path.name, "stray", "no sidecar of this run names it")
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in READABLE | UNREADABLE and path.name not in named
    ]
    errors = folder / "errors.jsonl"
    failed = [record.cells for record in _records(errors)] if errors.is_file() else []
    problems += [
        Problem(role, f"row {row.get('index')}", "failed row", str(row.get("reason"))[:200]) for row in failed
    ]
    if not sounds:
        problems.append(
            Problem(role, str(folder), "set", "a batch's folder without clips; run `musicldm batch` on")
        )
    about = {"run": run, "settings": settings}
    return ClipSet(role, folder, "batch", tuple(sounds), tuple(problems), about)


def _from_sidecar(folder: Path, sidecar: Mapping[str, Any]) -> Sound:
    best = sidecar["files"][0]
    name = Path(best["name"]).name  # never out of the folder
    named = sidecar.get("id")
    return Sound(
        path=folder / name,
        name=name,
        key=key_of(str(named) if named is not None else name),
        prompt=str(sidecar["prompt"]),
        seed=sidecar.get("seed"),
        sha256=str(best["sha256"]),
        candidates=len(sidecar.get("candidates", ())) or 1,
    )


def with_prompts(given: ClipSet, path: Path) -> tuple[ClipSet, dict[str, Any]]:
    """The set with the prompts that a file's rows have for its clips, by key; and what is said of the file.

    A .jsonl or .csv file whose rows name a clip (path, file or id) and say its prompt (caption, prompt or
    text; of a list of captions, the first). Clips without a row, and rows without a clip, become problems.
    """
    try:
        prompts = _prompts(path)
    except (ValueError, OSError) as error:
        return replace(
            given, problems=(*given.problems, Problem("PROMPTS", str(path), "set", str(error)))
        ), {}
    about = {"name": path.name, "sha256": file_digest(path)[0], "rows": len(prompts)}
    keys = {sound.key for sound in given.sounds}
    if given.kind == "batch" and keys.isdisjoint(prompts):  # its rows had no ids: we do not guess by number
        text = "no row names a clip of the batch, and its sidecars know their prompts; leave --prompts away"
        return replace(given, problems=(*given.problems, Problem("PROMPTS", str(path), "set", text))), about
    problems = [
        Problem(given.role, sound.name, "no prompt", f"no row of {path.name} is called {sound.key!r}")
        for sound in given.sounds
        if sound.key not in prompts
    ]
    problems += [
        Problem("PROMPTS", key, "no clip", f"{given.role} has no clip of that name")
        for key in prompts
        if key not in keys
    ]
    sounds = tuple(replace(sound, prompt=prompts.get(sound.key)) for sound in given.sounds)
    return replace(given, sounds=sounds, problems=(*given.problems, *problems)), about


def _prompts(path: Path) -> dict[str, str]:
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise ValueError(f"expected .jsonl or .csv, got {path.suffix or 'a name without suffix'}")
    found: dict[str, str] = {}
    problems = []
    for number, record in enumerate(_records(path), start=1):
        row = record.cells
        name = next((row[column] for column in NAME_COLUMNS if row.get(column)), None)
        text = next((row[column] for column in TEXT_COLUMNS if row.get(column)), None)
        text = text[0] if isinstance(text, list) and text else text
        if record.fault:
            problems.append(f"row {number}: {record.fault}")
        elif name is None or not isinstance(text, str):
            problems.append(
                f"row {number}: needs one of {', '.join(NAME_COLUMNS)} and one of {', '.join(TEXT_COLUMNS)}"
            )
        elif key_of(str(name)) in found:
            problems.append(f"row {number}: {key_of(str(name))!r} stands in it twice")
        else:
            found[key_of(str(name))] = text
    if problems:
        raise ValueError(f"{len(problems)} bad rows: " + "; ".join(problems[:10]))
    if not found:
        raise ValueError("holds no rows")
    return found


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON ({str(error)[:100]})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value


def _records(path: Path) -> Iterator[Record]:
    with opened(path) as file:
        if path.suffix.lower() == ".csv":
            yield from csv_records(path, file)[1]
        else:
            yield from jsonl_records(file, '{"path": "...", "caption": "..."}')


def _why(error: Exception) -> str:
    return f"lacks {error}" if isinstance(error, KeyError) else str(error)
