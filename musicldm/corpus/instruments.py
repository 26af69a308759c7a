"""The band: General MIDI programs, the registers they play in, their names."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INSTRUMENTS", "KITS", "Instrument"]


@dataclass(frozen=True)
class Instrument:
    """One General MIDI program.

    `low`, `high`: MIDI pitches of the register that we use. `words`: what a caption may call it, the plainest
    first. `sustains`: the sound goes on while the key is down.
    """

    name: str
    program: int
    low: int
    high: int
    words: tuple[str, ...]
    sustains: bool = False


def _table() -> dict[str, Instrument]:
    rows = (
        # name, program, low, high, words; a leading ~ marks what sustains
        ("piano", 0, 36, 96, "piano, grand piano"),
        ("honky-tonk piano", 3, 40, 92, "honky-tonk piano, piano"),
        ("electric piano", 4, 36, 91, "electric piano, rhodes, keys"),
        ("celesta", 8, 60, 100, "celesta, bells"),
        ("music box", 10, 60, 96, "music box, bells"),
        ("vibraphone", 11, 53, 89, "vibraphone, vibes, mallets"),
        ("marimba", 12, 48, 90, "marimba, mallets"),
        ("~organ", 16, 36, 88, "organ, drawbar organ, hammond organ"),
        ("~rock organ", 18, 36, 88, "organ, rock organ"),
        ("~accordion", 21, 53, 89, "accordion, squeezebox"),
        ("~harmonica", 22, 60, 88, "harmonica, blues harp"),
        ("nylon guitar", 24, 40, 83, "nylon guitar, classical guitar, acoustic guitar, guitar"),
        ("acoustic guitar", 25, 40, 84, "acoustic guitar, steel string guitar, guitar"),
        ("jazz guitar", 26, 40, 84, "jazz guitar, electric guitar, guitar"),
        ("clean guitar", 27, 40, 86, "clean electric guitar, electric guitar, guitar"),
        ("muted guitar", 28, 40, 80, "muted guitar, funk guitar, electric guitar, guitar"),
        ("~overdriven guitar", 29, 40, 86, "overdriven guitar, electric guitar, guitar"),
        ("~distorted guitar", 30, 40, 86, "distorted guitar, electric guitar, guitar"),
        ("double bass", 32, 28, 60, "double bass, upright bass, acoustic bass, bass"),
        ("electric bass", 33, 28, 60, "electric bass, bass guitar, bass"),
        ("picked bass", 34, 28, 60, "picked bass, bass guitar, bass"),
        ("slap bass", 36, 28, 60, "slap bass, bass guitar, bass"),
        ("~synth bass", 38, 24, 60, "synth bass, bass synth, bass"),
        ("~deep synth bass", 39, 24, 60, "synth bass, deep bass, bass"),
        ("~violin", 40, 55, 96, "violin, solo violin"),
        ("~cello", 42, 36, 76, "cello"),
        ("pizzicato strings", 45, 40, 90, "pizzicato strings, plucked strings, strings"),
        ("harp", 46, 36, 96, "harp"),
        ("~strings", 48, 36, 96, "strings, string section, orchestral strings"),
        ("~slow strings", 49, 36, 91, "strings, slow strings"),
        ("~choir", 52, 48, 79, "choir, voices"),
        ("~trumpet", 56, 55, 86, "trumpet"),
        ("~trombone", 57, 40, 74, "trombone"),
        ("~tuba", 58, 28, 58, "tuba, low brass"),
        ("~muted trumpet", 59, 55, 84, "muted trumpet, trumpet"),
        ("~french horn", 60, 41, 77, "french horns, horns"),
        ("~brass section", 61, 43, 82, "brass section, brass, horn section"),
        ("~soprano sax", 64, 56, 86, "soprano sax, saxophone, sax"),
        ("~alto sax", 65, 51, 82, "alto sax, saxophone, sax"),
        ("~tenor sax", 66, 46, 77, "tenor sax, saxophone, sax"),
        ("~oboe", 68, 58, 88, "oboe"),
        ("~clarinet", 71, 52, 88, "clarinet"),
        ("~piccolo", 72, 74, 100, "piccolo"),
        ("~flute", 73, 60, 94, "flute"),
        ("~pan flute", 75, 60, 92, "pan flute, flute"),
        ("~tin whistle", 78, 66, 94, "whistle, tin whistle"),
        ("~square lead", 80, 48, 90, "square synth lead, synth lead, synth"),
        ("~saw lead", 81, 48, 90, "saw synth lead, synth lead, synth"),
        ("~bell pad", 88, 40, 86, "bell pad, synth pad, pad, synth"),
        ("~warm pad", 89, 36, 86, "warm pad, synth pad, pad, synth"),
        ("~polysynth", 90, 40, 88, "polysynth, synth chords, synth"),
        ("~choir pad", 91, 40, 84, "choir pad, synth pad, pad, synth"),
        ("~halo pad", 94, 40, 84, "airy pad, synth pad, pad, synth"),
        ("~sweep pad", 95, 40, 84, "sweeping pad, synth pad, pad, synth"),
        ("banjo", 105, 48, 84, "banjo"),
        ("~fiddle", 110, 55, 93, "fiddle, violin"),
        ("steel drums", 114, 52, 86, "steel drums, steel pan"),
        ("~pulse lead", 80, 48, 96, "chip lead, pulse wave lead, square wave lead, 8-bit lead"),
        ("~pulse arpeggio", 80, 48, 96, "fast arpeggios, chip arpeggios, pulse wave arpeggios"),
        ("~triangle bass", 80, 24, 64, "triangle wave bass, chip bass, bass"),
    )
    table = {}
    for name, program, low, high, words in rows:
        plain = name.removeprefix("~")
        table[plain] = Instrument(plain, program, low, high, tuple(words.split(", ")), name != plain)
    return table


INSTRUMENTS = _table()
KITS = {  # General MIDI drum kits by program
    "standard": 0,
    "room": 8,
    "power": 16,
    "electronic": 24,
    "808": 25,
    "brush": 40,
    "orchestra": 48,
    "chip": 0,  # the noise channel of our own chip sound
}
