"""The corpus's compositions: pure, seeded, in range, in time."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from musicldm.corpus.clip import LEAD_IN, SECONDS, cut
from musicldm.corpus.compose import compose
from musicldm.corpus.drumming import DRUM_KEYS
from musicldm.corpus.instruments import INSTRUMENTS, KITS
from musicldm.corpus.levels import KIT_LOUDNESS, LOUDNESS, balance
from musicldm.corpus.parts import strokes
from musicldm.corpus.plan import entry, score
from musicldm.corpus.styles import STYLE_NAMES, style_of
from musicldm.corpus.theory import KEYS, MODES, chord, progression, voicing

SEEDS = range(50)
EXACT = 1e-5  # seconds; beats are rounded to a microsecond


def clip_of(style: str, seed: int):
    rng = random.Random(f"{style} {seed}")
    return cut(compose(style_of(style), rng), rng)


def test_there_are_sixteen_styles_from_60_to_170_bpm():
    assert len(STYLE_NAMES) >= 12
    assert min(style.bpm[0] for style in map(style_of, STYLE_NAMES)) == 60
    assert max(style.bpm[1] for style in map(style_of, STYLE_NAMES)) == 170


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_every_pattern_fills_whole_bars_and_names_what_exists(name):
    style = style_of(name)
    patterns = [*style.bass.patterns, *style.tune.cells]
    patterns += [pattern for layer in style.layers for pattern in layer.patterns]
    drums = [item for groove in style.drums.grooves for item in groove.items()]
    drums += [(voice, pattern) for voice, pattern, _ in style.drums.extras]
    patterns += [pattern for _, pattern in drums]
    assert all(len(pattern) % style.meter.bar == 0 for pattern in patterns)
    assert {voice for voice, _ in drums} <= set(DRUM_KEYS)
    assert set(style.drums.kits) <= set(KITS)
    named = {
        *style.bass.instruments,
        *style.tune.instruments,
        *(i for layer in style.layers for i in layer.instruments),
    }
    assert named <= set(INSTRUMENTS)
    for mode in style.modes:
        assert all(progression(t, 0, mode) for t in style.progressions.get(mode) or style.progressions["*"])


@pytest.mark.parametrize("name", STYLE_NAMES)
def test_fifty_pieces_of_each_style_stay_in_tempo_register_and_time(name):
    style = style_of(name)
    seen = Counter()
    for seed in SEEDS:
        clip = clip_of(name, seed)
        facts = clip.facts
        assert style.bpm[0] <= facts.bpm <= style.bpm[1]
        assert facts.mode in style.modes
        assert facts.key in KEYS
        for part in clip.parts:
            for note in part.notes:
                assert 1 <= note.velocity <= 127
                assert note.length > 0
                if part.instrument:
                    assert part.instrument.low <= note.pitch <= part.instrument.high, part.instrument.name
                else:
                    assert note.pitch in DRUM_KEYS.values()
        beat = 60 / facts.bpm
        assert LEAD_IN[0] <= clip.beats[0] <= LEAD_IN[1]
        assert all(abs(b - a - beat) < EXACT for a, b in pairwise(clip.beats))
        assert clip.downbeats == clip.beats[:: style.meter.beats]
        assert SECONDS - beat < clip.beats[-1] < SECONDS
        first = min(note.start for part in clip.parts for note in part.notes if note.start + note.length > 0)
        assert first < 0.5  # nobody waits for the music
        seen[tuple((part.role, tuple(note.pitch for note in part.notes)) for part in clip.parts)] += 1
    assert max(seen.values()) == 1  # no two alike


def test_the_same_seed_is_the_same_music_and_another_seed_is_other_music():
    for number in range(16):
        again = [score(0, entry(0, number)) for _ in range(2)]
        assert again[0] == again[1]
        assert score(1, entry(1, number)).parts != again[0].parts


def test_notes_on_the_strong_places_of_a_tune_belong_to_the_chord():
    rng = random.Random(3)
    style = style_of("waltz")
    piece = compose(style, rng)
    lead = next(part for part in piece.parts if part.role == "lead")
    strong = [note for note in lead.notes if note.start % 3 == 0]
    chords = [piece.harmony[int(note.start // 3)][0].classes for note in strong]
    fits = [note.pitch % 12 in chord for note, chord in zip(strong, chords, strict=True)]
    assert sum(fits) >= 0.85 * len(fits) > 10  # a phrase may end on a suspension
    weak = [
        note.pitch % 12 in piece.harmony[int(note.start // 3)][0].classes
        for note in lead.notes
        if note.start % 3
    ]
    assert sum(weak) < 0.85 * len(weak)  # and only the strong places are bound


def test_drums_fall_on_the_beats():
    """Four on the floor: a kick within the machine's jitter of each beat, but where a fill takes it away."""
    for seed in range(10):
        clip = clip_of("house", seed)
        kicks = [
            note.start
            for part in clip.parts
            if part.role == "drums"
            for note in part.notes
            if note.pitch == 36
        ]
        near = [min(abs(kick - beat) for kick in kicks) < 0.01 for beat in clip.beats]
        assert sum(near) >= 0.8 * len(near)


def test_clips_begin_at_different_bars_of_their_piece():
    style = style_of("rock")
    rng = random.Random(0)
    piece = compose(style, rng)
    starts = {tuple(n.pitch for n in cut(piece, random.Random(seed)).parts[0].notes) for seed in range(20)}
    assert len(starts) > 4


def test_chords_and_voicings():
    assert chord("5d7", 0, "minor").classes == (7, 11, 2, 5)
    assert chord("17th", 2, "dorian").classes == (2, 5, 9, 0)
    assert chord("b7maj", 0, "mixolydian").root == 10  # accidentals count from the major scale
    assert chord("7maj", 0, "mixolydian").root == 10
    with pytest.raises(ValueError, match="got '8x'"):
        chord("8x", 0, "major")
    for mode in MODES:
        for degree in "1234567":
            notes = voicing(chord(degree, 4, mode), 50, 74, ())
            assert {note % 12 for note in notes} == set(chord(degree, 4, mode).classes)
            assert 50 <= notes[0] <= notes[-1] <= 74


def test_strokes_hold_rest_and_repeat():
    assert list(strokes("x-.x", 8)) == [("x", 0, 2), ("x", 3, 1), ("x", 4, 2), ("x", 7, 1)]


def test_the_mix_brings_parts_to_their_levels():
    clip = clip_of("ballad", 2)
    volumes = balance(clip.parts)
    assert max(volumes) == 127
    assert min(volumes) > 20
    louder = [replace(part, level=part.level + (6 if part.role != "lead" else 0)) for part in clip.parts]
    lead = [part.role for part in clip.parts].index("lead")
    assert balance(louder)[lead] < volumes[lead]
    assert set(LOUDNESS) == set(INSTRUMENTS)
    assert set(KIT_LOUDNESS) == set(KITS)
