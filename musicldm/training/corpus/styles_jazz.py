"""Jazz and its relatives."""

from __future__ import annotations

from .style import Bass, Drums, Layer, Meter, Style, Tune

__all__ = ["JAZZ_AND_KIN"]

FOUR = Meter(4, 4)

BOSSA_NOVA = Style(
    name="bossa nova",
    words=("bossa nova", "bossa nova", "bossa", "brazilian bossa nova"),
    meter=Meter(4, 2),  # a pattern is two bars of eighths
    bpm=(112, 144),
    modes={"major": 6, "minor": 4},
    progressions={
        "*": (
            "1M7 1M7 2m7 5d7",
            "1M9 6m7 2m9 5d9",
            "1M7 2d7 2m7 5d7",
            "3m7 6d7 2m7 5d7",
            "1M7 4M7 3m7 6d7",
            "2m9 5d9 1M9 6d7",
        ),
        "minor": (
            "1m9 1m9 2h7 5d7",
            "1m7 4m7 2h7 5d7",
            "1m9 6M7 2h7 5d7",
            "4m7 b7d7 3M7 5d7",
            "1m6 1m6 2d7 5d7",
        ),
    },
    drums=Drums(
        chance=0.85,
        kits=("brush", "standard"),
        grooves=(
            {"kick": "X..gX..g", "rim": "x..x..x...x..x..", "hat": "XgXgXgXg", "pedal": "..X...X."},
            {"kick": "X..gX..g", "rim": "..x..x..x..x..x.", "shaker": "XgXgXgXg", "pedal": "..X...X."},
            {"kick": "X...X..g", "rim": "x..x..x...x..x..", "shaker": "XgXgXgXg", "snare": "..g...g."},
        ),
        extras=(
            ("claves", "..x...x.....x...", 0.2),
            ("low conga", "......x.......xx", 0.25),
            ("triangle", "x...x...x...x...", 0.15),
        ),
        fills=("rims",),
        level=-1,
        crash=False,
    ),
    bass=Bass(
        instruments=("double bass", "electric bass"),
        patterns=("r-----.rf-----.f", "r-----.rf-----.a", "r-----..f-----.r", "r-----.fo-----.f"),
        legato=0.9,
    ),
    layers=(
        Layer(
            role="chords",
            instruments=("nylon guitar",),
            patterns=(
                "x-.x-..x-..x-.x-",
                "b-.x-.x-b..x-.x-",
                "x..x..x...x..x..",
                "..x-.x-.x-..x-.x",
                "b--x--x-b-x--x--",
            ),
            low=48,
            high=69,
            level=-1,
            strum=0.008,
        ),
        Layer(
            role="pad",
            instruments=("strings", "electric piano", "vibraphone"),
            patterns=("x---------------", "x-----x---------"),
            low=57,
            high=81,
            chance=0.35,
            level=-8,
        ),
    ),
    tune=Tune(
        instruments=("flute", "tenor sax", "piano", "nylon guitar", "vibraphone", "clarinet", "soprano sax"),
        cells=(
            "x--x--x-",
            "x-----x-",
            "..xx-xx-",
            "x--xx---",
            "x-x-x-x-",
            "x-------",
            ".x-xx-x-",
            "x---x-x-",
        ),
        leap=0.3,
        legato=0.92,
    ),
    dynamics=(6, 4, 0),
    loose=0.009,
    wet=45,
)

JAZZ = Style(
    name="jazz",
    words=("jazz", "swing jazz", "jazz combo music", "swing"),
    meter=FOUR,
    bpm=(116, 168),
    modes={"major": 6, "minor": 3, "dorian": 2},
    progressions={
        "*": (
            "2m7 5d7 1M7 1M7",
            "1M7.6d7 2m7.5d7 1M7.6d7 2m7.5d7",
            "3m7 6d7 2m7 5d7",
            "1M7 1d7 4M7 4m7",
            "1M7 6d7 2m7 5d7",
        ),
        "minor": ("1m6 1m6 2h7 5d7", "2h7 5d7 1m6 1m6", "1m7 4m7 2h7 5d7", "1m6.6M7 2h7.5d7 1m6 5d7"),
        "dorian": ("1m7 1m7 1m7 1m7", "1m7 2m7 1m7 2m7", "1m9 1m9 4d7 4d7"),
    },
    drums=Drums(
        chance=0.92,
        kits=("standard", "brush"),
        grooves=(
            {"ride": "X...x.x.X...x.x.", "pedal": "....x.......x...", "kick": "g...g...g...g..."},
            {"ride": "X...x.x.X...x.x.", "pedal": "....x.......x...", "snare": "......g.......g."},
            {
                "ride": "X...x.x.X...x...",
                "pedal": "....x.......x...",
                "snare": "..g.......g...g.",
                "kick": "g.......g.....g.",
            },
        ),
        extras=(("rim", "............x...", 0.3),),
        fills=("snare push", "toms"),
        level=-1,
        crash=False,
    ),
    bass=Bass(
        instruments=("double bass",),
        patterns=("r---w---w---a---", "r---t---f---a---", "r---w---f---a---", "r---w---w---w-a-"),
        legato=0.92,
    ),
    layers=(
        Layer(
            role="comping",
            instruments=("piano", "jazz guitar", "electric piano", "piano"),
            patterns=(
                "x---..x-........",
                "......x---......",
                "x-....x-..........x---....x-....",
                "......x-......x-....x---........",
                "x-..x-..x-..x-..",
            ),
            low=52,
            high=74,
            level=0,
        ),
        Layer(
            role="stabs",
            instruments=("brass section",),
            patterns=(
                "......s-......................s.",
                "s.....s.........................",
            ),
            low=57,
            high=77,
            chance=0.2,
            level=0,
        ),
    ),
    tune=Tune(
        instruments=(
            "tenor sax",
            "alto sax",
            "trumpet",
            "piano",
            "vibraphone",
            "clarinet",
            "muted trumpet",
            "jazz guitar",
        ),
        cells=(
            "x-x-x-x-x-x-....",
            "..x-x-x-x---x-x-",
            "x---x-x-..x-x---",
            "..x-..x-x-x-x-x-",
            "x-x-..x---......",
            "x-----x-x-x-x-x-",
        ),
        leap=0.35,
        legato=0.88,
    ),
    dynamics=(2, 6, 2),
    swing=0.63,
    loose=0.008,
    wet=40,
)

BLUES = Style(
    name="blues",
    words=("blues", "blues", "blues shuffle", "twelve bar blues"),
    meter=Meter(4, 3),
    bpm=(62, 116),
    modes={"blues": 7, "minor": 2},
    progressions={
        "*": (
            "1d7 1d7 1d7 1d7 4d7 4d7 1d7 1d7 5d7 4d7 1d7 5d7",
            "1d7 4d7 1d7 1d7 4d7 4d7 1d7 1d7 5d7 4d7 1d7 5d7",
            "1d7 4d7 1d7 1d7 4d7 4d7 1d7 6d7 2m7 5d7 1d7 5d7",
        ),
        "minor": (
            "1m7 1m7 1m7 1m7 4m7 4m7 1m7 1m7 b6d7 5d7 1m7 5d7",
            "1m7 4m7 1m7 1m7 4m7 4m7 1m7 1m7 5d7 4m7 1m7 5d7",
        ),
    },
    drums=Drums(
        chance=0.85,
        kits=("standard", "room", "brush"),
        grooves=(
            {"kick": "X.....X.....", "snare": "...X.....X..", "hat": "X.xX.xX.xX.x"},
            {"kick": "X....xX.....", "snare": "...X.....X..", "ride": "X.xX.xX.xX.x"},
            {"kick": "X....xX....x", "snare": "...X.....X..", "hat": "XxxXxxXxxXxx"},
        ),
        fills=("snare push", "toms"),
    ),
    bass=Bass(
        instruments=("electric bass", "double bass", "picked bass"),
        patterns=("r--t--f--s--", "r.rt.tf.fs.s", "r--r--f--a--", "r-.r.rt-.f-.", "r--t--f--s--o--s--f--t--"),
        legato=0.85,
    ),
    layers=(
        Layer(
            role="shuffle chords",
            instruments=("piano", "organ", "clean guitar", "honky-tonk piano", "overdriven guitar"),
            patterns=("X.xX.xX.xX.x", "..x..x..x..x", "x-----x-----", "...x.....x..", "x--.......x-"),
            low=50,
            high=72,
            level=-2,
            strum=0.004,
        ),
        Layer(
            role="chords",
            instruments=("organ", "rock organ"),
            patterns=("x-----------",),
            low=52,
            high=72,
            chance=0.35,
            level=-8,
        ),
    ),
    tune=Tune(
        instruments=(
            "harmonica",
            "overdriven guitar",
            "harmonica",
            "tenor sax",
            "honky-tonk piano",
            "clean guitar",
            "organ",
        ),
        cells=(
            "x-xx-xx--...",
            "..xx-xx-x...",
            "x--x-xx-----",
            "..x..xx-xx--",
            "x-xx--......",
            "xxxx-xx--...",
        ),
        leap=0.25,
        legato=0.9,
    ),
    dynamics=(2, 5, 3),
    loose=0.01,
    wet=35,
)

JAZZ_AND_KIN = (BOSSA_NOVA, JAZZ, BLUES)
