from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile

from musicldm import audio

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
LSB = 1 / 32767


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_integer_files_hold_the_samples_to_half_a_step(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    audio.write(path, TONE, RATE)
    data, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert data.shape == TONE.shape
    assert np.abs(data * LSB - TONE).max() <= LSB / 2 + 1e-7


def test_float_files_hold_the_samples_exactly(tmp_path):
    audio.write(tmp_path / "a.wav", TONE, RATE, float32=True)
    assert np.array_equal(audio.read(tmp_path / "a.wav")[0], TONE)


def test_ogg_keeps_length_and_loudness_of_a_long_clip(tmp_path):
    audio.write(tmp_path / "a.ogg", np.tile(TONE, 30), RATE)
    wave, rate = audio.read(tmp_path / "a.ogg")
    assert (len(wave), rate) == (30 * RATE, RATE)
    assert np.sqrt((wave**2).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_full_scale_is_clipped_never_wrapped():
    assert audio.to_int16(np.array([-2, -1, 0, 1, 2], np.float32)).tolist() == [
        -32767,
        -32767,
        0,
        32767,
        32767,
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_refused_and_leave_no_file(tmp_path, bad):
    wave = TONE.copy()
    wave[7] = bad
    with pytest.raises(ValueError, match=r"a\.wav: 1 samples are NaN or infinite"):
        audio.write(tmp_path / "a.wav", wave, RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp3", "a", "a.txt"])
def test_other_formats_are_named(tmp_path, name):
    with pytest.raises(ValueError, match=r"expected one of \.wav, \.flac, \.ogg"):
        audio.write(tmp_path / name, TONE, RATE)


def test_float_samples_need_a_wav(tmp_path):
    with pytest.raises(ValueError, match="32-bit float samples go into"):
        audio.write(tmp_path / "a.flac", TONE, RATE, float32=True)


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path):
    audio.write(tmp_path / "a.wav", TONE, RATE)
    with pytest.raises(ValueError, match="NaN"):
        audio.write(tmp_path / "a.wav", np.full(10, np.nan, np.float32), RATE)
    assert len(audio.read(tmp_path / "a.wav")[0]) == RATE


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([TONE, -TONE], axis=1), RATE, subtype="FLOAT")
    assert np.abs(audio.read(tmp_path / "a.wav")[0]).max() == 0


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all" * 100])
def test_what_is_no_audio_is_named(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.wav: not an audio file that can be read"):
        audio.read(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"b\.wav"):
        audio.read(tmp_path / "b.wav")


def test_resampling_keeps_pitch_and_level():
    up = audio.resample(TONE[None], RATE, 48000)
    assert up.shape == (1, 48000)
    spectrum = np.abs(np.fft.rfft(up[0]))
    assert spectrum.argmax() == 440
    assert np.abs(up).max() == pytest.approx(0.5, rel=0.05)


def test_silence_is_remarked_upon(caplog):
    with caplog.at_level(logging.WARNING):
        audio.warn_if_silent(TONE, "clip 0")
        assert not caplog.records
        audio.warn_if_silent(1e-4 * TONE, "clip 1")
    assert "clip 1 is nearly silent: peak 5e-05" in caplog.text
