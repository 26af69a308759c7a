"""Clips: what they are made of, and that they depend on their names alone."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from clicks import RATE, click_track

from musicldm import audio
from musicldm.mel import normalize_track
from musicldm.training.clips import Clips, collate
from musicldm.training.manifest import Track
from musicldm.training.mixer import Mixer
from musicldm.training.sound import Measures, Stats, cut, measure

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
    assert [batch.indices for batch in clips.batches(0, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [index for rank in (0, 1) for index in next(iter(clips.order(0, 4, rank, 2)))] == [0, 1, 2, 3]


def test_repeat_after_brings_the_same_clips_in_another_order(tracks):
    clips = Clips(tracks, RATE, SAMPLES, repeat_after=2)
    assert clips.item(0, 3).key == clips.item(2, 3).key != clips.item(1, 3).key
    assert list(clips.order(0, 7)) != list(clips.order(2, 7))


# ---- order ----


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_processes_see_together_what_one_would(tracks, world_size):
    clips = Clips(tracks, RATE, SAMPLES, seed=1)
    for epoch in range(3):
        (alone,) = clips.order(epoch, 6)
        shared = [list(clips.order(epoch, 6, rank, world_size)) for rank in range(world_size)]
        assert [index for part in shared for index in part[0]] == alone
        assert len(set(alone)) == 6


def test_an_epoch_can_be_entered_anywhere_and_every_track_comes(tracks):
    clips = Clips(tracks, RATE, SAMPLES, seed=1)
    whole = list(clips.order(3, 2))
    assert len(whole) == clips.batches_per_epoch(2) == 3
    for start in range(4):
        assert list(clips.order(3, 2, start_batch=start)) == whole[start:]
    seen = Counter(index for epoch in range(20) for batch in clips.order(epoch, 2) for index in batch)
    assert len(seen) == 7
    assert min(seen.values()) > 10
    stream = clips.stream(2, start_epoch=3, start_batch=2)
    got = [(batch.epoch, batch.indices) for _, batch in zip(range(3), stream, strict=False)]
    assert got == [(3, whole[2]), *[(4, indices) for indices in list(clips.order(4, 2))[:2]]]


def test_workers_change_nothing_and_leave_the_global_generator_alone(tracks):
    clips = Clips(tracks, RATE, SAMPLES, seed=2, mixer=Mixer(tracks, "plain"))
    before = torch.random.get_rng_state()
    ahead = list(clips.batches(1, 3, workers=2))
    assert torch.equal(before, torch.random.get_rng_state())
    for batch, expected in zip(ahead, clips.batches(1, 3), strict=True):
        assert torch.equal(batch.wave, expected.wave)
        assert (batch.keys, batch.captions, batch.paths) == (expected.keys, expected.captions, expected.paths)


def test_wrong_settings_are_named(tracks):
    clips = Clips(tracks, RATE, SAMPLES)
    with pytest.raises(ValueError, match="batch of 5 for rank 0 of 2, expected a multiple of 2"):
        list(clips.order(0, 5, 0, 2))
    with pytest.raises(ValueError, match="7 tracks do not fill a batch of 8"):
        list(clips.order(0, 8))
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


def test_collate_keeps_the_order(tracks):
    clips = Clips(tracks, RATE, SAMPLES)
    batch = collate([clips.item(0, index) for index in (4, 1)])
    assert batch.wave.shape == (2, SAMPLES)
    assert batch.wave.dtype == torch.float32
    assert batch.indices == [4, 1]
    assert batch.lam.tolist() == [1.0, 1.0]
    assert batch.wave_b is None


# ---- what is remembered of a track ----


def test_measures_are_kept_until_the_file_changes(tmp_path, monkeypatch):
    track = click_track(tmp_path / "a.wav", 120, seconds=3)
    folder = tmp_path / "measures"
    first = Measures(RATE, folder)(track.path)
    assert isinstance(first, Stats)
    monkeypatch.setattr("musicldm.training.sound.measure", lambda *_: pytest.fail("measured again"))
    assert Measures(RATE, folder)(track.path) == first
    monkeypatch.undo()
    (entry,) = folder.rglob("*.json")
    entry.write_text("{")  # damage
    assert Measures(RATE, folder)(track.path) == first
    click_track(tmp_path / "a.wav", 90, seconds=4)
    os.utime(track.path, ns=(1, 1))
    assert Measures(RATE, folder)(track.path).seconds == 4
