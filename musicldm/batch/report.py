"""`musicldm report`: a folder of clips -> one HTML file to hear them on."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from musicldm import audio
from musicldm.io.files import atomic
from musicldm.io.picture import RATE, mel_picture

from .page import FOOT, Entry, head, row_html
from .record import OURS

__all__ = ["write_report"]

log = logging.getLogger(__name__)

SORTS = {"index": "number", "prompt": "prompt", "score": "CLAP score", "seconds": "length", "peak": "peak",
         "seed": "seed", "wall": "time to make"}  # fmt: skip
TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg"}


def write_report(folder: Path, output: Path | None = None, *, embed: bool = False) -> tuple[Path, int]:
    """Write the page (default: DIR/report.html); its path and the number of clips on it.

    The clips are played from where they lie, by relative paths, or `embed` puts them into the page. A clip
    that is missing or cannot be read is shown as such.
    Raises ValueError if the folder holds no clips, or the page's folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; make one with `musicldm batch`")
    output = folder / "report.html" if output is None else output
    if not output.parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {output.parent}")
    record = _json(folder / "run.json")
    run = record.get("run")
    names = sorted(path.name for path in folder.glob("*.json") if OURS.fullmatch(path.name))
    names = [name for name in names if _json(folder / name).get("run") == run]
    if not names:
        raise ValueError(f"{folder}: holds no clips with sidecars; make some with `musicldm batch` first")
    base = quote(Path(os.path.relpath(folder, output.parent)).as_posix())
    settings = json.dumps(record, indent=1, ensure_ascii=False)
    with atomic(output) as file:
        file.write(_text(head(folder.resolve().name, _about(folder, names), settings, SORTS, len(names))))
        for name in names:
            file.write(_text(row_html(_entry(folder, base, _json(folder / name), embed))))
        file.write(_text(FOOT))
    return output, len(names)


def _about(folder: Path, names: list[str]) -> str:
    model = _json(folder / names[0])["model"]
    errors = folder / "errors.jsonl"
    failed = sum(1 for _ in errors.open("rb")) if errors.is_file() else 0
    words = f"{len(names)} clips by {model['name']} (SHA-256 {model['sha256'][:12]})"
    return words + f"; {failed} row{'s' * (failed > 1)} failed, see errors.jsonl" * (failed > 0)


def _entry(folder: Path, base: str, sidecar: Mapping[str, Any], embed: bool) -> Entry:
    files = [folder / Path(file["name"]).name for file in sidecar["files"]]
    score, wall = sidecar["score"], sidecar["wall_s"]
    facts = {
        "score": _number(score), "length": f"{sidecar['samples'] / sidecar['rate']:g} s",
        "steps": str(sidecar["steps"]), "guidance": f"{sidecar['guidance']:g}",
        "seed": str(sidecar["candidates"][0]["seed"]), "solver": _solver(sidecar),
        "peak": _number(sidecar["peak"]), "made in": f"{wall:.2f} s on {sidecar['device']}",
    }  # fmt: skip
    notes = [f"not: {sidecar['negative']}"] if sidecar["negative"] else []
    notes += [f"id {sidecar['id']}"] if sidecar["id"] is not None else []
    keys = {"score": score, "seconds": sidecar["seconds"], "peak": sidecar["peak"], "wall": wall}
    keys["seed"] = sidecar["seed"]
    problem, mel = "", ""
    try:
        wave, rate = audio.read(files[0])
        mel = _url(mel_picture(audio.resample(wave, rate, RATE)), "image/png")
        sources = [
            _url(file.read_bytes(), TYPES[file.suffix]) if embed else f"{base}/{quote(file.name)}"
            for file in files
        ]
    except (ValueError, OSError) as error:
        why = "cannot be read" if files[0].exists() else "is missing"
        log.warning("%s: %s", files[0], error)
        problem, sources = f"{files[0].name} {why}", []
    titles = [
        f"{place}. {file.name}, seed {candidate['seed']}, score {_number(candidate['score'])}"
        for place, (file, candidate) in enumerate(zip(files, sidecar["candidates"], strict=False), start=1)
    ]
    return Entry(
        index=sidecar["index"],
        prompt=sidecar["prompt"],
        clips=list(zip(titles, sources, strict=False)),
        mel=mel,
        notes=[*notes, files[0].name],
        facts={name: value for name, value in facts.items() if value},
        keys={name: "" if value is None else repr(value) for name, value in keys.items()},
        problem=problem,
    )


def _solver(sidecar: Mapping[str, Any]) -> str:
    name = str(sidecar["scheduler"]["config"]["_class_name"]).removesuffix("Scheduler")
    return name + f", eta {sidecar['eta']:g}" * bool(sidecar["eta"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; {} if the file is missing or holds none."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # half a surrogate pair is no character
