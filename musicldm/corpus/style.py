"""What a style is made of. The styles themselves are `styles/*.toml`.

A pattern is a string of steps, one or more bars long. `-` goes on, `.` is silence. Beyond that:

| of | letters |
|---|---|
| drums | `X` accent, `x`, `g` ghost note |
| tune | `x` a note |
| bass | `r` root, `t` third, `f` fifth, `s` seventh or sixth, `o` octave |
| | `w` next step of a walk, `a` approach to the next bar's root |
| layer | `X`, `x` the chord (accent, plain), `s` the chord, short |
| | `0`-`7` one tone of it from below, `b` its root, low |
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bass", "Drums", "Layer", "Meter", "Style", "Tune"]


@dataclass(frozen=True)
class Meter:
    """Beats a bar, and steps a beat: 4 are sixteenths, 3 are triplets."""

    beats: int
    steps: int

    @property
    def bar(self) -> int:
        """Steps a bar."""
        return self.beats * self.steps


@dataclass(frozen=True, kw_only=True)
class Drums:
    """Grooves, of which a piece has one; extras, which it may have; kits.

    `chance`: of drums at all. `level`: dB beside the lead. `fills`: kinds of fill at the end of
    a phrase, see `drumming`.
    """

    chance: float
    kits: tuple[str, ...]
    grooves: tuple[dict[str, str], ...]
    extras: tuple[tuple[str, str, float], ...] = ()
    fills: tuple[str, ...] = ()
    level: float = -4.0
    crash: bool = True


@dataclass(frozen=True, kw_only=True)
class Bass:
    """Bass lines. `chance`: of a bass at all."""

    instruments: tuple[str, ...]
    patterns: tuple[str, ...]
    legato: float
    chance: float = 1.0
    level: float = -2.0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An accompanying part. `level`: dB beside the lead; `strum`: seconds from string to string.

    `pump`: ducks on every beat, as under a side-chained compressor. `fifths`: power chords, no thirds.
    """

    role: str
    instruments: tuple[str, ...]
    patterns: tuple[str, ...]
    low: int
    high: int
    chance: float = 1.0
    level: float = -6.0
    strum: float = 0.0
    pump: bool = False
    fifths: bool = False


@dataclass(frozen=True, kw_only=True)
class Tune:
    """How the lead plays: rhythms of a bar, the chance of leaps, the share of a note that sounds."""

    instruments: tuple[str, ...]
    cells: tuple[str, ...]
    leap: float
    legato: float
    chance: float = 0.92


@dataclass(frozen=True, kw_only=True)
class Style:
    """One style.

    `words`: what people call it. `bpm`: lowest and highest tempo. `modes`: weights. `progressions`: by mode,
    `*` for those without their own, see `theory.progression`. `swing`: where the middle
    of a beat falls, 0.5 is straight; `swing16`: the same for half beats. `loose`: standard deviation of the
    players' timing in seconds. `dynamics`: weights of soft, medium, loud. `wet`: reverb, 0 to 127.
    """

    name: str
    words: tuple[str, ...]
    meter: Meter
    bpm: tuple[int, int]
    modes: dict[str, int]
    progressions: dict[str, tuple[str, ...]]
    drums: Drums
    bass: Bass
    layers: tuple[Layer, ...]
    tune: Tune
    dynamics: tuple[int, int, int]
    swing: float = 0.5
    swing16: float = 0.5
    loose: float = 0.006
    wet: int = 40
