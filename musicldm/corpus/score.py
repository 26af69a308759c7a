"""What composing yields: notes in beats, parts, a piece."""

from __future__ import annotations

from dataclasses import dataclass

from .instruments import Instrument
from .style import Meter, Style
from .theory import Chord

__all__ = ["Note", "Part", "Piece"]


@dataclass(frozen=True)
class Note:
    """Start and length in beats from the piece's first bar; MIDI pitch (or drum key); velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one player plays. `instrument` is None for drums, which have a `kit`."""

    role: str
    instrument: Instrument | None
    notes: tuple[Note, ...]
    level: float
    kit: str = ""
    strum: float = 0.0
    pump: bool = False


@dataclass(frozen=True)
class Piece:
    """A composition. `harmony`: the chords of each bar, evenly spaced in it."""

    style: Style
    bpm: int
    tonic: int
    mode: str
    dynamics: str
    bars: int
    harmony: tuple[tuple[Chord, ...], ...]
    parts: tuple[Part, ...]

    @property
    def meter(self) -> Meter:
        """Its style's metre."""
        return self.style.meter
