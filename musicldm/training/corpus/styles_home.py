"""Styles made alone with machines."""

from __future__ import annotations

from .style import Bass, Drums, Layer, Meter, Style, Tune

__all__ = ["HOME"]

FOUR = Meter(4, 4)

HIP_HOP = Style(
    name="hip hop",
    words=("hip hop", "hip hop", "hip hop beat", "boom bap", "rap instrumental"),
    meter=FOUR,
    bpm=(78, 98),
    modes={"minor": 6, "dorian": 3, "phrygian": 1},
    progressions={
        "*": (
            "1m7 1m7 4m7 4m7",
            "1m9 6M7 1m9 6M7",
            "1 1 6 5maj",
            "1m7 4m7 1m7 5d7",
            "6M7 6M7 1m7 1m7",
            "1 7 6 5maj",
        ),
        "dorian": ("1m7 4d7 1m7 4d7", "1m9 1m9 2m7 2m7", "1m9 b7maj 1m9 b7maj"),
        "phrygian": ("1 2 1 2", "1 1 2 1"),
    },
    drums=Drums(
        chance=1,
        kits=("808", "standard", "room", "power"),
        grooves=(
            {"kick": "X.....x...X.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x...x..X.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.xx"},
            {"kick": "X......x.xX.....", "snare": "....X..g....X..g", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X.x.......x..x..", "clap": "....X.......X...", "hat": "x.xxx.x.xxx.x.xx"},
            {"kick": "X.....X..X......", "snare": "....X.......X...", "hat": "x.x.xxx.x.x.x.xx"},
        ),
        extras=(
            ("open", "..............x.", 0.4),
            ("rim", "...x.....x......", 0.2),
            ("tambourine", "....x.......x...", 0.3),
        ),
        fills=("kick out", "snare push"),
        crash=False,
    ),
    bass=Bass(
        instruments=("deep synth bass", "electric bass", "double bass", "synth bass"),
        patterns=(
            "r-----r...r---..",
            "r--.---r-.r-f-s-",
            "r-------..r-r---",
            "r-..r-r...o-..s-",
            "r-----r-..t-..f-",
            "r---..r-r---....",
        ),
        legato=0.9,
        level=1,
    ),
    layers=(
        Layer(
            role="chords",
            instruments=("electric piano", "piano", "vibraphone", "jazz guitar", "nylon guitar"),
            patterns=(
                "x-------x-------",
                "x--.--x-....x-..",
                "x---....x---....",
                "x-....x-..x-....",
                "..x---....x---..",
                "0.1.2.3.2.1.0.2.",
            ),
            low=52,
            high=76,
            level=-3,
        ),
        Layer(
            role="pad",
            instruments=("strings", "slow strings", "choir"),
            patterns=("x---------------",),
            low=55,
            high=79,
            chance=0.35,
            level=-8,
        ),
        Layer(
            role="stab",
            instruments=("brass section", "pizzicato strings", "strings"),
            patterns=("s..s............", "....s.......s...", "s.....s........."),
            low=55,
            high=77,
            chance=0.25,
            level=-6,
        ),
    ),
    tune=Tune(
        instruments=(
            "flute",
            "muted trumpet",
            "piano",
            "electric piano",
            "vibraphone",
            "alto sax",
            "nylon guitar",
        ),
        cells=(
            "x--x--x-........",
            "x-x-..x-x---....",
            "........x-x-x---",
            "x-----x-x-......",
            "..x-x-x-x---....",
        ),
        leap=0.3,
        legato=0.85,
        chance=0.65,
    ),
    dynamics=(2, 6, 2),
    swing16=0.6,
    loose=0.008,
    wet=25,
)

AMBIENT = Style(
    name="ambient",
    words=("ambient", "ambient", "ambient music", "ambient soundscape"),
    meter=FOUR,
    bpm=(60, 80),
    modes={"major": 3, "lydian": 3, "minor": 3, "dorian": 1},
    progressions={
        "*": (
            "1M9 4M7 1M9 4M7",
            "1sus2 6m7 4M7 1sus2",
            "1 1 5sus4 5sus4",
            "4M9 1M9 4M9 6m7",
            "1M9 1M9 2maj 2maj",
        ),
        "lydian": ("1M9 2maj 1M9 2maj", "1M7 7m7 1M7 2maj", "1sus2 1sus2 2maj 2maj", "1M9 3m7 1M9 2maj"),
        "minor": ("1m9 1m9 6M7 6M7", "1sus2 7 6M7 7", "1m9 4m9 1m9 4m9", "6M9 1m9 6M9 7"),
        "dorian": ("1m9 4sus2 1m9 4sus2", "1sus2 2m7 1sus2 b7maj"),
    },
    drums=Drums(chance=0, kits=("standard",), grooves=({"shaker": "................"},)),
    bass=Bass(
        instruments=("cello", "deep synth bass", "slow strings"),
        patterns=("r---------------",),
        legato=1,
        chance=0.5,
        level=-6,
    ),
    layers=(
        Layer(
            role="pad",
            instruments=("warm pad", "halo pad", "sweep pad", "choir pad", "bell pad"),
            patterns=("x---------------", "x-------------------------------"),
            low=48,
            high=74,
            level=-1,
        ),
        Layer(
            role="pad",
            instruments=("slow strings", "choir", "sweep pad", "halo pad"),
            patterns=("x---------------", "........x-------"),
            low=57,
            high=82,
            chance=0.6,
            level=-5,
        ),
        Layer(
            role="arpeggio",
            instruments=("harp", "celesta", "electric piano", "vibraphone", "bell pad"),
            patterns=(
                "0---2---4---1---",
                "0-------3-------",
                "....2-----4-----",
                "0---1---2---3---2---4---3---1---",
            ),
            low=60,
            high=86,
            chance=0.45,
            level=-6,
        ),
    ),
    tune=Tune(
        instruments=("piano", "celesta", "flute", "choir", "vibraphone", "pan flute", "music box", "harp"),
        cells=(
            "x---------------",
            "x-------x-------",
            "....x-----------",
            "x-----------x---",
            "x-----x---......",
        ),
        leap=0.4,
        legato=1,
        chance=0.6,
    ),
    dynamics=(7, 3, 0),
    loose=0.02,
    wet=110,
)

CHIPTUNE = Style(
    name="chiptune",
    words=("chiptune", "chiptune", "8-bit", "8-bit video game music", "retro video game chiptune"),
    meter=FOUR,
    bpm=(118, 168),
    modes={"major": 5, "minor": 4, "mixolydian": 2, "dorian": 1},
    progressions={
        "*": ("1 5 6 4", "1 4 5 1", "1 6 4 5", "1 b7maj 4 1", "4 5 1 6", "1 3 4 5", "6 4 1 5", "1 5 4 5"),
        "minor": ("1 6 7 1", "1 7 6 5maj", "1 6 3 7", "1 4 7 3", "1 4 5maj 1", "6 7 1 1"),
        "dorian": ("1 4 1 4", "1 3 4 1", "1 7 4 1"),
    },
    drums=Drums(
        chance=0.82,
        kits=("chip",),
        grooves=(
            {"kick": "X...X...X...X...", "snare": "....X.......X...", "hat": "..x...x...x...x."},
            {"kick": "X.....x.X.......", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X..x..x...x.....", "snare": "....X.......X..x", "hat": "xgxgxgxgxgxgxgxg"},
        ),
        fills=("snare roll", "snare push"),
        crash=False,
    ),
    bass=Bass(
        instruments=("triangle bass",),
        patterns=(
            "r.r.r.r.r.r.r.r.",
            "r.o.r.o.r.o.r.o.",
            "r-..r-..f-..o-..",
            "r.ror.ror.ror.fo",
            "r-----r-..r-f-o-",
        ),
        legato=0.85,
        level=0,
    ),
    layers=(
        Layer(
            role="arpeggio",
            instruments=("pulse arpeggio",),
            patterns=(
                "0120120120120120",
                "0123012301230123",
                "012.012.012.012.",
                "0212021202120212",
                "0.1.2.1.0.1.2.3.",
            ),
            low=60,
            high=84,
            chance=0.9,
            level=-6,
        ),
    ),
    tune=Tune(
        instruments=("pulse lead",),
        cells=(
            "x-x-x---x-x-x---",
            "x--x--x-x--x--x-",
            "x-xxx-x-x-xxx-x-",
            "x---x-x-x---x-x-",
            "x-----x-x-x-x---",
            "xxx.x-x-xxx.x---",
        ),
        leap=0.4,
        legato=0.85,
        chance=1,
    ),
    dynamics=(0, 7, 3),
    loose=0.0,
    wet=0,
)

HOME = (HIP_HOP, AMBIENT, CHIPTUNE)
