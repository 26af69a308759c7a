"""Styles older than the amplifier."""

from __future__ import annotations

from .style import Bass, Drums, Layer, Meter, Style, Tune

__all__ = ["OLD"]

FOUR = Meter(4, 4)

FOLK = Style(
    name="folk",
    words=("folk", "folk", "folk music", "acoustic folk"),
    meter=FOUR,
    bpm=(92, 128),
    modes={"major": 5, "dorian": 3, "mixolydian": 3, "minor": 1},
    progressions={
        "*": ("1 4 1 5", "1 5 6 4", "1 1 4 5", "1 4 5 1", "1 6 4 5", "1 1 5 5 4 4 1 5"),
        "mixolydian": ("1 b7maj 4 1", "1 1 b7maj b7maj", "1 b7maj 1 4"),
        "dorian": ("1 7 1 7", "1 1 7 7", "1 4 7 1", "1 3 7 1"),
        "minor": ("1 7 1 7", "1 7 6 7", "1 4 7 1"),
    },
    drums=Drums(
        chance=0.35,
        kits=("brush", "standard"),
        grooves=(
            {"shaker": "x.xgx.xgx.xgx.xg", "kick": "X.......X......."},
            {"tambourine": "....X.......X...", "kick": "X.......X......."},
            {"snare": "..x...x...x...x.", "kick": "X...X...X...X..."},
        ),
        crash=False,
    ),
    bass=Bass(
        instruments=("double bass",),
        patterns=("r-------f-------", "r---....f---....", "r-------f-----a-"),
        legato=0.85,
        chance=0.65,
        level=-4,
    ),
    layers=(
        Layer(
            role="strum",
            instruments=("acoustic guitar",),
            patterns=(
                "X---x-x--xx-x-x-",
                "b---x-xxb---x-xx",
                "X-x-x-x-X-x-x-x-",
                "b-1-2-3-b-1-3-2-",
                "X---x-x---x-x-x-",
                "b-x-b-x-b-x-b-x-",
            ),
            low=48,
            high=71,
            level=-2,
            strum=0.012,
        ),
        Layer(
            role="picking",
            instruments=("banjo", "nylon guitar", "harp"),
            patterns=("0213021302130213", "0.2.1.3.0.2.1.3.", "0120120120120120"),
            low=55,
            high=79,
            chance=0.5,
            level=-5,
        ),
        Layer(
            role="drone",
            instruments=("accordion", "cello"),
            patterns=("x---------------",),
            low=53,
            high=71,
            chance=0.25,
            level=-8,
        ),
    ),
    tune=Tune(
        instruments=("fiddle", "tin whistle", "harmonica", "banjo", "accordion", "acoustic guitar", "flute"),
        cells=(
            "x-x-x-x-x-x-x-x-",
            "x---x-x-x---x-x-",
            "x-xxx-x-x-xxx-x-",
            "x-x-x---x-x-x---",
            "x-----x-x-x-x---",
        ),
        leap=0.25,
        legato=0.9,
    ),
    dynamics=(3, 6, 1),
    loose=0.009,
    wet=30,
)

WALTZ = Style(
    name="waltz",
    words=("waltz", "waltz", "waltz in three four time", "3/4 waltz"),
    meter=Meter(3, 4),
    bpm=(88, 168),
    modes={"major": 7, "minor": 4},
    progressions={
        "*": (
            "1 1 5d7 5d7 5d7 5d7 1 1",
            "1 6 2 5d7",
            "1 1 4 4 5d7 5d7 1 1",
            "1 3 4 5d7",
            "1 5d7 1 5d7",
            "1 1d7 4 4 5d7 5d7 1 1",
        ),
        "minor": ("1 1 5d7 5d7 5d7 5d7 1 1", "1 4 5d7 1", "1 6 4 5d7", "1 7 3 5d7", "1 1 4 4 1 5d7 1 1"),
    },
    drums=Drums(
        chance=0.25,
        kits=("brush", "orchestra"),
        grooves=(
            {"kick": "X...........", "snare": "....x...x..."},
            {"kick": "X...........", "hat": "....x...x..."},
        ),
        crash=False,
    ),
    bass=Bass(
        instruments=("double bass", "cello", "tuba", "pizzicato strings"),
        patterns=("r---........", "r---........f---........"),
        legato=0.9,
        level=-2,
    ),
    layers=(
        Layer(
            role="oom-pah-pah",
            instruments=("piano", "accordion", "strings", "harp", "pizzicato strings", "acoustic guitar"),
            patterns=("....x-..x-..", "....x-..x-..", "....x---x---"),
            low=52,
            high=74,
            level=-3,
        ),
        Layer(
            role="pad",
            instruments=("strings", "slow strings", "french horn"),
            patterns=("x-----------",),
            low=55,
            high=77,
            chance=0.3,
            level=-9,
        ),
    ),
    tune=Tune(
        instruments=("violin", "accordion", "clarinet", "flute", "strings", "piano", "music box", "oboe"),
        cells=(
            "x-------x---",
            "x---x---x---",
            "x-----x-x---",
            "x-x-x-x-x-x-",
            "x-----------",
            "x-----x-x-x-",
        ),
        leap=0.35,
        legato=0.93,
        chance=1,
    ),
    dynamics=(4, 5, 1),
    loose=0.01,
    wet=60,
)

BALLAD = Style(
    name="ballad",
    words=("ballad", "ballad", "slow ballad", "love ballad"),
    meter=FOUR,
    bpm=(60, 80),
    modes={"major": 5, "minor": 5},
    progressions={
        "*": ("1 5 6 4", "1 6 4 5", "1 3 4 5", "1 4 6 5", "1M7 6m7 2m7 5sus4", "4 1 5 6", "6 4 1 5"),
        "minor": ("1 6 3 7", "1 4 7 3", "1 7 6 5maj", "1 6 4 5maj", "1 3 6 5sus4", "4 1 6 7"),
    },
    drums=Drums(
        chance=0.45,
        kits=("room", "standard"),
        grooves=(
            {"kick": "X.........x.....", "rim": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X......xx.......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "X.......x.x.....", "snare": "....x.......x...", "ride": "x...x...x...x..."},
        ),
        extras=(("shaker", "xgxgxgxgxgxgxgxg", 0.25),),
        fills=("toms",),
    ),
    bass=Bass(
        instruments=("electric bass", "double bass"),
        patterns=("r-----------r-f-", "r-------f-------", "r-----r-r-------"),
        legato=0.95,
        chance=0.7,
        level=-4,
    ),
    layers=(
        Layer(
            role="broken chords",
            instruments=("piano", "piano", "acoustic guitar", "electric piano"),
            patterns=(
                "b-1-2-3-2-1-2-1-",
                "b---2-3-4-3-2-3-",
                "X-------x-------",
                "X---x---x---x---",
                "b-0-1-2-3-2-1-0-",
                "b-1-2-1-3-1-2-1-",
            ),
            low=50,
            high=74,
            level=-2,
            strum=0.01,
        ),
        Layer(
            role="pad",
            instruments=("strings", "slow strings", "warm pad", "choir"),
            patterns=("x---------------",),
            low=55,
            high=77,
            chance=0.6,
            level=-7,
        ),
    ),
    tune=Tune(
        instruments=("piano", "alto sax", "violin", "cello", "flute", "oboe", "soprano sax", "clean guitar"),
        cells=(
            "x-----x-x-------",
            "x-------x---x---",
            "..x-x-x-x-------",
            "x---x---x-------",
            "x-----------x-x-",
        ),
        leap=0.35,
        legato=0.97,
    ),
    dynamics=(7, 3, 0),
    loose=0.012,
    wet=70,
)

MARCH = Style(
    name="march",
    words=("march", "march", "military march", "marching band music"),
    meter=Meter(2, 4),
    bpm=(100, 126),
    modes={"major": 8, "minor": 3},
    progressions={
        "*": ("1 1 5d7 1", "1 1 4 4 5d7 5d7 1 1", "1 5d7 1 5d7", "1 4 5d7 1", "1 6 2 5d7", "1 1 2d7 5d7"),
        "minor": ("1 1 5maj 1", "1 4 5d7 1", "1 6 4 5maj", "1 7 6 5maj"),
    },
    drums=Drums(
        chance=0.95,
        kits=("orchestra", "standard"),
        grooves=(
            {"kick": "X...X...", "snare": "X.xxX.xx"},
            {"kick": "X...X...", "snare": "X.x.xxxxX.x.X.x."},
            {"kick": "X...X...", "snare": "xxx.xxx.X.x.xxxx"},
            {"kick": "X...X...", "snare": "..X.xxX."},
        ),
        extras=(("crash", "X...X...", 0.35), ("triangle", "..x...x.", 0.15)),
        fills=("snare roll",),
        level=-6,
    ),
    bass=Bass(
        instruments=("tuba", "tuba", "trombone"),
        patterns=("r...f...", "r-..f-..", "r...f...r...t.f."),
        legato=0.8,
        level=3,
    ),
    layers=(
        Layer(
            role="off-beats",
            instruments=("french horn", "trombone", "brass section"),
            patterns=("..s...s.", "..s...s.", "..s..ss."),
            low=50,
            high=70,
            level=1,
        ),
        Layer(
            role="long chords",
            instruments=("brass section", "strings", "french horn"),
            patterns=("x-------", "x------.x-------"),
            low=55,
            high=74,
            chance=0.3,
            level=-7,
        ),
    ),
    tune=Tune(
        instruments=("trumpet", "piccolo", "brass section", "clarinet", "trombone", "flute"),
        cells=(
            "x--xx-x-",
            "x-x-x-x-",
            "x---x--x",
            "x--xx---",
            "x-xxx-x-",
            "x--xx--x",
        ),
        leap=0.4,
        legato=0.8,
        chance=1,
    ),
    dynamics=(0, 3, 7),
    loose=0.007,
    wet=55,
)

OLD = (FOLK, WALTZ, BALLAD, MARCH)
