"""To noise and back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import draw

from musicldm import MusicLDMPipeline
from musicldm.editing.inversion import FixedPoint, invert, plans
from musicldm.editing.reprompting import reprompt
from musicldm.editing.windows import Windowed, cover
from musicldm.sampling import Conditioned, iterate, sample
from musicldm.schedulers import DDIM, DPMSolver, InverseDDIM
from musicldm.stages import Request
from musicldm.unet import UNet, UNetConfig

RETURNS = 0.05  # what issue 9 asks: 50 steps there and back at guidance 1, relative


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(8,), heads=(2,), layers_per_block=1, cond_dim=12,
        norm_num_groups=4, norm_eps=1e-5, sample_size=8,
    )  # fmt: skip
    return UNet(config).eval().double()


def smooth(x, timestep):
    """The exact noise prediction for data of variance 0.5 around a pattern: as smooth as a trained network."""
    now = DDIM().noise_schedule.alphas_cumprod[int(timestep)]
    return (1 - now).sqrt() * (x - now.sqrt() * pattern(x)) / (0.5 * now + 1 - now)


def pattern(x):
    return torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)[:, None].expand_as(x)


def data(b: int = 2, t: int = 8) -> torch.Tensor:
    """Latents of that distribution."""
    noise = draw(b, 4, t, 4).double()
    return pattern(noise) + 0.5**0.5 * noise


class Network(Conditioned):
    """`smooth` and a share of a random network, which alone amplifies what it is given."""

    def __call__(self, x, timestep):
        return smooth(x, timestep) + 0.1 * super().__call__(x, timestep)


def distance(got, expected) -> float:
    """Root mean square of the difference over that of the expected."""
    return ((got - expected).norm() / expected.norm()).item()


def there_and_back(denoiser, latents, steps=50, refinements=1) -> float:
    there, back = plans(DDIM(), steps)
    with torch.no_grad():
        noise = invert(denoiser, there, latents, refinements=refinements)
    return distance(sample(denoiser, back, noise), latents)


def test_fifty_steps_return_the_latents_of_a_smooth_model():
    errors = [there_and_back(smooth, data(), steps, 0) for steps in (10, 50, 200)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]  # plain inversion is of first order
    assert there_and_back(smooth, data(), 50) < RETURNS / 5


def test_fifty_steps_return_the_latents_through_a_network(unet):
    denoiser = Network(unet, draw(2, 12).double())
    assert there_and_back(denoiser, data()) < RETURNS
    other = Network(unet, 20 * draw(2, 12, seed=4).double())
    there, back = plans(DDIM(), 50)
    with torch.no_grad():
        noise = invert(denoiser, there, data())
    assert distance(noise, data()) > 0.5  # it went somewhere
    returned = there_and_back(denoiser, data())
    assert (
        distance(sample(other, back, noise), data()) > 10 * returned
    )  # an edit: another prompt leads elsewhere


def test_refinements_converge_to_the_exact_inverse(unet):
    denoiser, latents = Network(unet, draw(1, 12).double()), data(1)
    errors = [there_and_back(denoiser, latents, 10, refinements) for refinements in (0, 1, 3)]
    assert errors[0] > 2 * errors[1] > 8 * errors[2]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_refinements_find_the_inverse_whatever_the_model_predicts(prediction_type):
    """The same model, said in three ways: its step back undoes the step there to the last digit."""
    squared = DDIM().noise_schedule.alphas_cumprod

    def model(x, timestep):
        signal, sigma = squared[int(timestep)].sqrt(), (1 - squared[int(timestep)]).sqrt()
        eps = smooth(x, timestep)
        x0 = (x - sigma * eps) / signal
        return {"epsilon": eps, "v_prediction": signal * eps - sigma * x0, "sample": x0}[prediction_type]

    there, back = plans(DDIM(prediction_type=prediction_type), 10)
    with torch.no_grad():
        errors = [
            distance(sample(model, back, invert(model, there, data(), refinements=n)), data())
            for n in (0, 1, 30)
        ]
    assert errors[0] > errors[1] > 1e-4
    assert errors[2] < 1e-9


def test_no_refinement_is_the_plain_step_bit_for_bit(unet):
    denoiser, latents = Network(unet, draw(1, 12).double()), data(1)
    there, _ = plans(DDIM(), 6)
    with torch.no_grad():
        *_, plain = iterate(denoiser, there, latents)
        assert torch.equal(invert(denoiser, there, latents, refinements=0), plain.x)


def test_refinements_evaluate_at_the_new_point_and_step_from_the_old():
    """Against the equation x' = x + c eps(x') of one step, solved by hand for a linear model."""
    there, _ = plans(DDIM(), 1)
    x = draw(1, 1, 4, 1).double()
    got = invert(lambda x, t: 0.3 * x, there, x, refinements=60)
    a, c = there.table[0][0, 0].item(), there.table[0][0, -1].item()
    assert torch.allclose(got, a * x / (1 - 0.3 * c), rtol=1e-9)


def test_an_item_of_a_batch_is_the_item_alone(unet):
    cond, latents = draw(3, 12).double(), draw(3, 4, 8, 4).double()
    there, _ = plans(DDIM(), 4)
    with torch.no_grad():
        together = invert(Conditioned(unet, cond), there, latents, refinements=1)
        for k in range(3):
            alone = invert(Conditioned(unet, cond[k : k + 1]), there, latents[k : k + 1], refinements=1)
            assert distance(alone[0], together[k]) < 1e-10


def test_long_clips_are_inverted_by_windows(unet):
    layout = cover(20, 8, 4)
    denoiser = Windowed(layout, [Network(unet, draw(1, 12).double())] * len(layout))
    assert there_and_back(denoiser, draw(1, 4, 20, 4).double(), 10, 4) < RETURNS


def test_plans_keep_the_schedulers_settings_and_no_noise():
    there, back = plans(DPMSolver(timestep_spacing="trailing", beta_end=0.01), 7)
    assert there.timesteps.tolist() == back.timesteps.flip(0).tolist()
    assert (there.solver, back.solver) == ("InverseDDIM", "DDIM")
    assert not plans(DDIM(eta=1.0), 4)[1].stochastic
    assert torch.equal(
        there.table,
        InverseDDIM(timestep_spacing="trailing", beta_end=0.01, set_alpha_to_one=True).plan(7).table,
    )


def test_what_cannot_be_inverted_is_an_error():
    with pytest.raises(ValueError, match=r"got a plan of DDIM, expected one of InverseDDIM"):
        invert(smooth, DDIM().plan(3), draw(1, 1, 4, 1))
    with pytest.raises(ValueError, match="got -1 refinements"):
        FixedPoint(-1)


# --- through the pipeline ---

CLIP = {"num_inference_steps": 6, "guidance_scale": 1.0}
ITEM = 1e-4  # audio of one clip alone and in a batch


@pytest.fixture
def gentle(tiny):
    """The tiny checkpoint with a network of a small slope, as a trained one has."""
    unet = copy.deepcopy(tiny.unet)
    with torch.no_grad():
        unet.conv_out.weight *= 0.1
    return MusicLDMPipeline(**{**tiny.components, "unet": unet})


def test_a_clip_under_its_own_prompt_comes_back_and_under_another_does_not(gentle):
    wave = 0.3 * draw(2, 5120)
    latents = gentle.encode(wave, 16000)
    seen = []
    own = Request(prompt="a waltz", output_type="latent", callback=lambda *step: seen.append(step[1]), **CLIP)
    back = reprompt(gentle, wave, 16000, own, source_prompt="a waltz", refinements=5).audios
    assert distance(back, latents) < RETURNS
    assert len(seen) == 12
    assert seen[0] < seen[5] == seen[6] > seen[11]
    other = Request(prompt="loud noise", output_type="latent", **{**CLIP, "guidance_scale": 4.0})
    moved = reprompt(gentle, wave, 16000, other, source_prompt="a waltz", refinements=5).audios
    assert distance(moved, latents) > 2 * distance(back, latents)


def test_a_clip_describes_itself_and_keeps_its_prompt_in_a_batch(gentle):
    waves = 0.3 * draw(2, 3000)
    both = reprompt(gentle, waves, 16000, Request(prompt=["a", "b"], **CLIP)).audios
    assert both.shape == (2, 3000)
    alone = reprompt(gentle, waves[1], 16000, Request(prompt="b", **CLIP)).audios
    assert np.abs(alone[0] - both[1]).max() < ITEM


def test_what_draws_is_refused(gentle):
    for other in ({"eta": 0.5}, {"num_waveforms_per_prompt": 2}):
        with pytest.raises(ValueError, match="nothing is drawn"):
            reprompt(gentle, draw(1, 3000) * 0.1, 16000, Request(prompt="a", **CLIP, **other))
