"""Bass lines and accompaniment: patterns (see `style`) filled with the harmony's notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from .instruments import Instrument
from .score import Note
from .style import Bass, Layer, Meter
from .theory import Chord, ladder, nearest, voicing

__all__ = ["Harmony", "accompany", "bass_line", "strokes"]

PLAIN, ACCENT, SHORT = 0, 10, 0  # velocity beside the part's
STACCATO = 0.45  # of a step's length, for the short strokes


@dataclass(frozen=True)
class Harmony:
    """The chords of a piece by bar, and where in time they are."""

    bars: tuple[tuple[Chord, ...], ...]
    meter: Meter
    scale: tuple[int, ...]

    def at(self, step: int) -> Chord:
        """The chord that sounds at a step; after the last bar, the first one's."""
        bar, place = divmod(step, self.meter.bar)
        chords = self.bars[bar % len(self.bars)]
        return chords[place * len(chords) // self.meter.bar]

    def changes(self, step: int) -> bool:
        """Whether a chord begins here."""
        chords = self.bars[step // self.meter.bar % len(self.bars)]
        return step % self.meter.bar % (self.meter.bar // len(chords)) == 0

    def next(self, step: int) -> Chord:
        """The chord of the next bar."""
        return self.at((step // self.meter.bar + 1) * self.meter.bar)

    def local_scale(self, step: int) -> tuple[int, ...]:
        """The scale there: where the chord has a tone outside it, that tone replaces its neighbours."""
        classes = set(self.at(step).classes)
        foreign = classes - set(self.scale)
        beside = {(tone + move) % 12 for tone in foreign for move in (-1, 1)} - classes
        return tuple(sorted((set(self.scale) | foreign) - beside))


def strokes(pattern: str, steps: int, harmony: Harmony | None = None) -> Iterator[tuple[str, int, int]]:
    """(letter, first step, steps that it lasts) of a pattern that is repeated over `steps` steps.

    With the harmony given, a stroke that is held over a change of chord is struck again there.
    """
    letter, start = ".", 0
    for step in range(steps):
        symbol = pattern[step % len(pattern)]
        if symbol == "-" and letter != "." and harmony and harmony.changes(step):
            symbol = letter.lower()
        if symbol != "-":
            if letter != ".":
                yield letter, start, step - start
            letter, start = symbol, step
    if letter != ".":
        yield letter, start, steps - start


def bass_line(
    of: Bass, pattern: str, instrument: Instrument, harmony: Harmony, rng: Random, velocity: int
) -> list[Note]:
    """One pattern through all bars."""
    low = max(instrument.low, 28)
    top = min(instrument.high, low + 21)
    before = nearest(harmony.at(0).classes[:1], low + 8, low, top)
    notes = []
    up = rng.random() < 0.5
    for letter, start, steps in strokes(pattern, len(harmony.bars) * harmony.meter.bar, harmony):
        chord = harmony.at(start)
        root = nearest((chord.root,), low + 7, low, top)
        if letter == "w":
            rungs = ladder(harmony.local_scale(start), low, top)
            place = min(range(len(rungs)), key=lambda i: abs(rungs[i] - before))
            up = (up or place < 2) and place < len(rungs) - 2
            pitch = rungs[place + 1 if up else place - 1]
        elif letter == "a":
            target = nearest((harmony.next(start).root,), before, low, top)
            pitch = target - 1 if (target > before or target - 1 < low) and target - 1 >= low else target + 1
        else:
            degree = {"r": 0, "t": 1, "f": 2, "s": 3, "o": 0}[letter]
            interval = chord.tone(degree) if degree < len(chord.intervals) else 9
            pitch = root + (12 if letter == "o" else interval if letter != "f" else 7)
            if pitch > top:
                pitch -= 12
        pitch = min(max(pitch, low), top)
        accent = ACCENT if start % harmony.meter.bar == 0 else 0
        length = max(steps * of.legato, STACCATO) / harmony.meter.steps
        notes.append(Note(start / harmony.meter.steps, length, pitch, velocity + accent + rng.randint(-4, 4)))
        before = pitch
    return notes


def accompany(
    of: Layer, pattern: str, instrument: Instrument, harmony: Harmony, rng: Random, velocity: int
) -> list[Note]:
    """One pattern through all bars, each chord in the position nearest to the one before."""
    low, high = max(of.low, instrument.low), min(of.high, instrument.high)
    notes = []
    tones: tuple[int, ...] = ()
    step_beats = 1 / harmony.meter.steps
    voiced: Chord | None = None
    for letter, start, steps in strokes(pattern, len(harmony.bars) * harmony.meter.bar, harmony):
        chord = harmony.at(start)
        if chord != voiced:
            voiced = chord
            tones = _power(chord.root, low) if of.fifths else voicing(chord, low, high, tones)
        length = steps * step_beats
        if letter in "xXs":
            pitches = tones
            length = STACCATO * step_beats + 0.1 if letter == "s" else length * 0.96
        elif letter == "b":
            bottom = max(instrument.low, low - 14)
            pitches = (nearest((chord.root,), bottom + 6, bottom, bottom + 12),)
        else:
            octave, place = divmod(int(letter), len(tones))
            pitch = tones[place] + 12 * octave
            pitches = (pitch if pitch <= instrument.high else pitch - 12,)
        accent = ACCENT if letter == "X" or start % harmony.meter.bar == 0 else PLAIN
        touch = velocity + accent + rng.randint(-4, 4)
        notes += [Note(start * step_beats, length, pitch, touch + rng.randint(-3, 3)) for pitch in pitches]
    return notes


def _power(root: int, low: int) -> tuple[int, ...]:
    """Root, fifth and octave, from the lowest place that there is."""
    bottom = low + (root - low) % 12
    return bottom, bottom + 7, bottom + 12
