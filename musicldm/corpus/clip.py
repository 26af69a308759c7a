"""10.24 seconds of a piece: notes in seconds as played, exact beats, the facts that a caption may state."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

from .instruments import Instrument
from .score import Note, Part, Piece
from .theory import KEYS

__all__ = ["SECONDS", "Clip", "Facts", "Played", "cut"]

SECONDS = 10.24
LEAD_IN = (0.02, 0.1)  # seconds before the first downbeat
RUN_UP = 2.0  # seconds played before the clip, so that what rings goes on ringing
LOOSEST = 2.5  # standard deviations: nobody is later
NAMED = 0.12  # share of the clip that an instrument must sound to be named
NAMED_NOTES = 3


@dataclass(frozen=True)
class Played:
    """A part as played: notes with start and length in seconds of the clip (some before 0)."""

    role: str
    instrument: Instrument | None
    kit: str
    notes: tuple[Note, ...]
    level: float
    pump: bool


@dataclass(frozen=True)
class Facts:
    """What is true of a clip.

    `backing`: all instruments but the lead, the bass last. `quality`: good, or the kind of damage.
    """

    style: str
    bpm: int
    key: str
    mode: str
    beats_per_bar: int
    lead: str | None
    backing: tuple[str, ...]
    drums: bool
    dynamics: str
    quality: str

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "backing": list(self.backing)}


@dataclass(frozen=True)
class Clip:
    """The score of one clip. `beats`, `downbeats`: seconds from its start."""

    facts: Facts
    parts: tuple[Played, ...]
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]
    wet: int


def cut(piece: Piece, rng: Random) -> Clip:
    """A clip that begins at a bar of the piece, as played by people (or machines, by style)."""
    beat = 60 / piece.bpm
    bar = beat * piece.meter.beats
    within = math.ceil((SECONDS + 0.2) / bar)
    first = rng.randint(0, piece.bars - within)
    offset = rng.uniform(*LEAD_IN)
    start = first * bar - offset  # of the clip, in seconds of the piece
    played = tuple(_play(part, piece, start, rng) for part in piece.parts)
    played = tuple(part for part in played if any(_inside(note) > 0 for note in part.notes))
    count = math.ceil((SECONDS - offset) / beat)
    beats = tuple(round(offset + beat * number, 6) for number in range(count))
    return Clip(_facts(piece, played), played, beats, beats[:: piece.meter.beats], piece.style.wet)


def _play(part: Part, piece: Piece, start: float, rng: Random) -> Played:
    """Swing, strum and looseness; only what sounds from RUN_UP before the clip to its end."""
    beat = 60 / piece.bpm
    loose = piece.style.loose * (0.5 if part.role in ("drums", "bass") else 1.0)
    notes = []
    chord, struck = -1.0, 0
    for note in sorted(part.notes, key=lambda note: (note.start, note.pitch)):
        struck = struck + 1 if note.start == chord else 0
        chord = note.start
        drift = min(max(rng.gauss(0, loose), -LOOSEST * loose), LOOSEST * loose)
        onset = _swung(note.start, piece) * beat - start
        end = _swung(note.start + note.length, piece) * beat - start
        if end < -RUN_UP or onset >= SECONDS:
            continue
        begins = onset + drift + struck * part.strum
        length = max(end - onset, 0.04)
        touch = min(max(note.velocity, 18), 127)
        notes.append(Note(begins, length, note.pitch, touch))
    return Played(part.role, part.instrument, part.kit, _single(notes), part.level, part.pump)


def _single(notes: list[Note]) -> tuple[Note, ...]:
    """No key is struck while it is down: the earlier note ends before the later one."""
    by_pitch: dict[int, list[Note]] = {}
    for note in sorted(notes, key=lambda note: note.start):
        by_pitch.setdefault(note.pitch, []).append(note)
    clean = []
    for same in by_pitch.values():
        for note, after in pairwise(same):
            length = min(note.length, after.start - note.start - 0.005)
            if length > 0.01:
                clean.append(replace(note, length=length))
        clean.append(same[-1])
    return tuple(sorted(clean, key=lambda note: (note.start, note.pitch)))


def _swung(beats: float, piece: Piece) -> float:
    """Where a place in the bar is played: the second half of a beat, and of a half beat, comes late."""
    if piece.meter.steps != 4:
        return beats
    whole = math.floor(beats)
    half, rest = divmod((beats - whole) * 2, 1)
    share = _bent(rest, piece.style.swing16)
    return whole + _bent((half + share) / 2, piece.style.swing)


def _bent(share: float, middle: float) -> float:
    return share * middle / 0.5 if share < 0.5 else middle + (share - 0.5) * (1 - middle) / 0.5


def _inside(note: Note) -> float:
    """Seconds of the note that lie in the clip."""
    return max(0.0, min(note.start + note.length, SECONDS) - max(note.start, 0.0))


def _facts(piece: Piece, parts: tuple[Played, ...]) -> Facts:
    heard = [part for part in parts if _worth_naming(part)]
    lead = [part.instrument.name for part in heard if part.role == "lead" and part.instrument]
    others = [part.instrument.name for part in heard if part.role != "lead" and part.instrument]
    return Facts(
        style=piece.style.name,
        bpm=piece.bpm,
        key=KEYS[piece.tonic],
        mode=piece.mode,
        beats_per_bar=piece.meter.beats,
        lead=lead[0] if lead else None,
        backing=tuple(dict.fromkeys(others)),
        drums=any(part.role == "drums" for part in parts),
        dynamics=piece.dynamics,
        quality="good",
    )


def _worth_naming(part: Played) -> bool:
    inside = [note for note in part.notes if _inside(note) > 0]
    long = sum(map(_inside, inside)) >= NAMED * SECONDS
    return long and (len(inside) >= NAMED_NOTES or sum(map(_inside, inside)) > SECONDS / 2)
