"""Every file of every set decoded once: what it is, and all that is wrong with it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicldm import audio
from musicldm.io.cache import StatCache
from musicldm.io.distributed import Group
from musicldm.io.files import file_digest

from .intake import ClipSet, Sound
from .problems import Problem

__all__ = ["Facts", "Limits", "Looked", "examine", "facts_of", "settle"]

CUT_OFF = 0.05  # s that may be missing
CUT_OFF_OGG = 1.0  # published Ogg files lack a fraction of what their last page says
STREAMED = 0xFFFFFFFF  # the size in a RIFF header whose writer could not go back
VERSION = 1  # of Facts, on the disk


@dataclass(frozen=True)
class Facts:
    """Of one file. samples: per channel, as decoded. peak, rms: of the channels' average.

    sha256: of the file; sound_sha256: of the decoded average, float32, with its rate: equal
    sounds in unlike files.
    """

    sha256: str
    sound_sha256: str
    samples: int
    rate: int
    channels: int
    format: str
    peak: float
    rms: float

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.rate


@dataclass(frozen=True)
class Limits:
    """What is asked of a file. shortest: in s. resample: to Hz; None: all must agree. downmix: or mono."""

    shortest: float
    resample: int | None
    downmix: bool


@dataclass(frozen=True)
class Looked:
    """A file that can be used."""

    sound: Sound
    facts: Facts


def facts_of(path: Path) -> Facts:
    """Decode a file, in pieces. Raises ValueError(text, kind of problem) for one that cannot be used."""
    if not path.is_file():
        raise ValueError("there is no such file", "missing")
    try:
        about = audio.header(path)
        digest, counted, peak, squares = hashlib.sha256(f"{about.rate} ".encode()), 0, 0.0, 0.0
        for piece in audio.blocks(path):
            digest.update(piece.tobytes())
            counted += len(piece)
            peak = max(peak, float(np.abs(piece).max(initial=0.0)))
            squares += float(np.square(piece, dtype=np.float64).sum())
    except audio.NonFiniteError as error:
        raise ValueError(str(error).partition(": ")[2].partition(";")[0], "non-finite") from None
    except (
        ValueError,
        OSError,
        RuntimeError,
    ) as error:  # libsndfile's own, while it decodes, is a RuntimeError
        raise ValueError(str(error), "unreadable") from None
    lost = (about.samples - counted) / about.rate
    if (
        lost > (CUT_OFF_OGG if about.format == "OGG" else CUT_OFF) and about.format != "MP3"
    ):  # MP3: an estimate
        raise ValueError(f"{counted} samples could be read, its header says {about.samples}", "cut off")
    if not counted:
        raise ValueError("holds no samples", "unreadable")
    if about.format == "WAV":
        _check_whole(path)
    return Facts(
        sha256=file_digest(path)[0],
        sound_sha256=digest.hexdigest(),
        samples=counted,
        rate=about.rate,
        channels=about.channels,
        format=about.format,
        peak=peak,
        rms=math.sqrt(squares / counted),
    )


def _check_whole(path: Path) -> None:
    """libsndfile takes a WAV that was cut off for a shorter one; its header knows better."""
    with path.open("rb") as file:
        head = file.read(8)
    promised, size = int.from_bytes(head[4:], "little"), path.stat().st_size
    if head[:4] == b"RIFF" and promised != STREAMED and promised + 8 > size:
        raise ValueError(f"{size} bytes, its header says {promised + 8}", "cut off")


def examine(
    sets: Sequence[ClipSet], limits: Limits, folder: Path, group: Group, progress: Any = iter
) -> tuple[dict[str, list[Looked]], list[Problem]]:
    """Role -> usable files, in the sets' order, and every problem. Files are shared among processes.

    folder: keeps the facts (see `StatCache`). progress: wraps this process's
    work. A file with a problem is not usable, whatever the problem.
    """
    todo = [(given.role, sound) for given in sets for sound in given.sounds]
    mine = range(group.rank, len(todo), group.world)
    kept = StatCache(folder, Facts, f"evaluation {VERSION}")
    found: dict[int, Facts | tuple[str, str]] = {k: _stored(todo[k][1].path, kept) for k in progress(mine)}
    everybodys = {k: facts for part in group.gather_objects(found) for k, facts in part.items()}
    problems = [problem for given in sets for problem in given.problems]
    named = {(problem.role, problem.path) for problem in problems}
    looked: dict[str, list[Looked]] = {given.role: [] for given in sets}
    rate = _common_rate(todo, everybodys)
    seen: dict[tuple[str, str], str] = {}
    for k, (role, sound) in enumerate(todo):
        facts = everybodys[k]
        if not isinstance(facts, Facts):
            problems.append(Problem(role, sound.name, facts[1], facts[0]))
            continue
        if (role, sound.name) in named:
            continue
        wrong = _wrong(sound, facts, limits, rate)
        first = seen.setdefault((role, facts.sound_sha256), sound.name)
        if not wrong and first != sound.name:
            wrong = [("duplicate", f"the same samples as {first}")]
        problems += [Problem(role, sound.name, kind, text) for kind, text in wrong]
        if not wrong:
            looked[role].append(Looked(sound, facts))
    return looked, problems


def settle(
    sets: Sequence[ClipSet], looked: dict[str, list[Looked]], problems: Sequence[Problem]
) -> tuple[dict[str, list[Looked]], list[Problem]]:
    """What is left, and all problems, once it is known which clips are usable.

    A generated clip without a reference of its name leaves, where others have one; and a set of fewer than
    two clips is a problem of its own.
    """
    unusable = {problem.role for problem in problems if problem.kind == "set"}
    more = _missing_partners(looked)
    alone = {problem.path for problem in more}
    looked = looked | {"GENERATED": [item for item in looked["GENERATED"] if item.sound.name not in alone]}
    for given in sets:
        left = len(looked[given.role])
        if left < 2 and given.role not in unusable:
            text = (
                f"{left} of {len(given.sounds)} clips can be used, expected 2 or more: no spread has one clip"
            )
            more.append(Problem(given.role, str(given.source), "set", text))
    return looked, [*problems, *more]


def _missing_partners(looked: dict[str, list[Looked]]) -> list[Problem]:
    """Generated clips whose name no reference has, where others' have; if none has, no pairs were meant."""
    references = {item.sound.key for item in looked.get("REFERENCE", ())}
    without = [item.sound for item in looked["GENERATED"] if item.sound.key not in references]
    if not references or len(without) == len(looked["GENERATED"]):
        return []
    return [
        Problem("GENERATED", sound.name, "no partner", f"REFERENCE has no {sound.key!r}") for sound in without
    ]


def _common_rate(todo: Iterable[tuple[str, Sound]], facts: dict[int, Any]) -> int:
    """The rate that most of the generated clips have."""
    rates = Counter(
        facts[k].rate
        for k, (role, _) in enumerate(todo)
        if role == "GENERATED" and isinstance(facts[k], Facts)
    )
    return rates.most_common(1)[0][0] if rates else 0


def _wrong(sound: Sound, facts: Facts, limits: Limits, rate: int) -> list[tuple[str, str]]:
    found = []
    if sound.sha256 is not None and sound.sha256 != facts.sha256:
        found.append(("changed", f"SHA-256 {facts.sha256[:12]}, its sidecar says {sound.sha256[:12]}"))
    if facts.peak < audio.SILENCE:
        found.append(("silent", f"peak {facts.peak:.2g} of full scale, expected {audio.SILENCE:g} or more"))
    if facts.seconds < limits.shortest:
        found.append(("too short", f"{facts.seconds:.2f} s, expected {limits.shortest:g} s or more"))
    if limits.resample is None and facts.rate != rate:
        found.append(("other rate", f"{facts.rate} Hz, most of the generated clips have {rate} Hz"))
    if not limits.downmix and facts.channels > 1:
        found.append(("stereo", f"{facts.channels} channels"))
    return found


def _stored(path: Path, kept: StatCache[Facts]) -> Facts | tuple[str, str]:
    """The facts, or (text, kind) of what is wrong: made once for each state of a file."""
    try:
        return kept.get(path, facts_of) if path.is_file() else facts_of(path)
    except ValueError as error:
        return str(error.args[0]), str(error.args[1])
