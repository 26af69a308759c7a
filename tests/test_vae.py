from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import draw

from musicldm.vae import VAE, Posterior, VAEConfig

SMALL = VAEConfig(
    in_channels=1, out_channels=1, block_out_channels=(8, 16, 16), layers_per_block=1, latent_channels=4,
    norm_num_groups=4, scaling_factor=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(SMALL).eval()


@pytest.mark.parametrize("rows", [1, 7, 16])
def test_latents_are_four_times_smaller_both_ways(vae, rows):
    assert vae.decode(draw(2, 4, rows, 4)).shape == (2, 1, 4 * rows, 16)
    assert vae.encode(draw(2, 1, 4 * rows, 16)).mean.shape == (2, 4, rows, 4)


def test_the_factor_follows_the_number_of_levels():
    assert SMALL.factor == 4
    assert replace(SMALL, block_out_channels=(8, 8, 8, 8)).factor == 8


def test_decode_divides_by_the_scale(vae):
    unscaled = VAE(replace(SMALL, scaling_factor=1.0))
    unscaled.load_state_dict(vae.state_dict())
    latents = draw(1, 4, 4, 4)
    assert torch.equal(vae.decode(latents), unscaled.decode(latents / 0.5))


def test_posterior_samples_have_its_mean_and_variance():
    posterior = Posterior(torch.full((20000,), 3.0), torch.full((20000,), 2.0).log())
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert sample.mean().item() == pytest.approx(3, abs=0.05)  # 3 standard errors
    assert sample.var().item() == pytest.approx(2, abs=0.1)


def test_posterior_samples_are_those_of_the_generator(vae):
    posterior = vae.encode(draw(1, 1, 16, 16))
    first, again = (posterior.sample(torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, posterior.sample(torch.Generator().manual_seed(5)))


def test_log_variance_is_clamped(vae):
    assert vae.encode(1e4 * draw(1, 1, 16, 16)).logvar.abs().max() <= 30


def test_gradients_reach_mel_and_every_parameter(vae):
    mel = draw(1, 1, 16, 16).requires_grad_()
    posterior = vae.encode(mel)
    (vae.decode(posterior.mode()).square().sum() + posterior.logvar.square().sum()).backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in [mel, *vae.parameters()])
    vae.zero_grad()


def test_wrong_shapes_are_named(vae):
    with pytest.raises(ValueError, match=r"got 15 frames of 16 bins, expected multiples of 4"):
        vae.encode(draw(1, 1, 15, 16))
    with pytest.raises(ValueError, match=r"expected \(b, 1, t, f\) log-mel"):
        vae.encode(draw(1, 16, 16))
    with pytest.raises(ValueError, match=r"got \(1, 8, 4, 4\), expected \(b, 4, t, f\)"):
        vae.decode(draw(1, 8, 4, 4))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(ValueError, match="scaling_factor must be positive and finite"):
        replace(SMALL, scaling_factor=scale)
