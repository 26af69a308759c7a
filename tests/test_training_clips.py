"""Clips: what they are made of, and that they depend on their names alone."""

from __future__ import annotations

import os
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import soundfile
import torch
from clicks import RATE, click_track

from musicldm import audio
from musicldm.data.clips import Clips
from musicldm.data.manifest import Track
from musicldm.data.mixer import Mixer
from musicldm.data.track_stats import Measures, Stats, cut, measure
from musicldm.mel import normalize_track
from musicldm.training.data import ClipSource
from musicldm.training.feed import steps
from musicldm.training.order import Order
from musicldm.training.stage import collate

SAMPLES = 4000
RESAMPLED = 1e-6  # a part resampled against the part of the whole: float32 sums in another order


def noise(path, seconds, rate, channels=1, seed=0, level=0.2):
    wave = level * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels)) + 0.05
    soundfile.write(path, wave.clip(-1, 1).astype(np.float32), rate)
    return Track(path=path, captions=("noise", "hiss", "static"))


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    return [noise(folder / f"{i}.wav", 1 + i / 4, 16000, seed=i) for i in range(7)]


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 44100, 2), ("a.flac", 48000, 1), ("a.ogg", 22050, 2), ("a.mp3", 44100, 2), ("a.aiff", 8000, 1), ("a.wav", 11127, 1)],
)  # fmt: skip
def test_a_cut_is_the_part_of_the_whole_normalised_track(tmp_path, name, rate, channels):
    track = noise(tmp_path / name, 3.3, rate, channels)
    wave, _ = audio.read(track.path)
    whole = normalize_track(torch.from_numpy(audio.resample(wave, rate, RATE))).numpy()
    stats = measure(track.path, RATE)
    assert stats.samples == len(whole)
    for start in (0, 1, 7777, len(whole) - SAMPLES, len(whole) - 10, len(whole) + 5):
        expected = np.zeros(SAMPLES, np.float32)
        part = whole[start : start + SAMPLES]
        expected[: len(part)] = part
        np.testing.assert_allclose(cut(track.path, stats, start, SAMPLES), expected, rtol=0, atol=RESAMPLED)


def test_a_cut_decodes_its_part_alone(tmp_path, monkeypatch):
    track = noise(tmp_path / "long.wav", 60, RATE)
    stats = measure(track.path, RATE)
    asked = []
    read = audio.read
    monkeypatch.setattr(audio, "read", lambda *where: asked.append(where[1:]) or read(*where))
    cut(track.path, stats, 30 * RATE, RATE)
    ((start, stop),) = asked
    assert stop - start < 1.5 * RATE


def test_silence_and_short_tracks_are_padded_never_nan(tmp_path):
    audio.write(tmp_path / "silent.wav", np.zeros(100, np.float32), RATE)
    clip = Clips([Track(path=tmp_path / "silent.wav")], RATE, SAMPLES).item(0, 0)
    assert clip.wave.shape == (SAMPLES,)
    assert not clip.wave.any()
    assert clip.caption == ""
    short = Clips([noise(tmp_path / "short.wav", 0.1, RATE)], RATE, SAMPLES).item(0, 0)
    assert short.wave[:1600].abs().max() == pytest.approx(0.5, abs=1e-6)
    assert not short.wave[1600:].any()


def test_an_item_depends_on_its_name_alone(tracks):
    clips = Clips(tracks, RATE, SAMPLES, seed=4)
    forwards = {(e, k): clips.item(e, k) for e in range(3) for k in range(7)}
    again = Clips(tracks, RATE, SAMPLES, seed=4)
    for name in reversed(forwards):
        clip = again.item(*name)
        assert torch.equal(clip.wave, forwards[name].wave)
        assert (clip.key, clip.caption, clip.start) == (
            forwards[name].key,
            forwards[name].caption,
            forwards[name].start,
        )
    assert len({clip.key for clip in forwards.values()}) == 21
    assert len({clip.caption for clip in forwards.values()}) == 3
    assert clips.item(0, 3).key != Clips(tracks, RATE, SAMPLES, seed=5).item(0, 3).key


def test_mixing_changes_no_crop_of_what_is_not_mixed(tracks):
    plain, mixed = (Clips(tracks, RATE, SAMPLES, mixer=Mixer(tracks, s)) for s in ("none", "plain"))
    outcomes = Counter()
    for epoch in range(3):
        for index in range(7):
            clip = mixed.item(epoch, index)
            outcomes[clip.outcome] += 1
            assert (clip.key == plain.item(epoch, index).key) == (clip.outcome == "not drawn")
    assert min(outcomes["mixed"], outcomes["not drawn"]) > 0


def test_evaluation_takes_the_middle_and_the_first_caption(tracks):
    clips = Clips(tracks, RATE, SAMPLES, training=False, mixer=Mixer(tracks, "plain", probability=1.0))
    clip = clips.item(5, 4)
    assert clip.start == (2 * RATE - SAMPLES) // 2 / RATE
    assert (clip.caption, clip.outcome) == ("noise", "off")


def test_repeat_after_brings_the_same_clips_again(tracks):
    clips = Clips(tracks, RATE, SAMPLES, repeat_after=2)
    assert clips.item(0, 3).key == clips.item(2, 3).key != clips.item(1, 3).key


def test_workers_change_nothing_and_leave_the_global_generator_alone(tracks):
    source = ClipSource(Clips(tracks, RATE, SAMPLES, seed=2, mixer=Mixer(tracks, "plain")))
    where = {"start": 2, "end": 5, "rank": 0, "world": 1, "micro": 2}
    before = torch.random.get_rng_state()
    ahead, alone = (list(steps(source, Order(7, 3, 2), workers=workers, **where)) for workers in (2, 0))
    assert torch.equal(before, torch.random.get_rng_state())
    assert [len(step) for step in ahead] == [2, 2, 2]
    for (batch, places), (expected, same) in zip(chain(*ahead), chain(*alone), strict=True):
        assert places == same
        assert torch.equal(batch["wave"], expected["wave"])
        assert all(batch[name] == expected[name] for name in ("key", "caption", "outcome"))
        assert batch.files == expected.files


def test_wrong_settings_are_named(tracks):
    with pytest.raises(ValueError, match="got no tracks"):
        Clips([])
    with pytest.raises(ValueError, match="0 samples at 16000 Hz"):
        Clips(tracks, RATE, 0)
    with pytest.raises(ValueError, match="made for other tracks"):
        Clips(tracks, mixer=Mixer(tracks[1:], "none"))
    with pytest.raises(ValueError, match="measures at 8000 Hz, expected 16000 Hz"):
        Clips(tracks, measures=Measures(8000))


def test_a_file_that_goes_bad_in_training_is_named(tracks, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF no")
    with pytest.raises(ValueError, match=r"bad\.wav: not an audio file"):
        Clips([Track(path=tmp_path / "bad.wav")]).item(0, 0)


def test_a_batch_keeps_the_order(tracks):
    source = ClipSource(Clips(tracks, RATE, SAMPLES))
    batch = collate([source.item(0, index) for index in (4, 1)])
    assert batch["wave"].shape == (2, SAMPLES)
    assert batch["wave"].dtype == torch.float32
    assert [file.split(" at ")[0] for file in batch.files] == [str(tracks[k].path) for k in (4, 1)]
    assert batch["lam"].tolist() == [1.0, 1.0]
    assert torch.equal(batch["wave_b"], batch["wave"])
    assert batch["outcome"] == ("off", "off")


# ---- what is remembered of a track ----


def test_measures_are_kept_until_the_file_changes(tmp_path, monkeypatch):
    track = click_track(tmp_path / "a.wav", 120, seconds=3)
    folder = tmp_path / "measures"
    first = Measures(RATE, folder)(track.path)
    assert isinstance(first, Stats)
    monkeypatch.setattr("musicldm.data.track_stats.measure", lambda *_: pytest.fail("measured again"))
    assert Measures(RATE, folder)(track.path) == first
    monkeypatch.undo()
    (entry,) = folder.rglob("*.json")
    entry.write_text("{")  # damage
    assert Measures(RATE, folder)(track.path) == first
    click_track(tmp_path / "a.wav", 90, seconds=4)
    os.utime(track.path, ns=(1, 1))
    assert Measures(RATE, folder)(track.path).seconds == 4
