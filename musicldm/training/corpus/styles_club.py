"""Styles for dancing all night."""

from __future__ import annotations

from .style import Bass, Drums, Layer, Meter, Style, Tune

__all__ = ["CLUB"]

FOUR = Meter(4, 4)
PADS = ("warm pad", "polysynth", "choir pad", "halo pad")

TECHNO = Style(
    name="techno",
    words=("techno", "techno", "club techno"),
    meter=FOUR,
    bpm=(126, 148),
    modes={"minor": 6, "phrygian": 3, "dorian": 1},
    progressions={
        "*": ("1 1 1 1", "1 1 6 7", "1 1 6 6", "1 1 1 7", "1 7 6 7", "1 1 4 4", "6 6 1 1"),
        "phrygian": ("1 1 1 1", "1 1 2 1", "1 2 1 7min", "1 1 2 2"),
        "dorian": ("1 1 1 1", "1 1 4 4", "1 7 1 7", "1 3 4 1"),
    },
    drums=Drums(
        chance=1,
        kits=("electronic", "808"),
        grooves=(
            {"kick": "X...X...X...X...", "open": "..x...x...x...x."},
            {"kick": "X...X...X...X..x", "open": "..x...x...x...x.", "hat": "xgxgxgxgxgxgxgxg"},
            {"kick": "X...X...X...X...", "hat": "..xx..xx..xx..xx", "clap": "....x.......x..."},
            {"kick": "X...X...X...X...", "hat": "gxxgxxgxxgxxgxxg", "open": "..x...x...x...x."},
            {"kick": "X...X..xX...X...", "ride": "..x...x...x...x.", "hat": "x.xxx.xxx.xxx.xx"},
        ),
        extras=(
            ("clap", "....x.......x...", 0.5),
            ("rim", "...x..x....x..x.", 0.35),
            ("low tom", "......x..x....x.", 0.3),
            ("cowbell", "..........x..x..", 0.1),
        ),
        fills=("kick out", "snare roll", "claps"),
    ),
    bass=Bass(
        instruments=("synth bass", "deep synth bass"),
        patterns=(
            "..rr..rr..rr..rr",
            ".rrr.rrr.rrr.rrr",
            "..r...r...r...r.",
            "r.rr.rr.r.rr.ror",
            "..ro..ro..ro..ro",
            "r..r..r.r..r..rs",
        ),
        legato=0.7,
        level=-1,
    ),
    layers=(
        Layer(
            role="arpeggio",
            instruments=("saw lead", "square lead", "polysynth"),
            patterns=(
                "0.12.013.12.0.21",
                "0123012301230123",
                "0.2.1.3.0.2.1.3.",
                "021302130213021.",
                "0..1..2.0..1..3.",
                "0010200103001020",
            ),
            low=52,
            high=76,
            chance=0.8,
            level=-3,
        ),
        Layer(
            role="stab",
            instruments=("polysynth", "saw lead"),
            patterns=("...s..s.........", "..s..s....s..s..", "s..s..s.........", "......s....s...."),
            low=55,
            high=76,
            chance=0.45,
            level=-2,
        ),
        Layer(
            role="pad",
            instruments=PADS,
            patterns=("x---------------",),
            low=50,
            high=72,
            chance=0.5,
            level=-8,
            pump=True,
        ),
    ),
    tune=Tune(
        instruments=("saw lead", "square lead"),
        cells=(
            "x..x..x...x.x...",
            "x.x..x..x.x..x..",
            "x-----x-----x---",
            "..x..x..x..x..x.",
            "x.xx.xx.x.xx.xx.",
        ),
        leap=0.35,
        legato=0.6,
        chance=0.75,
    ),
    dynamics=(0, 3, 7),
    loose=0.001,
    wet=30,
)

HOUSE = Style(
    name="house",
    words=("house", "house music", "deep house"),
    meter=FOUR,
    bpm=(114, 125),
    modes={"minor": 3, "dorian": 4, "major": 2, "mixolydian": 1},
    progressions={
        "*": (
            "1m9 4d9 1m9 4d9",
            "17th 67th 47th 57th",
            "1m7 b7maj 6M7 5m7",
            "47th 57th 17th 17th",
            "1m9 5m7 6M7 4m7",
        ),
        "major": ("2m9 5d9 1M9 6m7", "4M7 3m7 2m7 1M7", "1M9 4M7 1M9 5sus4", "6m7 4M7 1M7 5maj"),
        "mixolydian": ("1maj b7maj 4maj 1maj", "1d9 1d9 4d9 1d9"),
        "dorian": ("1m9 4d9 1m9 4d9", "1m7 1m7 4d7 4d7", "1m9 2m7 3M7 2m7", "1m7 b7maj 4maj 4maj"),
    },
    drums=Drums(
        chance=1,
        kits=("electronic", "808", "power"),
        grooves=(
            {"kick": "X...X...X...X...", "open": "..X...X...X...X.", "clap": "....X.......X..."},
            {
                "kick": "X...X...X...X...",
                "hat": "x.x.x.x.x.x.x.x.",
                "clap": "....X.......X..g",
                "open": "..x...x...x...x.",
            },
            {
                "kick": "X...X...X...X..g",
                "shaker": "xgxxxgxxxgxxxgxx",
                "clap": "....X.......X...",
                "open": "..x...x...x...x.",
            },
        ),
        extras=(
            ("high conga", "..x..x....x..x.x", 0.35),
            ("low conga", "x......x.....x..", 0.3),
            ("tambourine", "..x...x...x...x.", 0.35),
            ("snare", ".......g.g.....g", 0.3),
            ("cowbell", "..x..x..x.x..x..", 0.15),
        ),
        fills=("snare roll", "claps", "kick out"),
    ),
    bass=Bass(
        instruments=("synth bass", "deep synth bass", "electric bass"),
        patterns=(
            "r--.--r.-.r.f.o.",
            "..r...r...r...r.",
            "r..r..o...r.s.f.",
            "..ro..r...ro..s.",
            "r-.r-.r...s.r.o.",
            "r..o..r.r..o..s.",
        ),
        legato=0.75,
        level=-1,
    ),
    layers=(
        Layer(
            role="chords",
            instruments=("piano", "electric piano", "organ", "piano"),
            patterns=(
                "X..x..x...x..x..",
                "..x..x....x..x..",
                "x..x...x..x..x..",
                "..X...x...X...x.",
                "x..x..x.x..x..x.",
                "X.....x..x......",
            ),
            low=54,
            high=77,
            level=-1,
        ),
        Layer(
            role="pad",
            instruments=("warm pad", "slow strings", "choir pad"),
            patterns=("x---------------",),
            low=52,
            high=76,
            chance=0.5,
            level=-8,
            pump=True,
        ),
        Layer(
            role="stab",
            instruments=("organ", "brass section", "vibraphone"),
            patterns=("......s..s......", "...s............", "s.....s........."),
            low=57,
            high=79,
            chance=0.3,
            level=-3,
        ),
    ),
    tune=Tune(
        instruments=("tenor sax", "saw lead", "vibraphone", "flute", "organ", "trumpet", "electric piano"),
        cells=(
            "x--x--x-....x-x-",
            "..x-x--x--x-....",
            "x-x--x-x........",
            "....x-x--x--x---",
            "x--x--x---..x-x-",
        ),
        leap=0.3,
        legato=0.85,
        chance=0.7,
    ),
    dynamics=(1, 5, 4),
    swing16=0.55,
    loose=0.003,
    wet=40,
)

DRUM_AND_BASS = Style(
    name="drum and bass",
    words=("drum and bass", "drum and bass", "dnb", "jungle"),
    meter=FOUR,
    bpm=(160, 170),
    modes={"minor": 6, "dorian": 3, "phrygian": 1},
    progressions={
        "*": (
            "1 1 6 6",
            "1m9 1m9 4m7 4m7",
            "1m7 1m7 6M7 6M7",
            "1 1 7 7",
            "1m9 6M7 3M7 7maj",
            "4m7 4m7 1m7 1m7",
        ),
        "phrygian": ("1 1 2 2", "1 1 1 2"),
        "dorian": ("1m9 1m9 4d9 4d9", "1 1 7 7", "1m7 b3M7 4d9 1m7", "1m9 b7maj 1m9 4maj"),
    },
    drums=Drums(
        chance=1,
        kits=("power", "room", "standard"),
        grooves=(
            {"kick": "X.........X.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
            {"kick": "X.........X.....", "snare": "....X..g.g..X..g", "ride": "X.x.X.x.X.x.X.x."},
            {"kick": "X.x.......X.....", "snare": "....X..g.gx.X...", "hat": "xgxgxgxgxgxgxgxg"},
            {"kick": "X.X.......XX....", "snare": "....X..x.x..X..x", "ride": "X.x.X.x.X.x.X.x."},
        ),
        extras=(
            ("shaker", "xxxxxxxxxxxxxxxx", 0.4),
            ("open", "......x.......x.", 0.4),
            ("rim", "...x......x.....", 0.2),
        ),
        fills=("toms", "snare roll"),
    ),
    bass=Bass(
        instruments=("deep synth bass", "synth bass"),
        patterns=(
            "r---------.-r---r---f-----------",
            "r-----------s---r-------f---s---",
            "r-----..r---------------o---f---",
            "r--r--r---------r--r--f---------",
            "r-------------------t---f---s---",
        ),
        legato=0.98,
        level=1,
    ),
    layers=(
        Layer(
            role="pad",
            instruments=("warm pad", "choir pad", "slow strings", "halo pad"),
            patterns=("x---------------",),
            low=55,
            high=79,
            chance=0.85,
            level=-7,
        ),
        Layer(
            role="stab",
            instruments=("electric piano", "polysynth", "vibraphone"),
            patterns=(
                "x---..x---......................",
                "......x-..x---..................",
                "x-....x-....x---................",
            ),
            low=57,
            high=79,
            chance=0.5,
            level=-3,
        ),
    ),
    tune=Tune(
        instruments=("saw lead", "square lead", "flute", "electric piano", "piano", "alto sax"),
        cells=(
            "x-----------x---",
            "x-------..x-x---",
            "....x---x-----x-",
            "x---------------",
            "..x-x---x-------",
        ),
        leap=0.35,
        legato=0.9,
        chance=0.7,
    ),
    dynamics=(0, 4, 6),
    loose=0.002,
    wet=50,
)

CLUB = (TECHNO, HOUSE, DRUM_AND_BASS)
