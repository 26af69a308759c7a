"""A style and a random generator -> a piece of 24 bars. Pure: nothing else goes in."""

from __future__ import annotations

from random import Random

from .drumming import drum_part
from .instruments import INSTRUMENTS
from .melody import tune
from .parts import Harmony, accompany, bass_line
from .score import Part, Piece
from .style import Style
from .theory import progression, scale_of

__all__ = ["BARS", "DYNAMICS", "compose"]

BARS = 24  # three sections of eight, two rounds of a twelve-bar blues
DYNAMICS = {"soft": 58, "medium": 82, "loud": 104}  # velocity
WANDER = {  # where a chord of the scale likes to go, for progressions of our own
    "major": {1: (4, 5, 6, 2), 2: (5, 4), 3: (6, 4), 4: (5, 1, 2), 5: (1, 6), 6: (4, 2, 5)},
    "minor": {1: (4, 6, 7, 3), 3: (6, 7, 4), 4: (1, 5, 7), 5: (1, 6), 6: (7, 3, 4), 7: (1, 3)},
}
OWN_PROGRESSION = 0.25  # chance, where a style allows triads


def compose(style: Style, rng: Random) -> Piece:
    """One piece of the style. The same state of the generator gives the same piece."""
    mode = _weighted(rng, style.modes)
    tonic = rng.randrange(12)
    dynamics = _weighted(rng, dict(zip(DYNAMICS, style.dynamics, strict=True)))
    velocity = DYNAMICS[dynamics]
    chords = progression(_progression(style, mode, rng), tonic, mode)
    bars = tuple(tuple(chords[bar % len(chords)]) for bar in range(BARS))
    harmony = Harmony(bars, style.meter, scale_of(tonic, mode))
    bpm = rng.randint(*style.bpm)
    parts = []
    lead = rng.choice(style.tune.instruments) if rng.random() < style.tune.chance else ""
    if lead:
        instrument = INSTRUMENTS[lead]
        notes = tune(style.tune, instrument, harmony, rng, velocity + 4, tonic)
        parts.append(Part("lead", instrument, tuple(notes), level=0.0))
    for layer in style.layers:
        if rng.random() < layer.chance:
            choices = [name for name in layer.instruments if name != lead] or list(layer.instruments)
            instrument = INSTRUMENTS[rng.choice(choices)]
            notes = accompany(layer, rng.choice(layer.patterns), instrument, harmony, rng, velocity - 6)
            level = layer.level + (2.0 if not lead else 0.0)
            parts.append(
                Part(layer.role, instrument, tuple(notes), level, strum=layer.strum, pump=layer.pump)
            )
    if rng.random() < style.bass.chance:
        instrument = INSTRUMENTS[rng.choice(style.bass.instruments)]
        pattern = rng.choice(style.bass.patterns)
        notes = bass_line(style.bass, pattern, instrument, harmony, rng, velocity)
        parts.append(Part("bass", instrument, tuple(notes), style.bass.level))
    if rng.random() < style.drums.chance:
        kit = rng.choice(style.drums.kits)
        notes = drum_part(style.drums, style.meter, BARS, rng, velocity)
        parts.append(Part("drums", None, tuple(notes), style.drums.level, kit=kit))
    return Piece(style, bpm, tonic, mode, dynamics, BARS, bars, tuple(parts))


def _progression(style: Style, mode: str, rng: Random) -> str:
    choices = style.progressions.get(mode) or style.progressions["*"]
    text = rng.choice(choices)
    plain = all(token.isdigit() and len(token) == 1 for token in text.replace(".", " ").split())
    if not plain or mode not in WANDER or rng.random() >= OWN_PROGRESSION:
        return text
    degrees = [1]
    while len(degrees) < 4:
        degrees.append(rng.choice(WANDER[mode][degrees[-1]]))
    return " ".join(map(str, degrees))


def _weighted(rng: Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
