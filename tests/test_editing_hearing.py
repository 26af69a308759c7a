"""CLAP's ear in torch hears what soxr and the front end do, with gradients."""

from __future__ import annotations

import copy

import pytest
import soxr
import torch
from helpers import draw

from musicldm.clap import CLAP
from musicldm.editing import hearing

RESAMPLED = 3e-6  # soxr computes its filter in float32; waves of order 1
NEAR_DB = 0.05  # in bins over -50 dB; in silence the two rounding noises differ by more
COSINE = 1e-4  # of an embedding


def music(rate: int, seconds: float, seed: int = 0) -> torch.Tensor:
    t = torch.arange(round(rate * seconds)) / rate
    tones = sum(torch.sin(2 * torch.pi * f * t) * 0.1 for f in (110, 440, 1300, 5200))
    return (tones + 0.05 * draw(len(t), seed=seed))[None]


@pytest.mark.parametrize("rate", [12000, 16000, 24000, 48000])
def test_the_resampler_is_soxrs(rate):
    wave = draw(2, 3001)
    got = hearing.resample(wave, rate, 48000)
    expected = torch.as_tensor(soxr.resample(wave.T.numpy(), rate, 48000, quality="HQ").T)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < RESAMPLED


def test_features_after_resampling_are_claps(tiny):
    wave = music(16000, 4.0)
    expected = tiny.clap.features(wave, 16000)
    difference = (hearing.features(tiny.clap, wave, 16000) - expected).abs()
    assert difference[expected > -50].max() < NEAR_DB
    assert (expected > -50).float().mean() > 0.3


@pytest.mark.parametrize("seconds", [0.5, 10.24])
def test_embeddings_are_claps(tiny, seconds):
    wave = torch.cat([music(16000, seconds, seed) for seed in (1, 2)]) * torch.tensor([[1.0], [0.3]])
    with torch.no_grad():
        got = hearing.embed_audio(tiny.clap, wave, 16000)
    expected = tiny.clap.embed_audio(wave, 16000)
    assert (1 - (got * expected).sum(1)).abs().max() < COSINE
    assert (1 - (got * expected.flip(0)).sum(1)).abs().max() > 2 * COSINE


def test_silence_has_finite_gradients(tiny):
    wave = torch.zeros(1, 8000, requires_grad=True)
    (gradient,) = torch.autograd.grad(hearing.embed_audio(tiny.clap, wave, 16000).sum(), wave)
    assert torch.isfinite(gradient).all()


def test_the_gradient_of_a_cosine_is_its_slope(tiny):
    """Finite differences along one direction, in float64."""
    clap = CLAP(copy.deepcopy(tiny.text_encoder).double(), tiny.tokenizer, tiny.feature_extractor)
    wave, direction = music(16000, 0.5).double(), 0.1 * draw(1, 8000, seed=3).double()
    target = clap.embed_text(["a slow piano"])

    def cosine(wave):
        return (hearing.embed_audio(clap, wave, 16000) * target).sum()

    leaf = wave.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cosine(leaf), leaf)
    step = 1e-5
    with torch.no_grad():
        slope = (cosine(wave + step * direction) - cosine(wave - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)
    assert abs(slope) > 1e-6


def test_what_cannot_be_heard_is_an_error(tiny):
    with pytest.raises(ValueError, match="got 44100 Hz, expected a rate that divides 48000 Hz"):
        hearing.features(tiny.clap, music(44100, 1.0), 44100)
    with pytest.raises(ValueError, match="got 0 Hz"):
        hearing.features(tiny.clap, music(16000, 1.0), 0)
    with pytest.raises(ValueError, match=r"expected \(b, s\)"):
        hearing.features(tiny.clap, torch.zeros(16000), 16000)
