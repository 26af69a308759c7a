"""What was measured -> report.json, report.md, index.html, files.jsonl. Same input, same bytes."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from musicldm import audio
from musicldm.io.files import as_json, atomic, write_json
from musicldm.io.picture import RATE, mel_picture

from .charts import histogram
from .examine import Looked
from .features import Feature
from .handling import Excerpt, Handling
from .intake import ClipSet
from .measured import Measured, Ranked
from .page import Example, Player, page
from .problems import Problem, counted
from .results import html_table, markdown_table, number, text_table

__all__ = ["Inputs", "write_report"]

FORMAT = 1  # of report.json


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that the numbers depend on."""

    sets: Mapping[str, ClipSet]
    looked: Mapping[str, Sequence[Looked]]
    cut: Mapping[str, Sequence[Excerpt]]
    problems: Sequence[Problem]
    handling: Handling
    features: Mapping[str, Feature]
    settings: Mapping[str, Any]
    command: str


def write_report(folder: Path, given: Inputs, measured: Measured, *, count: int, embed: bool) -> str:
    """Write the four files (and problems.jsonl, if clips were left out); the tables as text.

    count: clips of each list on the page. embed: put their sound into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = _about(given, measured)
    whole = {
        **about,
        "results": [result.as_dict() for result in measured.results],
        "left_out": [asdict(left) for left in measured.left_out],
        "notes": [*_notes(given), *measured.notes],
        "clips": _clips(given, measured),
        "lists": {ranked.name: _listed(ranked, given) for ranked in measured.lists},
    }
    write_json(folder / "report.json", whole)
    with atomic(folder / "files.jsonl") as file:
        file.writelines(as_json(row) for row in _files(given))
    _write_excluded(folder / "problems.jsonl", given.problems)
    lines = _about_lines(given)
    table = text_table(measured.results, measured.left_out)
    notes = [f"note: {note}" for note in whole["notes"]]
    title = f"Evaluation of {given.sets['GENERATED'].source.resolve().name}"
    markdown = [f"# {title}", "", *(f"{line}  " for line in lines), "",
                markdown_table(measured.results, measured.left_out),
                *(f"- {note}" for note in whole["notes"]), "",
                "```", given.command, "```", ""]  # fmt: skip
    _write(folder / "report.md", "\n".join(markdown))
    figures = [histogram(figure.title, figure.series, figure.marks) for figure in measured.figures]
    examples = [(ranked.heading, ranked.text, _examples(ranked, given, folder, count, embed))
                for ranked in measured.lists]  # fmt: skip
    _write(
        folder / "index.html",
        page(
            title,
            lines,
            whole["notes"],
            html_table(measured.results, measured.left_out),
            figures,
            examples,
            about,
        ),
    )
    return "\n".join([*lines, "", table, *notes, f"{folder / 'index.html'} has the clips to hear"])


def _about(given: Inputs, measured: Measured) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "command": given.command,
        **given.settings,
        "handling": given.handling.about(),
        "sets": {role: _set(role, given) for role in given.sets},
        "excluded": {"counts": counted(given.problems), "clips": [p.as_dict() for p in given.problems]},
        "features": {
            name: {**asdict(feature.id), "rate": feature.rate, "dim": feature.dim, "classes": feature.classes}
            for name, feature in given.features.items()
        },
        "draws": asdict(measured.draws),
        "threads": "1 on a CPU",
    }


def _set(role: str, given: Inputs) -> dict[str, Any]:
    """What a set was. digest: SHA-256 of its files' SHA-256, in order, one a line."""
    one, items = given.sets[role], given.looked[role]
    seconds = [item.facts.seconds for item in items]
    digests = "".join(f"{item.facts.sha256}\n" for item in items)
    return {
        "source": str(one.source),
        "kind": one.kind,
        "files": len(one.sounds),
        "used": len(items),
        "excerpts": len(given.cut[role]),
        "seconds": {"min": min(seconds), "median": float(np.median(seconds)), "max": max(seconds)},
        "rates_hz": _often(item.facts.rate for item in items),
        "channels": _often(item.facts.channels for item in items),
        "formats": _often(item.facts.format for item in items),
        "rms_db": _decibels([item.facts.rms for item in items]),
        "peak_db": _decibels([item.facts.peak for item in items]),
        "digest": hashlib.sha256(digests.encode()).hexdigest(),
        "about": dict(one.about),
    }


def _often(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}


def _decibels(values: Sequence[float]) -> dict[str, float]:
    found = 20 * np.log10(np.maximum(values, 1e-9))
    return {"min": float(found.min()), "median": float(np.median(found)), "max": float(found.max())}


def _about_lines(given: Inputs) -> list[str]:
    lines = []
    for role in given.sets:
        one = _set(role, given)
        rates = ", ".join(f"{rate} Hz" for rate in one["rates_hz"])
        parts = f" in {one['excerpts']} windows" if one["excerpts"] != one["used"] else ""
        lines.append(
            f"{role}: {one['used']} clips{parts} from {one['source']}, {rates}, "
            f"{one['seconds']['median']:.2f} s, level {one['rms_db']['median']:.1f} dB RMS (medians)"
        )
    left = ", ".join(
        f"{count} {kind} of {role}"
        for role, kinds in counted(given.problems).items()
        for kind, count in kinds.items()
    )
    lines.append(f"left out by --skip: {left}" if left else "no clip was left out")
    handling = given.handling
    lines.append(f"heard at {handling.rate} Hz (soxr HQ), loudness {handling.loudness}")
    lines += [f"{name}: {feature.id.name}, SHA-256 {feature.id.sha256[:16]} of {feature.id.sha256_of}; "
              f"{feature.id.settings}" for name, feature in given.features.items()]  # fmt: skip
    return lines


def _notes(given: Inputs) -> list[str]:
    """What a reader of the numbers must know of the clips."""
    notes = []
    chosen = {item.sound.candidates for item in given.looked["GENERATED"]} - {1}
    if chosen:
        of = ", ".join(map(str, sorted(chosen)))
        notes.append(
            f"each generated clip is the best of {of} by the model's own CLAP: "
            "its text-audio similarity was selected for"
        )
    for first, second in (("REFERENCE", "TRAIN"), ("GENERATED", "TRAIN"), ("GENERATED", "REFERENCE")):
        theirs = {item.facts.sound_sha256 for item in given.looked.get(second, ())}
        both = sum(item.facts.sound_sha256 in theirs for item in given.looked.get(first, ()))
        if both:
            notes.append(f"{both} clips of {first} are in {second} too, sample for sample")
    spans = {role: [item.seconds[1] - item.seconds[0] for item in given.cut[role]] for role in given.cut}
    medians = {role: float(np.median(span)) for role, span in spans.items()}
    if max(medians.values()) > 1.25 * min(medians.values()):
        told = ", ".join(f"{role} {median:.2f} s" for role, median in medians.items())
        notes.append(
            f"the clips differ in length ({told}): features hear unlike stretches; see --seconds, --window"
        )
    return notes


def _clips(given: Inputs, measured: Measured) -> list[dict[str, Any]]:
    """Every generated clip with its own values."""
    rows = []
    for k, excerpt in enumerate(given.cut["GENERATED"]):
        item = excerpt.item
        row = {
            "name": item.sound.name, "sha256": item.facts.sha256, "seed": item.sound.seed,
            "prompt": item.sound.prompt,
            **{name: values[k] for name, values in measured.columns.items()},
        }  # fmt: skip
        rows.append(row)
    return rows


def _files(given: Inputs) -> list[dict[str, Any]]:
    return [
        {"role": role, "name": item.sound.name, **asdict(item.facts)}
        for role in given.sets
        for item in given.looked[role]
    ]


def _write_excluded(path: Path, problems: Sequence[Problem]) -> None:
    if not problems:
        path.unlink(missing_ok=True)
        return
    with atomic(path) as file:
        file.writelines(as_json(problem.as_dict()) for problem in problems)


def _write(path: Path, text: str) -> None:
    with atomic(path) as file:
        file.write(text.encode("utf-8", "replace"))  # half a surrogate pair is no character


def _listed(ranked: Ranked, given: Inputs) -> list[dict[str, Any]]:
    """Every entry of a list, for the JSON."""
    rows = []
    for entry in ranked.entries:
        row: dict[str, Any] = {"value": entry.value}
        for role, place in entry.clips:
            excerpt = given.cut[role][place]
            start, stop = excerpt.seconds
            row[role.lower()] = {
                "name": excerpt.item.sound.name,
                "from": round(start, 4),
                "to": round(stop, 4),
            }
        rows.append(row)
    return rows


def _examples(ranked: Ranked, given: Inputs, folder: Path, count: int, embed: bool) -> list[Example]:
    return [
        Example(
            number(entry.value),
            [
                _player(role, given.cut[role][place], given.handling, folder, embed)
                for role, place in entry.clips
            ],
        )
        for entry in ranked.entries[:count]
    ]


def _player(role: str, excerpt: Excerpt, handling: Handling, folder: Path, embed: bool) -> Player:
    sound = excerpt.item.sound
    title = f"{role.lower()}: {excerpt.name}"
    text = sound.prompt or ""
    try:
        wave = handling.wave(excerpt, handling.rate)
    except ValueError as error:  # gone since it was looked at
        return Player(title, text, problem=str(error))
    mel = _url(mel_picture(audio.resample(wave, handling.rate, RATE)), "image/png")
    if embed:
        peak = max(1.0, float(np.abs(wave).max()))  # FLAC holds no more
        return Player(
            title, text, mel, _url(audio.encode("clip.flac", wave / peak, handling.rate), "audio/flac")
        )
    start, stop = excerpt.seconds
    part = "" if excerpt.samples == excerpt.item.facts.samples else f"#t={start:.3f},{stop:.3f}"
    return Player(title, text, mel, _relative(sound.path, folder) + part)


def _relative(path: Path, folder: Path) -> str:
    """The file's URL as the page sees it."""
    try:
        return quote(Path(os.path.relpath(path, folder)).as_posix())
    except ValueError:  # another drive
        return path.resolve().as_uri()


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
