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
        patterns=(
            "r.r.r.r.r.r.r.r.",
            "r-r.r-r.r-r.f-s.",
            "r---..r-r---..r-",
            "r.rrr.rrr.rrr.rr",
            "r-r-r-r-r-r-r-a-",
        ),
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
            level=1,
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
            {
                "kick": "X..x....x.x.....",
                "snare": "...gX..g.g..X.g.",
                "hat": "X.x.X.x.X.x.X.x.",
                "open": "......x.........",
            },
        ),
        extras=(
            ("high conga", "..x..x.x..x..x.x", 0.4),
            ("tambourine", "....x.......x...", 0.4),
            ("cowbell", "x...x...x...x...", 0.2),
        ),
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
            level=0,
        ),
        Layer(
            role="chords",
            instruments=("electric piano", "organ"),
            patterns=("x-----..x-x.....", "..x-..x-....x-..", "x---............"),
            low=52,
            high=74,
            chance=0.5,
            level=-4,
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
            level=1,
            strum=0.005,
        ),
        Layer(
            role="bubble",
            instruments=("organ", "rock organ"),
            patterns=(".s.s.s.s.s.s.s.s", "..ss..ss..ss..ss", ".ss..ss..ss..ss."),
            low=54,
            high=72,
            chance=0.7,
            level=-2,
        ),
    ),
    tune=Tune(
        instruments=(
            "trombone",
            "trumpet",
            "harmonica",
            "alto sax",
            "organ",
            "overdriven guitar",
            "steel drums",
        ),
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

BAND = (ROCK, FUNK, REGGAE)
