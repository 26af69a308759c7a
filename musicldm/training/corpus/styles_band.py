"""Styles of bands."""

from __future__ import annotations

from .style import Bass, Drums, Layer, Meter, Style, Tune

__all__ = ["BAND"]

FOUR = Meter(4, 4)

ROCK = Style(
    name="rock",
    words=("rock", "rock", "hard rock", "rock band music"),
    meter=FOUR,
    bpm=(108, 156),
    modes={"minor": 5, "major": 3, "mixolydian": 3, "dorian": 1},
    progressions={
        "*": ("1maj b7maj 4maj 1maj", "1 5 6 4", "1 4 5 4", "1 4 1 5", "1 6 4 5", "1maj 1maj b7maj 4maj"),
        "minor": ("1 6 7 1", "1 7 6 7", "1 6 3 7", "1 3 7 4", "1 1 6 7", "1 4 6 5maj"),
        "dorian": ("1 4 1 4", "1 7 4 1", "1 3 4 1"),
    },
    drums=Drums(
        chance=1,
        kits=("power", "room", "standard"),
        grooves=(
            {"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X.....x.X.......", "snare": "....X.......X...", "ride": "X.x.X.x.X.x.X.x."},
            {"kick": "X..x..x.X.x.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X.x.....X.x...x.", "snare": "....X.......X...", "open": "X...X...X...X..."},
            {"kick": "X...x...X...x.x.", "snare": "..X...X...X...X.", "ride": "X...X...X...X..."},
        ),
        fills=("toms", "snare roll", "toms"),
    ),
    bass=Bass(
        instruments=("picked bass", "electric bass"),
        patterns=("r.r.r.r.r.r.r.r.", "r-r.r-r.r-r.f-s.", "r---..r-r---..r-", "r.rrr.rrr.rrr.rr", "r-r-r-r-r-r-r-a-"),
        legato=0.85,
    ),
    layers=(
        Layer(
            role="power chords",
            instruments=("distorted guitar", "overdriven guitar"),
            patterns=(
                "X-x.x.x.X-x.x.x.",
                "X-----x-x---..x-",
                "X-------X-------",
                "XxxxXxxxXxxxXxxx",
                "X-x-..x-X-x-..x-",
                "X..x..x.X..x..x.",
            ),
            low=40,
            high=62,
            level=-2,
            strum=0.006,
            fifths=True,
        ),
        Layer(
            role="chords",
            instruments=("rock organ", "piano", "clean guitar"),
            patterns=("x-------x-------", "x---x---x---x---", "0.1.2.1.3.1.2.1."),
            low=55,
            high=77,
            chance=0.35,
            level=-6,
        ),
    ),
    tune=Tune(
        instruments=("distorted guitar", "overdriven guitar", "saw lead", "rock organ"),
        cells=(
            "x---x-x-x---x-x-",
            "x-----x-x-------",
            "x-x-x-x---x-x---",
            "..x-x-x-x-x-x---",
            "x-------..x-x-x-",
        ),
        leap=0.35,
        legato=0.95,
        chance=0.75,
    ),
    dynamics=(0, 3, 7),
    loose=0.006,
    wet=35,
)

FUNK = Style(
    name="funk",
    words=("funk", "funk", "funky groove", "70s funk"),
    meter=FOUR,
    bpm=(96, 118),
    modes={"dorian": 6, "mixolydian": 5, "minor": 1},
    progressions={
        "*": ("1m9 1m9 1m9 4d9", "1m9 4d9 1m9 4d9", "1m7 1m7 b3maj 4d7", "1m9 1m9 1m9 1m9"),
        "mixolydian": ("1d9 1d9 4d9 1d9", "1d9 1d9 1d9 b7d9", "1d9 b7d9 4d9 1d9", "1d9 1d9 1d9 1d9"),
    },
    drums=Drums(
        chance=1,
        kits=("standard", "room"),
        grooves=(
            {"kick": "X..x..x...x..x..", "snare": "....X..g.g..X..g", "hat": "XxxxXxxxXxxxXxxx"},
            {"kick": "X.x.......x..x..", "snare": "....X..g.g.gX..g", "hat": "XgxgXgxgXgxgXgxg"},
            {"kick": "X..x....x.x.....", "snare": "...gX..g.g..X.g.", "hat": "X.x.X.x.X.x.X.x.", "open": "......x.........",},
        ),
        extras=(("high conga", "..x..x.x..x..x.x", 0.4), ("tambourine", "....x.......x...", 0.4), ("cowbell", "x...x...x...x...", 0.2)),
        fills=("snare push", "toms"),
    ),
    bass=Bass(
        instruments=("slap bass", "electric bass", "slap bass"),
        patterns=(
            "r..o..r.s.r.f.s.",
            "r.r..o.r..s.f.r.",
            "r..r.o...s.f..r.",
            "rr.o..s.f..r..oa",
            "r...r.o.r..s.o.f",
        ),
        legato=0.65,
        level=1,
    ),
    layers=(
        Layer(
            role="scratch guitar",
            instruments=("muted guitar", "clean guitar"),
            patterns=(
                "..ss..ss.s.s..ss",
                "s.ss.ss.s.ss.ss.",
                "..s.s.ss..s.s.s.",
                "ssss.ss.ssss.ss.",
            ),
            low=55,
            high=74,
            level=-3,
            strum=0.004,
        ),
        Layer(
            role="stabs",
            instruments=("brass section", "brass section", "organ"),
            patterns=(
                "s..s............................",
                "..........s.s-..",
                "s.....s..s......................",
                "............s..sX---............",
            ),
            low=57,
            high=77,
            chance=0.7,
            level=-4,
        ),
        Layer(
            role="chords",
            instruments=("electric piano", "organ"),
            patterns=("x-----..x-x.....", "..x-..x-....x-..", "x---............"),
            low=52,
            high=74,
            chance=0.5,
            level=-6,
        ),
    ),
    tune=Tune(
        instruments=("alto sax", "tenor sax", "trumpet", "organ", "muted trumpet", "electric piano"),
        cells=(
            "x-x.xx.x-.......",
            "..x.x.x-x.x-....",
            "x..x..x-..x-x-..",
            "xx.x-.xx.x-.....",
            "....x-x-x.xx.x-.",
        ),
        leap=0.3,
        legato=0.75,
        chance=0.7,
    ),
    dynamics=(0, 5, 5),
    swing16=0.54,
    loose=0.005,
    wet=25,
)

REGGAE = Style(
    name="reggae",
    words=("reggae", "reggae", "roots reggae", "reggae riddim"),
    meter=FOUR,
    bpm=(66, 88),
    modes={"minor": 4, "major": 4, "dorian": 2, "mixolydian": 1},
    progressions={
        "*": ("1 4 1 5", "1 2 1 2", "1 5 6 4", "1 4 5 4", "1 6 2 5"),
        "minor": ("1 4 1 4", "1 7 6 7", "1 1 4 4", "1 7 1 7", "1 4 7 1"),
        "dorian": ("1 4 1 4", "1 2 1 2"),
        "mixolydian": ("1 b7maj 1 b7maj", "1 b7maj 4 1"),
    },
    drums=Drums(
        chance=1,
        kits=("standard", "room"),
        grooves=(
            {"kick": "........X.......", "rim": "........X.......", "hat": "..x...x...x...x."},
            {"kick": "........X.......", "rim": "........X.....g.", "hat": "x.X.x.X.x.X.x.X."},
            {"kick": "X...X...X...X...", "rim": "........X.......", "hat": "x.X.x.X.x.X.x.X."},
            {"kick": "X.......X.......", "snare": "........X.......", "hat": "x.Xxx.X.x.Xxx.X."},
        ),
        extras=(("shaker", "x.x.x.x.x.x.x.x.", 0.3), ("high conga", "......x......x.x", 0.3)),
        fills=("toms", "timbales"),
    ),
    bass=Bass(
        instruments=("electric bass", "deep synth bass"),
        patterns=(
            "r-..r-t-f---....",
            "....r-r-t-f-r-..",
            "r---..r-..f-t-r-",
            "r-r-..f-r---..s-",
            "..r-r-..f-f-r-..",
            "r---t-f-....r-..",
        ),
        legato=0.9,
        level=2,
    ),
    layers=(
        Layer(
            role="skank",
            instruments=("clean guitar", "muted guitar", "piano"),
            patterns=("..X...X...X...X.", "..X...X...X...X.", "..Xs..X...Xs..X."),
            low=57,
            high=76,
            level=-1,
            strum=0.005,
        ),
        Layer(
            role="bubble",
            instruments=("organ", "rock organ"),
            patterns=(".s.s.s.s.s.s.s.s", "..ss..ss..ss..ss", ".ss..ss..ss..ss."),
            low=54,
            high=72,
            chance=0.7,
            level=-5,
        ),
    ),
    tune=Tune(
        instruments=("trombone", "trumpet", "harmonica", "alto sax", "organ", "overdriven guitar", "steel drums"),
        cells=(
            "x-----x-x---....",
            "x-x-x---........",
            "..x-x-x-x---....",
            "x---x-x-..x-....",
            "....x-x-x-----..",
        ),
        leap=0.3,
        legato=0.88,
        chance=0.75,
    ),
    dynamics=(2, 7, 1),
    swing16=0.58,
    loose=0.008,
    wet=45,
)

BOSSA_NOVA = Style(
    name="bossa nova",
    words=("bossa nova", "bossa nova", "bossa", "brazilian bossa nova"),
    meter=FOUR,
    bpm=(112, 144),
    modes={"major": 6, "minor": 4},
    progressions={
        "*": ("1M7 1M7 2m7 5d7", "1M9 6m7 2m9 5d9", "1M7 2d7 2m7 5d7", "3m7 6d7 2m7 5d7", "1M7 4M7 3m7 6d7", "2m9 5d9 1M9 6d7"),
        "minor": ("1m9 1m9 2h7 5d7", "1m7 4m7 2h7 5d7", "1m9 6M7 2h7 5d7", "4m7 b7d7 3M7 5d7", "1m6 1m6 2d7 5d7"),
    },
    drums=Drums(
        chance=0.85,
        kits=("brush", "standard"),
        grooves=(
            {"kick": "x..xx..xx..xx..x", "rim": "x..x..x...x..x..", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "x..xx..xx..xx..x", "rim": "..x..x..x..x..x.", "shaker": "xgxgxgxgxgxgxgxg"},
            {"rim": "x..x..x...x..x..", "shaker": "XgxgXgxgXgxgXgxg", "kick": "x......xx......x"},
        ),
        extras=(("claves", "..x...x.....x...", 0.2), ("low conga", "......x.......xx", 0.25), ("triangle", "x...x...x...x...", 0.15)),
        fills=("rims",),
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
            "x--x--x-x-------",
            "..x-x--x--x---..",
            "x---..x--x--x---",
            "x--x--x---x--x--",
            "....x--x--x-x---",
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
        "*": ("2m7 5d7 1M7 1M7", "1M7.6d7 2m7.5d7 1M7.6d7 2m7.5d7", "3m7 6d7 2m7 5d7", "1M7 1d7 4M7 4m7", "1M7 6d7 2m7 5d7"),
        "minor": ("1m6 1m6 2h7 5d7", "2h7 5d7 1m6 1m6", "1m7 4m7 2h7 5d7", "1m6.6M7 2h7.5d7 1m6 5d7"),
        "dorian": ("1m7 1m7 1m7 1m7", "1m7 2m7 1m7 2m7", "1m9 1m9 4d7 4d7"),
    },
    drums=Drums(
        chance=0.92,
        kits=("standard", "brush"),
        grooves=(
            {"ride": "X...x.x.X...x.x.", "pedal": "....x.......x...", "kick": "g...g...g...g..."},
            {"ride": "X...x.x.X...x.x.", "pedal": "....x.......x...", "snare": "......g.......g."},
            {"ride": "X...x.x.X...x...", "pedal": "....x.......x...", "snare": "..g.......g...g.", "kick": "g.......g.....g."},
        ),
        extras=(("rim", "............x...", 0.3),),
        fills=("snare push", "toms"),
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
            level=-4,
        ),
        Layer(
            role="stabs",
            instruments=("brass section",),
            patterns=("......s-......................s.", "s.....s.........................",),
            low=57,
            high=77,
            chance=0.2,
            level=-5,
        ),
    ),
    tune=Tune(
        instruments=("tenor sax", "alto sax", "trumpet", "piano", "vibraphone", "clarinet", "muted trumpet", "jazz guitar"),
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
        "minor": ("1m7 1m7 1m7 1m7 4m7 4m7 1m7 1m7 b6d7 5d7 1m7 5d7", "1m7 4m7 1m7 1m7 4m7 4m7 1m7 1m7 5d7 4m7 1m7 5d7"),
    },
    drums=Drums(
        chance=0.85,
        kits=("standard", "room", "brush"),
        grooves=(
            {"kick": "X.....X....." , "snare": "...X.....X..", "hat": "X.xX.xX.xX.x"},
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
            level=-4,
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
        instruments=("harmonica", "overdriven guitar", "harmonica", "tenor sax", "honky-tonk piano", "clean guitar", "organ"),
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

BAND = (ROCK, FUNK, REGGAE, BOSSA_NOVA, JAZZ, BLUES)
