"""Clips as people hand them over."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicldm import audio
from musicldm.waves import as_waves

RATE = 16000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / RATE).astype(np.float32)
EXACT = 1e-6  # float32 rounding of samples below one
RESAMPLED = 2e-3  # soxr's ripple and its ends, for a tone away from them


@pytest.mark.parametrize(
    ("wave", "tolerance"),
    [
        (TONE, 0), (torch.from_numpy(TONE), 0), (TONE.astype(np.float64), EXACT), (TONE[:, None], 0), (TONE[None], 0),
        (np.stack([TONE, TONE], axis=1), EXACT), (np.stack([TONE, TONE])[None], EXACT),
        (audio.to_int16(TONE), 1e-4), ((TONE * 2**31).astype(np.int32), EXACT),
        ((TONE * 128 + 128).round().astype(np.uint8), 1 / 128), ((TONE * 128).round().astype(np.int8), 1 / 128),
        (TONE[::-1][::-1], 0), (TONE.astype(">f4"), 0), (torch.from_numpy(TONE).half(), 1e-3), (torch.from_numpy(TONE).bfloat16(), 1e-2),
    ],
)  # fmt: skip
def test_one_clip_in_every_type_and_layout(wave, tolerance):
    got = as_waves(wave, RATE, RATE)
    assert (got.shape, got.dtype) == ((1, 8000), torch.float32)
    assert np.abs(got[0].numpy() - TONE).max() <= tolerance


def test_channels_are_averaged_and_batches_kept():
    left, right = TONE, np.zeros_like(TONE)
    assert np.allclose(as_waves(np.stack([left, right], 1), RATE, RATE)[0], TONE / 2, atol=EXACT)
    assert torch.equal(
        as_waves(np.stack([left, right]), RATE, RATE), torch.from_numpy(np.stack([left, right]))
    )
    three = np.stack([np.stack([left, right])] * 3)
    assert as_waves(three, RATE, RATE).shape == (3, 8000)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_any_rate_is_resampled_to_the_models(rate):
    time = np.arange(round(0.5 * rate)) / rate
    got = as_waves(0.5 * np.sin(2 * np.pi * 440 * time).astype(np.float32), rate, RATE)[0].numpy()
    assert len(got) == pytest.approx(8000, abs=1)
    assert np.abs(got[500:7500] - TONE[500:7500]).max() < RESAMPLED


def test_a_clipped_clip_is_taken_as_it_is():
    loud = np.clip(4 * TONE, -1, 1)
    assert np.array_equal(as_waves(loud, RATE, RATE)[0], loud)
    assert np.array_equal(as_waves(4 * TONE, RATE, RATE)[0], 4 * TONE)  # a mix may overshoot


NAN = np.where(np.arange(8000) == 7, np.nan, TONE).astype(np.float32)
BAD = {
    "NaN": (NAN, RATE, ValueError, "wave: 1 samples are NaN or infinite"),
    "infinite": (np.full(8000, np.inf, np.float32), RATE, ValueError, "8000 samples are NaN or infinite"),
    "empty": (np.zeros(0, np.float32), RATE, ValueError, r"got shape \(0,\), expected at least one sample"),
    "no clips": (np.zeros((0, 8000), np.float32), RATE, ValueError, r"got shape \(0, 8000\)"),
    "scalar": (np.ones((), np.float32), RATE, ValueError, r"got shape \(\)"),
    "channels last in a batch": (np.zeros((1, 8000, 2)), RATE, ValueError, r"got shape \(1, 8000, 2\), expected at least"),
    "four axes": (np.zeros((1, 1, 1, 9)), RATE, ValueError, r"got shape \(1, 1, 1, 9\)"),
    "list": ([0.0, 1.0], RATE, TypeError, "got list, expected a numpy array or a tensor"),
    "file": ("clip.wav", RATE, TypeError, "got str"),
    "bool": (np.zeros(9, bool), RATE, TypeError, "got samples of torch.bool, expected floats, or integers"),
    "int64": (np.zeros(9, np.int64), RATE, TypeError, "got samples of torch.int64"),
    "complex": (np.zeros(9, complex), RATE, TypeError, "got samples of torch.complex128"),
    "objects": (np.array([None, 1]), RATE, TypeError, "got samples of object"),
    "integers as floats": (TONE * 32768, RATE, ValueError, "peak of 16384, expected -1 to 1; divide 16-bit"),
    "rate in kHz": (TONE, 16, ValueError, "got rate 16, expected 1000 to 1000000 Hz"),
    "rate 0": (TONE, 0, ValueError, "got rate 0"),
    "negative rate": (TONE, -16000, ValueError, "got rate -16000"),
    "rate as float": (TONE, 16000.0, TypeError, "got rate 16000.0, expected a whole number of Hz"),
    "rate as bool": (TONE, True, TypeError, "got rate True"),
    "no rate": (TONE, None, TypeError, "got rate None"),
    "nothing left": (TONE[:1], 44100, ValueError, "1 samples at 44100 Hz are none at 16000 Hz"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_clip_is_refused(name):
    wave, rate, error, message = BAD[name]
    with pytest.raises(error, match=message):
        as_waves(wave, rate, RATE)


def test_gradients_pass_where_the_rate_stays():
    wave = torch.from_numpy(TONE).requires_grad_()
    as_waves(wave, RATE, RATE).sum().backward()
    assert wave.grad is not None
    with pytest.raises(ValueError, match="gradients do not pass the change of rate from 8000 to 16000"):
        as_waves(wave, 8000, RATE)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 10240, 10300, 50000])
def test_latents_cover_the_clip_and_decode_to_its_length(pipe, samples):
    clip = np.resize(TONE, samples)
    with torch.no_grad():
        latents = pipe.encode(clip, RATE)
        assert latents.shape == (1, 8, -(-samples // 640), 16)
        assert latents.dtype == torch.float32
        assert pipe.decode(latents)[:, :samples].shape == (1, samples)


def test_encoding_is_the_posteriors_mean_at_unit_scale_of_the_padded_clip(pipe):
    from musicldm.mel import log_mel

    with torch.no_grad():
        padded = torch.cat([torch.from_numpy(TONE), torch.zeros(320)])[None]
        posterior = pipe.vae.encode(log_mel(padded))
        expected = posterior.mean * pipe.vae.config.scaling_factor
        assert torch.allclose(pipe.encode(TONE, RATE), expected, atol=EXACT)
        drawn = pipe.encode(TONE, RATE, generator=torch.Generator().manual_seed(0))
        assert torch.equal(drawn, pipe.encode(TONE, RATE, generator=torch.Generator().manual_seed(0)))
        spread = (drawn - expected) / (torch.exp(0.5 * posterior.logvar) * pipe.vae.config.scaling_factor)
        assert spread.std().item() == pytest.approx(1, abs=0.1)


def test_encoding_refuses_a_mel_that_the_vocoder_does_not_have(pipe):
    from dataclasses import replace

    from musicldm.mel import MUSICLDM_16K

    with pytest.raises(
        ValueError, match=r"got a mel of \(rate, hop, bins\) \(16000, 160, 80\) for a vocoder of"
    ):
        pipe.encode(TONE, RATE, mel=replace(MUSICLDM_16K, n_mels=80))


def test_gradients_flow_through_encoding(pipe):
    wave = torch.from_numpy(TONE).requires_grad_()
    pipe.encode(wave, RATE).square().sum().backward()
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.abs().sum() > 0


def test_embeddings_are_of_unit_norm_and_item_by_item(pipe):
    text = pipe.embed_text("a waltz")
    clips = np.stack([TONE, TONE[::-1] ** 3])
    heard = pipe.embed_audio(clips, RATE)
    assert text.shape == (1, 512)
    assert heard.shape == (2, 512)
    assert torch.allclose(heard.norm(dim=1), torch.ones(2))
    assert torch.allclose(heard[1:], pipe.embed_audio(clips[1], RATE), atol=1e-5)
    rng = np.random.default_rng(0)
    noisy = (TONE + 0.1 * rng.standard_normal(8000)).astype(
        np.float32
    )  # a pure tone's empty bins hear the rounding
    as_integers = pipe.embed_audio(audio.to_int16(noisy), RATE)
    assert (as_integers * pipe.embed_audio(noisy, RATE)).sum().item() == pytest.approx(1, abs=1e-3)
