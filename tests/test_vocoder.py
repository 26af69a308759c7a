from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import draw

from musicldm.presets import VOCODER_16K
from musicldm.vocoder import HiFiGAN

SMALL = replace(VOCODER_16K, model_in_dim=8, upsample_initial_channel=32)


@pytest.fixture(scope="module")
def vocoder() -> HiFiGAN:
    torch.manual_seed(0)
    return HiFiGAN(SMALL).eval()


@pytest.mark.parametrize("frames", [1, 3, 64])
def test_the_published_rates_give_160_samples_a_frame_and_32_more(vocoder, frames):
    assert vocoder(draw(2, frames, 8)).shape == (2, 160 * frames + 32)
    assert SMALL.hop_length == 160


def test_waveforms_stay_within_full_scale(vocoder):
    assert vocoder(1000 * draw(1, 8, 8)).abs().max() <= 1


def test_a_frame_is_heard_in_its_own_neighbourhood(vocoder):
    mel = draw(1, 64, 8)
    other = mel.clone()
    other[:, 0] += 1
    changed = (vocoder(mel) != vocoder(other)).flatten().nonzero().flatten()
    assert changed[0] < 160
    assert changed[-1] < 64 * 160  # not the whole clip


def test_gradients_reach_mel_and_every_parameter(vocoder):
    mel = draw(1, 4, 8).requires_grad_()
    vocoder(mel).square().sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in [mel, *vocoder.parameters()])
    vocoder.zero_grad()


def test_the_output_of_the_vae_is_told_what_to_do(vocoder):
    with pytest.raises(ValueError, match=r"drop its channel axis with mel\[:, 0\]"):
        vocoder(draw(1, 1, 64, 8))


def test_a_mel_of_another_width_is_traced_to_the_latents(vocoder):
    with pytest.raises(
        ValueError, match=r"got \(1, 64, 16\), expected \(b, t, 8\).*latents have columns"
    ) as error:
        vocoder(draw(1, 64, 16))
    assert "channel axis" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"upsample_kernel_sizes": (16, 16)}, "must have the same length"),
        ({"upsample_initial_channel": 48}, "48 channels cannot be halved 5 times"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
