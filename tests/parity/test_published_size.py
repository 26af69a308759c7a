"""Live parity with Diffusers 0.33.1 and transformers 4.51.3 on 490 M parameters, float32, CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from musicldm.presets import UNET_16K
from musicldm.unet import UNet

# Two correct float32 implementations differ by about 1e-6 (order of summation); a mistake shows far above.
MODULE_RTOL = 1e-5
# In float64 rounding is out of the way: the two are one function.
EXACT_RTOL = 1e-12
# A whole call multiplies that by the solver's first steps, which divide by a small alpha.
AUDIO_ATOL = 1e-4

PROMPTS = ["Techno music with a strong, upbeat tempo and high melodic riffs", "", "café de nuit: ジャズ 🎹"]


def distance(got: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((got - expected).abs().max() / expected.abs().max()).item()


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("rows", [256, 19], ids=["10.24s", "odd"])
def test_unet_equals_diffusers(ours, theirs, rows):
    x, cond = draw(2, 8, rows, 16, seed=1), nn.functional.normalize(draw(2, 512, seed=2), dim=1)
    expected = theirs.unet(x, 981, encoder_hidden_states=None, class_labels=cond).sample
    assert distance(ours.unet(x, 981, cond), expected) < MODULE_RTOL


def test_unet_in_float64_is_the_same_function(ours, theirs):
    x, cond = (
        draw(1, 8, 19, 16, seed=1).double(),
        nn.functional.normalize(draw(1, 512, seed=2), dim=1).double(),
    )
    try:
        expected = theirs.unet.double()(x, 981, encoder_hidden_states=None, class_labels=cond).sample
        got = ours.unet.double()(x, 981, cond)
    finally:
        theirs.unet.float(), ours.unet.float()
    assert distance(got, expected) < EXACT_RTOL


def test_unet_with_other_head_counts_differs(ours, theirs):
    """The control: equal keys and shapes, other heads."""
    with torch.device("meta"):
        other = UNet(UNET_16K)
    other.load_state_dict(ours.unet.state_dict(), assign=True)
    x, cond = draw(1, 8, 64, 16, seed=1), nn.functional.normalize(draw(1, 512, seed=2), dim=1)
    expected = theirs.unet(x, 981, encoder_hidden_states=None, class_labels=cond).sample
    assert distance(other(x, 981, cond), expected) > 100 * MODULE_RTOL


def test_vae_decode_equals_diffusers(ours, theirs):
    latents = draw(1, 8, 64, 16, seed=3)
    expected = theirs.vae.decode(latents / theirs.vae.config.scaling_factor).sample
    assert distance(ours.vae.decode(latents), expected) < MODULE_RTOL
    assert distance(ours.vae.decode(latents * theirs.vae.config.scaling_factor), expected) > 100 * MODULE_RTOL


def test_vae_encode_equals_diffusers(ours, theirs):
    mel = 2 * draw(1, 1, 256, 64, seed=4) - 5
    expected = theirs.vae.encode(mel).latent_dist
    posterior = ours.vae.encode(mel)
    assert distance(posterior.mean, expected.mean) < MODULE_RTOL
    assert distance(posterior.logvar, expected.logvar) < MODULE_RTOL
    assert distance(ours.vae.encode(mel.flip(3)).mean, expected.mean) > 100 * MODULE_RTOL


def test_vocoder_equals_transformers(ours, theirs):
    mel = 2 * draw(1, 256, 64, seed=5) - 5
    expected = theirs.vocoder(mel)
    assert distance(ours.vocoder(mel), expected) < MODULE_RTOL
    assert distance(ours.vocoder(mel.flip(2)), expected) > 100 * MODULE_RTOL


def test_clap_text_equals_transformers(ours, theirs):
    tokens = theirs.tokenizer(
        PROMPTS, padding="max_length", max_length=512, truncation=True, return_tensors="pt"
    )
    expected = theirs.text_encoder.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
    expected = nn.functional.normalize(expected, dim=-1)
    got = ours.clap.embed_text(PROMPTS)
    assert distance(got, expected) < MODULE_RTOL
    assert distance(got.roll(1, 0), expected) > 100 * MODULE_RTOL


def test_clap_audio_equals_transformers(ours, theirs):
    wave = 0.3 * draw(1, 48000 * 3, seed=6)
    features = theirs.feature_extractor(list(wave.numpy()), sampling_rate=48000, return_tensors="pt")
    expected = nn.functional.normalize(theirs.text_encoder.get_audio_features(**features), dim=-1)
    assert distance(ours.clap.embed_audio(wave, 48000), expected) < MODULE_RTOL
    assert distance(ours.clap.embed_audio(wave, 44100), expected) > 100 * MODULE_RTOL


def test_whole_call_equals_diffusers(ours, theirs):
    arguments = {
        "prompt": PROMPTS[0],
        "negative_prompt": "low quality, average quality",
        "audio_length_in_s": 2.56,
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
        "output_type": "pt",
    }
    expected = theirs(**arguments, generator=torch.Generator().manual_seed(7)).audios
    got = ours(**arguments, generator=torch.Generator().manual_seed(7)).audios
    assert got.shape == expected.shape
    assert expected.abs().max() > 0.05  # it is not silence that agrees
    assert (got - expected).abs().max() < AUDIO_ATOL
    control = ours(**arguments | {"guidance_scale": 2.1}, generator=torch.Generator().manual_seed(7)).audios
    assert (control - expected).abs().max() > 10 * AUDIO_ATOL
