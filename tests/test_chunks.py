"""Long clips by pieces equal the whole, wherever the pieces end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import draw, relative

from musicldm import chunks, presets
from musicldm.vae import VAE, VAEConfig
from musicldm.vocoder import HiFiGAN

WHOLE = 1e-10  # in float64, where only the order of sums differs; outputs of order 1


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    config = VAEConfig(
        in_channels=1, out_channels=1, block_out_channels=(8, 16, 16), layers_per_block=2, latent_channels=4,
        norm_num_groups=4, scaling_factor=0.7,
    )  # fmt: skip
    vae = VAE(config).eval()
    for norm in vae.modules():
        if isinstance(norm, torch.nn.GroupNorm):
            torch.nn.init.normal_(norm.weight, 1, 0.3)
            torch.nn.init.normal_(norm.bias, 0, 0.3)
    return vae.double()


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 13, 40, 41])
def test_decoding_by_pieces(vae, rows):
    latents = draw(2, 4, 41, 4).double()
    with torch.no_grad():
        assert relative(chunks.decode(vae, latents, rows), vae.decode(latents)) < WHOLE


def test_clips_up_to_a_length_are_decoded_whole(vae):
    latents = draw(1, 4, 12, 4).double()
    with torch.no_grad():
        assert torch.equal(chunks.decode(vae, latents, 5, whole=12), vae.decode(latents))
        assert not torch.equal(chunks.decode(vae, latents, 5, whole=11), vae.decode(latents))  # rounding


def test_statistics_over_the_whole_clip_matter(vae):
    """The negative control: decoding the pieces by themselves is another clip."""
    latents = draw(1, 4, 40, 4).double() * torch.linspace(0.2, 3, 40)[:, None]
    with torch.no_grad():
        apart = torch.cat([vae.decode(piece) for piece in latents.split(20, dim=2)], dim=2)
        assert relative(apart, vae.decode(latents)) > 1e-2
        assert relative(chunks.decode(vae, latents, 20), vae.decode(latents)) < WHOLE


def test_a_float32_copy_of_the_statistics_keeps_bfloat16_as_good_as_whole(vae):
    half, latents = VAE(vae.config).to(torch.bfloat16), draw(1, 4, 40, 4)
    half.load_state_dict(vae.state_dict())
    with torch.no_grad():
        exact = vae.decode(latents.double()).float()
        whole = relative(half.decode(latents.bfloat16()).float(), exact)
        pieces = relative(chunks.decode(half, latents.bfloat16(), 16).float(), exact)
    assert pieces < 1.5 * whole


@pytest.fixture(scope="module")
def vocoder() -> HiFiGAN:
    """The published shape, with fewer channels: the receptive field is the published one."""
    torch.manual_seed(0)
    vocoder = HiFiGAN(replace(presets.VOCODER_16K, upsample_initial_channel=64)).eval()
    with torch.no_grad():
        for p in vocoder.parameters():
            if p.ndim > 1:
                p.normal_(0, 1.4 / p[0].numel() ** 0.5)
    return vocoder.double()


@pytest.mark.parametrize(("frames", "t"), [(64, 130), (64, 192), (50, 300), (64, 109), (1, 120)])
def test_vocoding_by_pieces(vocoder, frames, t):
    mel = draw(2, t, 64).double()
    sizes = []
    handle = vocoder.register_forward_hook(lambda m, args, out: sizes.append(args[0].shape[1]))
    with torch.no_grad():
        pieces = chunks.vocode(vocoder, mel, frames)
        handle.remove()
        whole = vocoder(mel)
    assert pieces.shape == whole.shape == (2, 160 * t + 32)
    assert (pieces - whole).abs().max() < WHOLE
    assert len(set(sizes)) == 1, "a compiled vocoder would need several graphs"


def test_the_receptive_field_is_enough_and_not_far_too_much(vocoder):
    """Samples move when a frame does: just those within the field, and nearly all of it is used."""
    halo = chunks.receptive_frames(vocoder.config)
    mel = draw(1, 121, 64).double()
    moved = mel.clone()
    moved[:, 60] += 100
    with torch.no_grad():
        changed = (vocoder(mel) != vocoder(moved))[0].nonzero()
    first, last = changed.min().item() / 160, changed.max().item() / 160
    reach = max(60 - first, last - 61)
    assert halo / 2 < reach < halo


def test_long_clips_go_by_pieces_in_the_pipeline(pipe, monkeypatch):
    import musicldm.parts

    call = {
        "prompt": "a",
        "audio_length_in_s": 2.56,
        "num_inference_steps": 1,
        "seed": 0,
        "output_type": "pt",
    }
    whole = pipe(**call).audios
    monkeypatch.setattr(musicldm.parts, "DECODED_WHOLE", 20)
    monkeypatch.setattr(musicldm.parts, "DECODED_ROWS", 10)
    monkeypatch.setattr(musicldm.parts, "VOCODED_FRAMES", 64)
    assert (pipe(**call).audios - whole).abs().max() < 1e-4
