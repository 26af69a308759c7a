"""How loud everybody plays: measured loudness of the soundfont's programs, and the mix made from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from .clip import Played

__all__ = ["balance"]

# dB, measured on FluidR3_GM.sf2 by benchmarks/corpus_levels.py
LOUDNESS = {
    "piano": -42.1,
    "honky-tonk piano": -43.5,
    "electric piano": -32.6,
    "celesta": -36.3,
    "music box": -36.2,
    "vibraphone": -40.2,
    "marimba": -36.4,
    "organ": -39.2,
    "rock organ": -34.7,
    "accordion": -38.6,
    "harmonica": -35.8,
    "nylon guitar": -35.6,
    "acoustic guitar": -36.4,
    "jazz guitar": -34.8,
    "clean guitar": -37.3,
    "muted guitar": -40.0,
    "overdriven guitar": -33.4,
    "distorted guitar": -30.8,
    "double bass": -38.4,
    "electric bass": -35.8,
    "picked bass": -35.9,
    "slap bass": -41.4,
    "synth bass": -39.6,
    "deep synth bass": -32.8,
    "violin": -36.4,
    "cello": -38.1,
    "pizzicato strings": -36.4,
    "harp": -37.9,
    "strings": -38.8,
    "slow strings": -36.9,
    "choir": -38.7,
    "trumpet": -36.1,
    "trombone": -30.7,
    "tuba": -35.1,
    "muted trumpet": -34.7,
    "french horn": -33.3,
    "brass section": -35.4,
    "soprano sax": -32.6,
    "alto sax": -32.8,
    "tenor sax": -33.3,
    "oboe": -34.4,
    "clarinet": -32.0,
    "piccolo": -33.8,
    "flute": -32.8,
    "pan flute": -32.5,
    "tin whistle": -28.7,
    "square lead": -34.6,
    "saw lead": -36.2,
    "bell pad": -38.7,
    "warm pad": -41.1,
    "polysynth": -37.4,
    "choir pad": -35.3,
    "halo pad": -36.8,
    "sweep pad": -35.8,
    "banjo": -38.7,
    "fiddle": -36.5,
    "steel drums": -38.2,
    "pulse lead": -34.5,
    "pulse arpeggio": -34.5,
    "triangle bass": -37.4,
}
KIT_LOUDNESS = {
    "standard": -41.6,
    "room": -41.9,
    "power": -39.6,
    "electronic": -40.2,
    "808": -34.3,
    "brush": -43.5,
    "orchestra": -41.1,
    "chip": -41.6,
}


def balance(parts: Sequence[Played]) -> list[int]:
    """MIDI channel volumes (controller 7, 1 to 127) that bring each part to its level; the loudest gets 127.

    A part's chords count as many notes at once. General MIDI volume is a square law: 40 log10(v / 127) dB.
    """
    wanted = []
    for part in parts:
        own = (
            KIT_LOUDNESS.get(part.kit, 0.0)
            if part.instrument is None
            else LOUDNESS.get(part.instrument.name, 0.0)
        )
        together = 1.0 if part.instrument is None else _together(part)
        wanted.append(part.level - own - 10 * math.log10(together))
    top = max(wanted)
    return [max(1, round(127 * 10 ** ((level - top) / 40))) for level in wanted]


def _together(part: Played) -> float:
    """Notes struck at once, on average."""
    struck = Counter(round(note.start, 1) for note in part.notes)
    return len(part.notes) / len(struck)
