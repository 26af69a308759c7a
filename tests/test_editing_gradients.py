"""Gradients flow from the waveform to the noise and back to a clip; checkpointing changes what is kept alone."""

from __future__ import annotations

import pytest
import torch
from helpers import draw

from musicldm.approximations import Steps
from musicldm.editing.gradients import checkpointed
from musicldm.editing.inversion import invert, plans
from musicldm.editing.loudness import loudness, match_loudness
from musicldm.editing.windows import Through, Windowed, cover
from musicldm.mel import MelConfig, log_mel
from musicldm.sampling import Conditioned, Guided, denoise_step, iterate
from musicldm.schedulers import DDIM, DPMSolver, UniPC
from musicldm.unet import UNet, UNetConfig
from musicldm.vae import VAE, VAEConfig
from musicldm.vocoder import HiFiGAN, VocoderConfig

SLOPE = 1e-6  # relative, of a gradient to central differences in float64
STEP = 1e-5
SHAPE = (1, 4, 8, 4)


def double(module):
    """In float64, without biases, with weights that keep what goes through alive."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.zero_()
    return module.double().eval()


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(8, 8), heads=(0, 2), layers_per_block=1, cond_dim=6,
        norm_num_groups=4, norm_eps=1e-5, sample_size=8,
    )  # fmt: skip
    return double(UNet(config))


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    config = VAEConfig(
        in_channels=1, out_channels=1, block_out_channels=(4, 8, 8), layers_per_block=1, latent_channels=4,
        norm_num_groups=4, scaling_factor=0.8,
    )  # fmt: skip
    return double(VAE(config))


@pytest.fixture(scope="module")
def vocoder() -> HiFiGAN:
    torch.manual_seed(0)
    config = VocoderConfig(
        model_in_dim=16, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=(5, 4), upsample_kernel_sizes=(10, 8),
        resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),), leaky_relu_slope=0.1,
    )  # fmt: skip
    return double(HiFiGAN(config))


def check_slope(function, x, step=STEP) -> None:
    """The gradient of a fixed projection of function(x), along a fixed direction, is its central difference."""
    direction = draw(*x.shape, seed=7).to(x)
    weights = draw(*function(x).shape, seed=8).to(x)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((function(leaf) * weights).sum(), leaf)
    with torch.no_grad():
        ends = [(function(x + sign * step * direction) * weights).sum() for sign in (1, -1)]
    slope = ((ends[0] - ends[1]) / (2 * step)).item()
    assert (gradient * direction).sum().item() == pytest.approx(
        slope, rel=SLOPE * 100 if abs(slope) < 1 else SLOPE
    )
    assert abs(slope) > 1e-8


def last(denoiser, plan, noise, step=denoise_step):
    *_, step_ = iterate(denoiser, plan, noise, step=step)
    return step_.x


@pytest.mark.parametrize(
    "plan", [DDIM().plan(3), DPMSolver().plan(3), UniPC().plan(3)], ids=lambda plan: plan.solver
)
def test_sampling_to_the_noise(unet, plan):
    cond = draw(1, 6).double()
    check_slope(lambda x: last(Guided(unet, cond, -cond, 2.0), plan, x), draw(*SHAPE).double())


def test_sampling_to_the_condition(unet):
    noise = draw(*SHAPE).double()
    check_slope(lambda cond: last(Guided(unet, cond, -cond, 2.0), DDIM().plan(2), noise), draw(1, 6).double())


def test_windows_to_the_noise(unet):
    layout = cover(20, 8, 4)
    denoiser = Windowed(layout, [Through(Conditioned(unet, draw(1, 6).double()), denoise_step)] * len(layout))
    check_slope(lambda x: last(denoiser, DDIM().plan(2), x), draw(1, 4, 20, 4).double())


def test_inversion_to_the_latents(unet):
    there, _ = plans(DDIM(), 2)
    denoiser = Conditioned(unet, draw(1, 6).double())
    check_slope(lambda x: invert(denoiser, there, x, refinements=1), draw(*SHAPE).double())


def test_the_decoder_to_the_latents(vae):
    check_slope(vae.decode, draw(*SHAPE).double())


def test_the_encoder_to_the_mel(vae):
    check_slope(lambda mel: vae.encode(mel).mode(), draw(1, 1, 16, 16).double())
    check_slope(
        lambda mel: vae.encode(mel).sample(torch.Generator().manual_seed(0)), draw(1, 1, 16, 16).double()
    )


def test_the_vocoder_to_the_mel(vocoder):
    check_slope(vocoder, draw(1, 12, 16).double(), step=1e-8)  # its leaky ReLUs have corners


def test_the_mel_to_the_wave():
    config = MelConfig(
        sampling_rate=16000, n_fft=64, hop_length=20, n_mels=16, f_min=0.0, f_max=8000.0, floor=1e-5
    )
    check_slope(lambda wave: log_mel(wave, config), draw(1, 400).double())


def chain(unet, vae, vocoder, wrapped=lambda function: function):
    """Noise -> wave, each station wrapped."""
    cond = draw(1, 6).double()

    def render(noise):
        latents = last(Guided(unet, cond, -cond, 2.0), DDIM().plan(4), noise, wrapped(denoise_step))
        return wrapped(vocoder)(wrapped(vae.decode)(latents)[:, 0])

    return render


def test_the_whole_chain(unet, vae, vocoder):
    check_slope(chain(unet, vae, vocoder), draw(*SHAPE).double())


def kept(function, x) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Bytes that the forward pass keeps for the backward pass beside parameters, its value and its gradient."""
    storages = {}

    def pack(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    leaf = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = function(leaf)
    (gradient,) = torch.autograd.grad(value.square().sum(), leaf)
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values()), value.detach(), gradient


def test_checkpointing_keeps_less_and_changes_nothing(unet, vae, vocoder):
    noise = draw(*SHAPE).double()
    plain = kept(chain(unet, vae, vocoder), noise)
    less = kept(chain(unet, vae, vocoder, checkpointed), noise)
    assert torch.equal(plain[1], less[1])
    assert torch.equal(plain[2], less[2])
    assert less[0] < plain[0] / 20


def test_what_checkpointing_keeps_grows_by_a_state_per_step(unet):
    cond, noise = draw(1, 6).double(), draw(*SHAPE).double()
    sizes = [
        kept(
            lambda x, n=n: last(Conditioned(unet, cond), DDIM().plan(n), x, checkpointed(denoise_step)), noise
        )[0]
        for n in (2, 4, 6)
    ]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.3)
    assert (sizes[2] - sizes[1]) / 2 < 12 * noise.nbytes  # a state of 6 slots, and what is yielded of it


def test_gradients_reach_parameters_through_checkpoints(unet, vae, vocoder):
    """As training by a loss on the wave would need."""
    weight = unet.conv_in.weight
    grads = [
        torch.autograd.grad(chain(unet, vae, vocoder, wrap)(draw(*SHAPE).double()).square().sum(), weight)[0]
        for wrap in (lambda function: function, checkpointed)
    ]
    assert torch.equal(*grads)
    assert grads[0].abs().max() > 0


def test_a_step_that_remembers_cannot_be_checkpointed():
    with pytest.raises(TypeError, match=r"got a DeepReuse step.*use denoise_step"):
        checkpointed(Steps().start(2))


# --- the example ---


def test_loudness_is_the_level_of_frames():
    wave = torch.cat([torch.full((1, 100), 1.0), torch.full((1, 100), 0.1), torch.zeros(1, 150)], dim=1)
    levels = loudness(wave, 100)
    assert levels.shape == (1, 3)
    assert torch.allclose(levels, torch.tensor([[0.0, -20.0, -100.0]]), atol=1e-3)


def test_noise_is_found_for_a_loudness_curve(unet, vae, vocoder):
    """The loss falls to a fifth in 8 steps, upwards as well as downwards from the same noise."""
    render, noise = chain(unet, vae, vocoder), draw(1, 4, 8, 4).double()
    before = loudness(render(noise).detach(), 80)
    ramp = torch.linspace(-3, 3, before.shape[1], dtype=torch.float64)
    for target in (before + ramp, before - ramp):
        found = match_loudness(render, noise, target, 80, lr=0.02)
        losses = [next(found)[0] for _ in range(8)]
        loss, best = next(found)
        assert losses[0] == pytest.approx(ramp.square().mean().item())
        assert loss < losses[0] / 5
        assert best.norm().item() == pytest.approx(noise.norm().item())
        assert not best.requires_grad
