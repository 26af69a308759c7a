"""Tunes: a motif, repeated, moved and answered; chord tones where the weight is; phrases that end."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .instruments import Instrument
from .parts import Harmony, strokes
from .score import Note
from .style import Tune
from .theory import ladder, nearest

__all__ = ["tune"]

SECTION = 8  # bars
FORMS = (  # one letter a bar: equal letters are the same bar, E ends on a long note, - is a rest
    "abacabdE",
    "abababcE",
    "abcdabcE",
    "aabcaabE",
    "ab-cab-E",
    "a-b-a-cE",
    "abaEabcE",
    "aaabaacE",
)
ARCH = (0, 1, 2, 1, 3, 2, 1, 0)  # how much higher each bar of a section begins, in steps of the scale


@dataclass(frozen=True)
class _Motif:
    """A bar's rhythm, and the move in steps of the scale before each of its notes."""

    rhythm: tuple[tuple[int, int], ...]  # (first step, steps)
    moves: tuple[int, ...]


def tune(
    of: Tune, instrument: Instrument, harmony: Harmony, rng: Random, velocity: int, tonic: int
) -> list[Note]:
    """A melody over all bars: sections A A B A ... of eight bars."""
    room = instrument.high - instrument.low
    centre = instrument.low + round(room * rng.uniform(0.42, 0.62))
    low, high = max(instrument.low, centre - 10), min(instrument.high, centre + 11)
    bar = harmony.meter.bar
    first = _section(of, bar, rng)
    second = _section(of, bar, rng)
    plan = [first, first, second, first]
    notes: list[Note] = []
    pitch = centre
    for number in range(len(harmony.bars)):
        form, motifs = plan[number // SECTION % 4]
        place = number % SECTION
        letter = form[place]
        if letter == "-":
            continue
        home = centre + rng.choice((-2, 0, 2)) if place == 0 else centre + ARCH[place] * 2 - 2
        pitch = round((pitch + 2 * home) / 3)
        if letter == "E":
            notes += _ending(harmony, number * bar, pitch, (low, high), velocity, tonic, rng)
            continue
        motif = motifs[letter]
        for (step, steps), move in zip(motif.rhythm, motif.moves, strict=True):
            at = number * bar + step
            pitch = _place(harmony, at, pitch, move, low, high)
            accent = 8 if step == 0 else 3 if step % harmony.meter.steps == 0 else 0
            length = steps * of.legato / harmony.meter.steps
            touch = velocity + accent + rng.randint(-5, 5)
            notes.append(Note(at / harmony.meter.steps, length, pitch, touch))
    return notes


def _section(of: Tune, bar: int, rng: Random) -> tuple[str, dict[str, _Motif]]:
    form = rng.choice(FORMS)
    return form, {letter: _motif(of, bar, rng) for letter in "abcd"}


def _motif(of: Tune, bar: int, rng: Random) -> _Motif:
    rhythm = tuple((start, steps) for _, start, steps in strokes(rng.choice(of.cells), bar))
    direction = rng.choice((-1, 1))
    moves = []
    for _ in rhythm:
        if rng.random() < 0.3:
            direction = -direction
        size = rng.choice((2, 3, 4)) if rng.random() < of.leap else rng.choice((0, 1, 1, 1))
        moves.append(direction * size)
    return _Motif(rhythm, tuple(moves))


def _place(harmony: Harmony, step: int, before: int, move: int, low: int, high: int) -> int:
    """The next pitch: `move` steps along the scale, turned back at the register's ends.

    On the strong places it goes to the nearest tone of the chord.
    """
    rungs = ladder(harmony.local_scale(step), low, high)
    here = min(range(len(rungs)), key=lambda i: abs(rungs[i] - before))
    if not 0 <= here + move < len(rungs):
        move = -move
    there = rungs[min(max(here + move, 0), len(rungs) - 1)]
    half = harmony.meter.bar // 2 if harmony.meter.beats % 2 == 0 else harmony.meter.bar
    if step % half == 0:
        return nearest(harmony.at(step).classes[:4], there, low, high)
    return there


def _ending(
    harmony: Harmony, step: int, pitch: int, register: tuple[int, int], velocity: int, tonic: int, rng: Random
) -> list[Note]:
    """A long last note: the tonic where the chord has it, else the chord's nearest tone; often led to."""
    meter = harmony.meter
    chord = harmony.at(step)
    last = (tonic,) if tonic in chord.classes else chord.classes[:3]
    final = nearest(last, pitch, *register)
    length = meter.beats * 0.75
    start = step / meter.steps
    if rng.random() < 0.5:
        return [Note(start, length, final, velocity + 4)]
    above = ladder(harmony.local_scale(step), final, min(final + 5, register[1]))
    neighbour = above[1] if len(above) > 1 else final
    return [
        Note(start, 0.9, neighbour, velocity + 2),
        Note(start + 1, max(length - 1, 0.75), final, velocity + 4),
    ]
