"""The corpus on disk: manifest, splits, damage, MIDI, sound; what is missing is said."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from musicldm import audio
from musicldm.cli import main
from musicldm.corpus import build as building
from musicldm.corpus.build import build, facts_row, manifest_row
from musicldm.corpus.chip import chip_sound
from musicldm.corpus.clip import SECONDS
from musicldm.corpus.damage import KINDS, damage
from musicldm.corpus.midi import START, write_midi
from musicldm.corpus.plan import describe, entry, score
from musicldm.corpus.render import RATE, Synth, find_synth, render

SAMPLES = round(SECONDS * RATE)
CHIPTUNE = 5  # the number of the first chiptune
TICK = 0.001  # seconds: a MIDI file's resolution at the slowest tempo

try:
    SYNTH: Synth | None = find_synth()
except OSError as error:
    SYNTH, WHY = None, str(error)
else:
    WHY = ""
HAS_MIDO = importlib.util.find_spec("mido") is not None
needs_synth = pytest.mark.skipif(
    SYNTH is None or not HAS_MIDO, reason=f"NOT TESTED: {WHY or 'mido is missing'}"
)
needs_mido = pytest.mark.skipif(not HAS_MIDO, reason="NOT TESTED: pip install mido")


def fake_synth(monkeypatch):
    """Chiptunes for everybody: what is tested is the folder, not the sound."""
    monkeypatch.setattr(building, "find_synth", lambda path: Synth(sys.executable, __file__))
    monkeypatch.setattr(building, "version", lambda name: "0")
    drawn = np.random.default_rng(0).standard_normal(SAMPLES).astype(np.float32) / 10
    made = []
    monkeypatch.setattr(building, "render", lambda clip, synth: made.append(clip) or drawn)
    return made


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_corpus_on_disk_reads_back(tmp_path, monkeypatch):
    fake_synth(monkeypatch)
    build(tmp_path, 25, seed=7)
    manifest, facts = rows(tmp_path / "manifest.jsonl"), rows(tmp_path / "facts.jsonl")
    assert (
        [row["path"] for row in manifest]
        == [f"audio/{n:05d}.flac" for n in range(25)]
        == [f["path"] for f in facts]
    )
    for number, row in enumerate(manifest):
        assert set(row) == {"path", "caption", "beats", "downbeats", "split"}  # what training's reader takes
        wave, rate = audio.read(tmp_path / row["path"])
        assert (rate, len(wave)) == (RATE, SAMPLES)
        assert set(row["downbeats"]) <= set(row["beats"])
        of = entry(7, number)
        clip = score(7, of)
        assert row == json.loads(json.dumps(manifest_row(7, of, clip, ".flac")))
        assert facts[number] == json.loads(json.dumps(facts_row(of, clip, ".flac")))
    assert json.loads((tmp_path / "info.json").read_text())["seed"] == 7


def test_an_interrupted_run_goes_on_and_another_seed_is_refused(tmp_path, monkeypatch):
    made = fake_synth(monkeypatch)
    build(tmp_path, 3, seed=0)
    (tmp_path / "audio" / "00001.flac").unlink()
    before = (tmp_path / "audio" / "00000.flac").stat().st_mtime_ns
    build(tmp_path, 5, seed=0)  # and it may grow
    assert len(made) == 3 + 1 + 2
    assert (tmp_path / "audio" / "00000.flac").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds another corpus \(seed 0 there, 1 now\)"):
        build(tmp_path, 5, seed=1)
    with pytest.raises(ValueError, match="got 0 clips"):
        build(tmp_path, 0, seed=0)


def test_splits_hold_their_shares_and_keep_copies_with_their_originals():
    entries = [entry(0, number) for number in range(4000)]
    shares = Counter(of.split for of in entries)
    expected = {"train": 0.92, "valid": 0.04, "test": 0.04}
    assert all(abs(shares[name] / 4000 - share) < 0.015 for name, share in expected.items())
    by_original = {}
    for of in entries:
        by_original.setdefault(of.original, []).append(of)
    assert all(len({of.split for of in same}) == 1 for same in by_original.values())
    assert all(sum(of.quality == "good" for of in same) == 1 for same in by_original.values())
    assert sum(of.quality != "good" for of in entries) == 320
    assert (
        max(Counter(of.style for of in entries).values()) - min(Counter(of.style for of in entries).values())
        < 40
    )
    assert len({of.style for of in entries if of.split == "test"}) == 16
    assert entries[:100] == [entry(0, number) for number in range(100)]


def test_without_fluidsynth_the_error_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="apt-get install fluidsynth fluid-soundfont-gm"):
        find_synth()
    assert main(["corpus", "-o", str(tmp_path / "c"), "--clips", "1"]) == 1
    assert "fluidsynth is not installed" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_missing_soundfont_is_named(monkeypatch, tmp_path):
    program = tmp_path / "fluidsynth"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"no soundfont at nowhere.sf2"):
        find_synth("nowhere.sf2")


def test_without_mido_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(ImportError, match="pip install mido"):
        write_midi(score(0, entry(0, 0)), tmp_path / "a.mid")


@needs_mido
def test_the_same_seed_makes_the_music_that_it_always_made(tmp_path):
    """A regression of our own: notes and captions of 50 clips of seed 0, as they were before styles became TOML."""
    digest = hashlib.sha256()
    for number in range(50):
        of = entry(0, number)
        clip = score(0, of)
        write_midi(clip, tmp_path / "a.mid")
        digest.update((tmp_path / "a.mid").read_bytes())
        digest.update("\n".join(describe(0, of, clip)).encode())
    assert digest.hexdigest() == "5965df0d8b5308d7481e28c45c87e76a473681caf810b451c439d75ee84f29e9"


@needs_mido
def test_the_midi_file_holds_every_note_in_its_place(tmp_path):
    import mido

    clip = score(0, entry(0, 11))
    write_midi(clip, tmp_path / "a.mid")
    file = mido.MidiFile(tmp_path / "a.mid")
    now, found = 0.0, []
    for message in file:
        now += message.time
        if message.type == "note_on" and message.velocity:
            found.append((now - START, message.note, message.velocity))
    wanted = [(note.start, note.pitch, note.velocity) for part in clip.parts for note in part.notes]
    assert len(found) == len(wanted)
    for (start, *rest), (expected, *same) in zip(
        sorted(found, key=key), sorted(wanted, key=key), strict=True
    ):
        assert rest == same
        assert abs(start - max(expected, -START)) < TICK  # earlier ones: from the file's start


def key(note):
    return note[1], note[2], note[0]


def test_degraded_copies_are_as_loud_and_plainly_worse():
    rng = np.random.default_rng(0)
    time = np.arange(SAMPLES) / RATE
    wave = sum(np.sin(2 * np.pi * f * time) for f in (220, 1100, 3300, 5500)) * (
        0.6 + 0.4 * np.sin(2 * np.pi * time)
    )
    wave = (wave / np.abs(wave).max() * 0.7 + 0.001 * rng.standard_normal(SAMPLES)).astype(np.float32)
    for kind in KINDS:
        worse = damage(wave, RATE, kind, random.Random(1))
        assert worse.shape == wave.shape
        assert worse.dtype == np.float32
        assert abs(float(np.abs(worse).max()) - float(np.abs(wave).max())) < 1e-3
        assert np.array_equal(worse, damage(wave, RATE, kind, random.Random(1)))
        error = worse - wave * float((worse * wave).mean() / (wave**2).mean())
        assert float((error**2).mean()) > 0.02 * float((worse**2).mean()), kind
    power = np.abs(np.fft.rfft(damage(wave, RATE, "muffled", random.Random(1)))) ** 2
    assert power[round(2000 * SECONDS) :].sum() < 1e-4 * power.sum()


def test_the_chip_plays_in_tune_and_the_same_twice():
    clip = score(0, entry(0, CHIPTUNE))
    assert clip.facts.style == "chiptune"
    sound = chip_sound(clip, SAMPLES, RATE)
    assert sound.shape == (SAMPLES,)
    assert np.array_equal(sound, chip_sound(clip, SAMPLES, RATE))
    bass = next(part for part in clip.parts if part.role == "bass")
    note = replace(bass.notes[0], start=0.0, length=1.0, pitch=45)
    alone = chip_sound(replace(clip, parts=(replace(bass, notes=(note,)),)), RATE, RATE)
    assert abs(np.abs(np.fft.rfft(alone)).argmax() - 110) <= 1  # A2, at 1 Hz a bin


def test_a_silent_render_is_an_error():
    clip = score(0, entry(0, CHIPTUNE))
    quiet = replace(clip, parts=tuple(replace(part, notes=()) for part in clip.parts if part.role == "lead"))
    with pytest.raises(ValueError, match="chiptune came out silent"):
        render(quiet, Synth("none", "none"))


@needs_synth
@pytest.mark.parametrize("number", [1, 13])
def test_rendering_is_reproducible_on_the_beat_and_level(number):
    """A house clip and a waltz (numbers by style)."""
    assert SYNTH is not None
    clip = score(0, entry(0, number))
    wave = render(clip, SYNTH)
    assert wave.shape == (SAMPLES,)
    assert np.array_equal(wave, render(clip, SYNTH))
    assert {"soft": 0.5, "medium": 0.7, "loud": 0.9}[clip.facts.dynamics] == pytest.approx(
        np.abs(wave).max(), abs=1e-3
    )
    assert np.abs(wave[: RATE // 2]).max() > 0.02  # begins at once
    hop = 160
    energy = (wave[: SAMPLES // hop * hop].reshape(-1, hop) ** 2).mean(axis=1)
    rise = np.diff(np.log(energy + 1e-6)).clip(0)
    at = [rise[max(0, round(beat * 100) - 3) : round(beat * 100) + 4].max() for beat in clip.beats[:-1]]
    off = [rise[max(0, round(beat * 100) + 8) : round(beat * 100) + 15].max() for beat in clip.beats[:-1]]
    assert np.median(at) > 1.5 * np.median(off)


@needs_synth
def test_the_command_renders_a_corpus(tmp_path, capsys):
    assert main(["corpus", "-o", str(tmp_path), "--clips", "2", "--format", "wav"]) == 0
    assert "2 clips" in capsys.readouterr().out
    assert len(rows(tmp_path / "manifest.jsonl")) == 2
    wave, rate = audio.read(tmp_path / "audio" / "00001.wav")
    assert (len(wave), rate) == (SAMPLES, RATE)
