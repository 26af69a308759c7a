"""Drum parts: a groove, its variation, fills at the ends of phrases."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .score import Note
from .style import Drums, Meter

__all__ = ["DRUM_KEYS", "drum_part"]

DRUM_KEYS = {  # General MIDI percussion
    "kick": 36,
    "rim": 37,
    "snare": 38,
    "clap": 39,
    "low tom": 43,
    "hat": 42,
    "pedal": 44,
    "open": 46,
    "mid tom": 47,
    "crash": 49,
    "high tom": 50,
    "ride": 51,
    "tambourine": 54,
    "cowbell": 56,
    "high conga": 63,
    "low conga": 64,
    "timbale": 65,
    "shaker": 70,
    "claves": 75,
    "triangle": 81,
}
TOUCH = {"X": 14, "x": 0, "g": -34}
QUIET = {
    "hat": -12,
    "shaker": -10,
    "pedal": -10,
    "triangle": -16,
    "tambourine": -8,
    "cowbell": -16,
    "claves": -12,
}

Lines = dict[str, list[str]]  # voice -> the steps of one bar


def drum_part(of: Drums, meter: Meter, bars: int, rng: Random, velocity: int) -> list[Note]:
    """A groove through all bars, varied, with a fill at the end of each phrase and a crash after it."""
    lines = dict(rng.choice(of.grooves))
    for voice, pattern, chance in of.extras:
        if rng.random() < chance:
            lines.setdefault(voice, pattern)
    answer = _varied(lines, meter, rng)
    phrase = rng.choice((4, 8)) if of.fills else bars + 1
    fill = rng.choice(of.fills) if of.fills else ""
    crashes = of.crash and rng.random() < 0.75
    notes: list[Note] = []
    for bar in range(bars):
        source = answer if bar % 4 == 3 else lines
        here = {
            voice: [line[(bar * meter.bar + step) % len(line)] for step in range(meter.bar)]
            for voice, line in source.items()
        }
        if bar % phrase == phrase - 1:
            FILLS[fill](here, meter, rng)
        if crashes and bar % phrase == 0:
            here.setdefault("crash", ["."] * meter.bar)[0] = "x"
        notes += _notes(here, bar, meter, rng, velocity)
    return notes


def _notes(lines: Lines, bar: int, meter: Meter, rng: Random, velocity: int) -> list[Note]:
    notes = []
    for voice, steps in lines.items():
        for step, letter in enumerate(steps):
            if letter != ".":
                touch = velocity + TOUCH[letter] + QUIET.get(voice, 0) + rng.randint(-5, 5)
                start = (bar * meter.bar + step) / meter.steps
                notes.append(Note(start, 0.2, DRUM_KEYS[voice], touch))
    return notes


def _varied(lines: dict[str, str], meter: Meter, rng: Random) -> dict[str, str]:
    """The same groove with one or two weak strokes more."""
    varied = dict(lines)
    for voice in ("snare", "hat", "ride", "rim"):
        line = varied.get(voice, "")
        free = [i for i, letter in enumerate(line) if letter == "." and i % meter.steps]
        if free and rng.random() < 0.4:
            at = rng.choice(free)
            varied[voice] = line[:at] + "g" + line[at + 1 :]
    return varied


def _clear(lines: Lines, start: int, keep: set[str]) -> None:
    for voice, steps in lines.items():
        if voice not in keep:
            steps[start:] = ["."] * (len(steps) - start)


def _put(lines: Lines, voice: str, step: int, letter: str, meter: Meter) -> None:
    lines.setdefault(voice, ["."] * meter.bar)[step] = letter


def _toms(lines: Lines, meter: Meter, rng: Random) -> None:
    """Down the toms over the last one or two beats."""
    start = meter.bar - meter.steps * rng.choice((1, 2, 2))
    _clear(lines, start, {"kick", "pedal"})
    voices = ("snare", "high tom", "mid tom", "low tom")
    span = meter.bar - start
    for step in range(start, meter.bar):
        if rng.random() < 0.85 or step % meter.steps == 0:
            _put(lines, voices[(step - start) * 4 // span], step, "x" if step % 2 else "X", meter)


def _snare_roll(lines: Lines, meter: Meter, rng: Random) -> None:
    """The snare on every step of the last one or two beats."""
    start = meter.bar - meter.steps * rng.choice((1, 2))
    for step in range(start, meter.bar):
        _put(lines, "snare", step, "X" if step % meter.steps == 0 else "x", meter)


def _snare_push(lines: Lines, meter: Meter, rng: Random) -> None:
    """A few strokes on the snare in the last beat."""
    start = meter.bar - meter.steps
    for step in range(start, meter.bar):
        if rng.random() < 0.6:
            _put(lines, "snare", step, "x", meter)


def _kick_out(lines: Lines, meter: Meter, rng: Random) -> None:
    """The kick pauses for the last two beats."""
    if "kick" in lines:
        lines["kick"][meter.bar - 2 * meter.steps :] = ["."] * (2 * meter.steps)
    _put(lines, "clap", meter.bar - meter.steps, "X", meter)


def _claps(lines: Lines, meter: Meter, rng: Random) -> None:
    """Claps run through the last beat."""
    for step in range(meter.bar - meter.steps, meter.bar):
        _put(lines, "clap", step, rng.choice("xxX."), meter)


def _timbales(lines: Lines, meter: Meter, rng: Random) -> None:
    for step in range(meter.bar - 2 * meter.steps, meter.bar):
        if rng.random() < 0.6:
            _put(lines, "timbale", step, rng.choice("xX"), meter)


def _rims(lines: Lines, meter: Meter, rng: Random) -> None:
    for step in range(meter.bar - meter.steps, meter.bar):
        _put(lines, "rim", step, rng.choice("x.x"), meter)


FILLS: dict[str, Callable[[Lines, Meter, Random], None]] = {
    "toms": _toms,
    "snare roll": _snare_roll,
    "snare push": _snare_push,
    "kick out": _kick_out,
    "claps": _claps,
    "timbales": _timbales,
    "rims": _rims,
}
