"""Keys, modes, chords, voicings: the part of harmony that needs no taste."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

__all__ = ["KEYS", "MODES", "Chord", "chord", "ladder", "nearest", "progression", "scale_of", "voicing"]

KEYS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")  # by pitch class
MODES: dict[str, tuple[int, ...]] = {  # semitones above the tonic, seven each
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "blues": (0, 2, 4, 5, 7, 9, 10),  # the chords' scale; tunes use MELODIC
}
MELODIC = {  # scales for tunes where they are not the mode's own
    "blues": (0, 3, 5, 6, 7, 10),
}
QUALITIES: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "5": (0, 7, 12),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9),
    "M7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
    "d7": (0, 4, 7, 10),
    "h7": (0, 3, 6, 10),
    "M9": (0, 4, 7, 11, 14),
    "m9": (0, 3, 7, 10, 14),
    "d9": (0, 4, 7, 10, 14),
}
TOKEN = re.compile(r"([b#]?)([1-7])(7th|9th|[a-zA-Z]\w*|[56])?")


@dataclass(frozen=True)
class Chord:
    """A root (pitch class) and the semitones above it."""

    root: int
    intervals: tuple[int, ...]

    @property
    def classes(self) -> tuple[int, ...]:
        """Its pitch classes, root first."""
        return tuple((self.root + interval) % 12 for interval in self.intervals)

    def tone(self, index: int) -> int:
        """Semitones above the root of the index-th tone, going on an octave higher after the last."""
        octave, place = divmod(index, len(self.intervals))
        return self.intervals[place] + 12 * octave


def chord(token: str, tonic: int, mode: str) -> Chord:
    """`5d7`, `b7maj`, `2` -> a chord: degree of the mode and quality; with an accidental, of the major scale.

    Without a quality the chord is the mode's own triad on that degree; `7th` and `9th` stack further
    thirds of the mode. Raises ValueError for a token that is none.
    """
    found = TOKEN.fullmatch(token)
    if not found or (found[3] not in QUALITIES and found[3] not in (None, "7th", "9th")):
        raise ValueError(f"chord: got {token!r}, expected such as 1, 4, b7maj, 5d7, 27th")
    scale = MODES[mode]
    degree = int(found[2]) - 1
    base = MODES["major"][degree] + {"b": -1, "#": 1}[found[1]] if found[1] else scale[degree]
    if found[3] in QUALITIES:
        return Chord((tonic + base) % 12, QUALITIES[found[3]])
    size = {None: 3, "7th": 4, "9th": 5}[found[3]]
    thirds = [degree + 2 * step for step in range(size)]
    tones = tuple(scale[place % 7] + 12 * (place // 7) - scale[degree] for place in thirds)
    return Chord((tonic + base) % 12, tones)


def progression(text: str, tonic: int, mode: str) -> list[list[Chord]]:
    """`1 6 2.5d7 1` -> chords by bar; a point divides a bar."""
    return [[chord(token, tonic, mode) for token in bar.split(".")] for bar in text.split()]


def scale_of(tonic: int, mode: str) -> tuple[int, ...]:
    """The pitch classes that a tune in that key uses."""
    return tuple(sorted((tonic + step) % 12 for step in MELODIC.get(mode, MODES[mode])))


@lru_cache(maxsize=4096)  # asked for each note
def ladder(classes: tuple[int, ...], low: int, high: int) -> tuple[int, ...]:
    """All pitches of those classes from low to high, both included."""
    return tuple(pitch for pitch in range(low, high + 1) if pitch % 12 in classes)


def nearest(classes: tuple[int, ...], pitch: int, low: int, high: int) -> int:
    """The pitch of those classes nearest to `pitch` inside [low, high]; the lower of two."""
    return min(ladder(classes, low, high), key=lambda found: (abs(found - pitch), found))


def voicing(of: Chord, low: int, high: int, before: tuple[int, ...]) -> tuple[int, ...]:
    """The close position of a chord inside [low, high] that moves least from the chord before it.

    Without one before, the position nearest to the middle. Seconds are left out where they would
    stand at the bottom (a ninth below its root sounds like a mistake).
    """
    tones = sorted({interval % 12 for interval in of.intervals})
    candidates = []
    for start in range(low, high - 11):
        if (start - of.root) % 12 in tones:
            notes = sorted(start + (of.root + tone - start) % 12 for tone in tones)
            if len(notes) < 4 or notes[1] - notes[0] > 1:
                candidates.append(tuple(notes))
    middle = (low + high) / 2
    target = sum(before) / len(before) if before else middle

    def cost(notes: tuple[int, ...]) -> tuple[float, int]:
        centre = sum(notes) / len(notes)
        gaps = sum(1 for a, b in pairwise(notes) if b - a == 1)
        return abs(centre - target) + 0.3 * abs(centre - middle) + gaps, notes[0]

    return min(candidates, key=cost)
