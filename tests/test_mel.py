"""The front end against librosa (tests/goldens/make_mel.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import GOLDENS, draw
from safetensors.torch import load_file

from musicldm.mel import MUSICLDM_16K, log_mel, mel_filterbank, normalize_track

GOLDEN = load_file(GOLDENS / "mel.safetensors")
BANK_ATOL = 1e-8  # weights are at most 0.026; librosa computes them in float32
LOG_ATOL = 1e-6  # nepers, both analysed in float64; the bank is float32
NEAR = 1e-2  # what another front end misses by, at least


def test_mel_bank_equals_librosa():
    assert (mel_filterbank(MUSICLDM_16K) - GOLDEN["bank"]).abs().max() < BANK_ATOL


def test_log_mel_equals_librosa():
    got = log_mel(GOLDEN["wave"][None].double())[0, 0]
    assert got.shape == (100, 64)
    assert (got - GOLDEN["log_mel"][:100]).abs().max() < LOG_ATOL


@pytest.mark.parametrize("change", [{"f_max": 7600.0}, {"floor": 1e-4}, {"n_fft": 2048}])
def test_another_front_end_misses(change):
    got = log_mel(GOLDEN["wave"][None], replace(MUSICLDM_16K, n_mels=64, **change))[0, 0]
    assert (got - GOLDEN["log_mel"][:100]).abs().max() > NEAR


def test_a_training_clip_has_1024_frames():
    assert log_mel(torch.zeros(1, 163840)).shape == (1, 1, 1024, 64)


def test_silence_is_the_floor():
    assert torch.allclose(log_mel(torch.zeros(2, 1600)), torch.tensor(1e-5).log())


def test_gradients_flow():
    wave = draw(1, 1600).requires_grad_()
    log_mel(wave).sum().backward()
    assert wave.grad.isfinite().all()
    assert wave.grad.abs().sum() > 0


def test_a_track_is_centred_and_brought_to_half_scale():
    track = normalize_track(3 * draw(2, 1000) + 1)
    assert track.mean(dim=1).abs().max() < 1e-6
    assert torch.allclose(track.abs().amax(dim=1), torch.tensor(0.5))
    assert torch.equal(normalize_track(torch.zeros(1, 10)), torch.zeros(1, 10))


def test_too_short_or_unbatched_audio_is_named():
    with pytest.raises(ValueError, match=r"got \(1, 512\), expected \(b, s\) with more than 512 samples"):
        log_mel(torch.zeros(1, 512))
    with pytest.raises(ValueError, match="expected"):
        log_mel(torch.zeros(16000))


def test_impossible_frequencies_are_refused():
    with pytest.raises(ValueError, match="half the sampling rate"):
        replace(MUSICLDM_16K, f_max=9000.0)
