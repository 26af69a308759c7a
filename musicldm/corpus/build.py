"""Makes the corpus: clips, `manifest.jsonl` to train on, `facts.jsonl` to judge by, `info.json`."""

from __future__ import annotations

import json
import multiprocessing
import platform
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from musicldm import audio
from musicldm.io.files import as_json, atomic, file_digest, write_json

from .clip import SECONDS, Clip
from .damage import damage
from .plan import VERSION, Entry, describe, entry, generator, score
from .render import RATE, Synth, find_synth, render

__all__ = ["build", "clip_path", "facts_row", "manifest_row"]

LIBRARIES = ("mido", "numpy", "soundfile", "soxr")

Progress = Callable[[Iterable[int]], Iterable[int]]


def build(
    folder: Path,
    clips: int,
    seed: int,
    *,
    jobs: int = 1,
    soundfont: str | None = None,
    suffix: str = ".flac",
    progress: Progress = iter,
) -> dict[str, Any]:
    """Compose and render `clips` clips into `folder`; returns what `info.json` holds.

    Clips that are there already are kept, so an interrupted run goes on where it was. jobs: processes.
    progress: wraps the finished clips' numbers as they come.

    Raises ValueError for a number below 1 or a folder that holds another corpus; OSError if fluidsynth or the
    soundfont is missing, ImportError if mido is.
    """
    if clips < 1 or jobs < 1:
        raise ValueError(f"corpus: got {clips} clips and {jobs} jobs, expected at least 1 of each")
    audio.check_suffix(Path("clip" + suffix))
    synth = find_synth(soundfont)
    info = {
        "version": VERSION,
        "seed": seed,
        "clips": clips,
        "seconds": SECONDS,
        "rate": RATE,
        "suffix": suffix,
        "fluidsynth": synth.version(),
        "soundfont": Path(synth.soundfont).name,
        "soundfont_sha256": file_digest(Path(synth.soundfont))[0],
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
    check_same(folder, info)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    write_json(folder / "info.json", info)
    make = partial(make_clip, folder=folder, seed=seed, synth=synth, suffix=suffix)
    if jobs == 1:
        for _ in progress(map(make, range(clips))):
            pass
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            for _ in progress(pool.imap_unordered(make, range(clips), chunksize=4)):
                pass
    entries = [entry(seed, number) for number in range(clips)]
    scored = [(of, score(seed, of)) for of in entries]
    with atomic(folder / "manifest.jsonl") as file:
        file.writelines(as_json(manifest_row(seed, of, clip, suffix)) for of, clip in scored)
    with atomic(folder / "facts.jsonl") as file:
        file.writelines(as_json(facts_row(of, clip, suffix)) for of, clip in scored)
    return info


def check_same(folder: Path, info: dict[str, Any]) -> None:
    """Raises ValueError if the folder holds a corpus made otherwise; a larger number of clips is no other."""
    path = folder / "info.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name in info if name != "clips" and found.get(name) != info[name]]
    if other:
        told = ", ".join(f"{name} {found.get(name)!r} there, {info[name]!r} now" for name in other)
        raise ValueError(f"corpus: {folder} holds another corpus ({told}); choose another folder")


def make_clip(number: int, *, folder: Path, seed: int, synth: Synth, suffix: str) -> int:
    """Render one clip unless it is there; returns its number."""
    path = folder / clip_path(number, suffix)
    if not path.is_file():
        of = entry(seed, number)
        wave = render(score(seed, of), synth)
        if of.quality != "good":
            wave = damage(wave, RATE, of.quality, generator(seed, "damage", number))
        audio.write(path, wave, RATE)
    return number


def clip_path(number: int, suffix: str) -> str:
    """Relative to the corpus's folder."""
    return f"audio/{number:05d}{suffix}"


def manifest_row(seed: int, of: Entry, clip: Clip, suffix: str) -> dict[str, Any]:
    """What training reads: nothing but the manifest's own fields."""
    return {
        "path": clip_path(of.number, suffix),
        "caption": describe(seed, of, clip),
        "beats": [round(time, 4) for time in clip.beats],
        "downbeats": [round(time, 4) for time in clip.downbeats],
        "split": of.split,
    }


def facts_row(of: Entry, clip: Clip, suffix: str) -> dict[str, Any]:
    """What evaluation reads: the truth about the clip. `original`: clips with the same number share notes."""
    return {
        "path": clip_path(of.number, suffix),
        "split": of.split,
        "original": of.original,
        **clip.facts.as_dict(),
    }
