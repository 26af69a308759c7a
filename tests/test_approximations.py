"""Guidance in an interval, and reuse of deep features: exact where they should be, cheaper where they may be."""

from __future__ import annotations

import pytest
import torch
from helpers import draw, relative

from musicldm import MusicLDMPipeline
from musicldm.approximations import (
    DeepReuse,
    Steps,
    forward_keeping,
    forward_reusing,
    in_interval,
    step_keeping,
    step_reusing,
)
from musicldm.sampling import Conditioned, Guided, iterate, sample
from musicldm.schedulers import DDIM, DPMSolver
from musicldm.unet import UNet, UNetConfig

SAME = 1e-6  # the same operations in the same order
SHAPE = (2, 4, 10, 4)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(8, 16, 16), heads=(0, 2, 2), layers_per_block=2, cond_dim=12,
        norm_num_groups=4, norm_eps=1e-5, sample_size=8,
    )  # fmt: skip
    return UNet(config).eval()


class Counting:
    """A U-Net that counts its full and its shallow evaluations by the calls of its middle."""

    def __init__(self, unet: UNet) -> None:
        self.seen: list[int] = []
        self.handle = unet.mid.register_forward_hook(lambda m, args, out: self.seen.append(len(args[0])))

    def __enter__(self) -> list[int]:
        return self.seen

    def __exit__(self, *error: object) -> None:
        self.handle.remove()


def both(unet: UNet) -> tuple[Guided, Conditioned]:
    cond = draw(2, 12)
    return Guided(unet, cond, -cond, 3.0), Conditioned(unet, cond)


def test_the_split_network_is_the_network(unet):
    x, cond, t = draw(*SHAPE), draw(2, 12), torch.tensor(321)
    with torch.no_grad():
        out, deep = forward_keeping(unet, x, t, cond)
        assert relative(out, unet(x, t, cond)) < SAME
        assert relative(forward_reusing(unet, x, t, cond, deep), out) < SAME
        assert relative(forward_reusing(unet, x, t, cond, deep.roll(1, 0)), out) > 1e-3


def test_reuse_at_every_evaluation_is_exact_and_at_every_nth_is_not(unet):
    guided, _ = both(unet)
    plan, noise = DDIM().plan(9), draw(*SHAPE)
    exact = sample(guided, plan, noise)
    assert relative(sample(guided, plan, noise, step=DeepReuse(1, step_keeping, step_reusing)), exact) < SAME
    errors = []
    for every in (2, 3, 9):
        with Counting(unet) as deep_evaluations:
            errors.append(relative(sample(guided, plan, noise, step=Steps().start(every)), exact))
        assert len(deep_evaluations) == -(-9 // every)
    assert 1e-5 < errors[0] < errors[2]


def test_steps_of_one_are_the_plain_function():
    steps = Steps()
    assert steps.start(1) is steps.plain


def test_outside_the_interval_the_network_runs_once(unet):
    guided, conditioned = both(unet)
    plan = DDIM().plan(10)
    low, high = plan.timesteps[7].item(), plan.timesteps[3].item()
    chosen = in_interval(plan, (low, high), guided, conditioned)
    assert [each is guided for each in chosen] == [3 <= k <= 7 for k in range(10)]
    with Counting(unet) as widths:
        sample(chosen, plan, draw(*SHAPE))
    assert widths == [2] * 3 + [4] * 5 + [2] * 2


def test_an_interval_of_everything_is_exact(unet):
    guided, conditioned = both(unet)
    plan, noise = DPMSolver().plan(6), draw(*SHAPE)
    whole = sample(in_interval(plan, (0, 999), guided, conditioned), plan, noise)
    none = sample(in_interval(plan, (2000, 3000), guided, conditioned), plan, noise)
    assert torch.equal(whole, sample(guided, plan, noise))
    assert torch.equal(none, sample(conditioned, plan, noise))
    assert relative(whole, none) > 1e-3


def test_both_together_reuse_the_conditional_half_and_refresh_for_guidance(unet):
    """Guided rows need two halves: leaving the interval keeps the conditional one, entering it computes anew."""
    guided, conditioned = both(unet)
    plan = DDIM().plan(8)
    order = [conditioned, conditioned, guided, guided, conditioned, conditioned, conditioned, guided]
    with Counting(unet) as widths:
        sample(order, plan, draw(*SHAPE), step=Steps().start(4))
    #        c c | g: anew, g c c reuse 3 | c anew, | g anew
    assert widths == [2, 4, 2, 4]


def test_one_denoiser_per_row(unet):
    guided, _ = both(unet)
    with pytest.raises(ValueError, match="got 3 denoisers for 4 rows, expected one per row"):
        iterate([guided] * 3, DDIM().plan(4), draw(*SHAPE))


def test_the_pipeline_takes_both(pipe: MusicLDMPipeline):
    call = {
        "prompt": "a",
        "audio_length_in_s": 0.64,
        "num_inference_steps": 6,
        "seed": 0,
        "output_type": "latent",
    }
    exact = pipe(**call).audios
    assert torch.equal(pipe(**call, guidance_interval=(0, 999), feature_reuse=1).audios, exact)
    assert relative(pipe(**call, guidance_interval=(0, 500)).audios, exact) > 1e-4
    assert relative(pipe(**call, feature_reuse=3).audios, exact) > 1e-4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"guidance_interval": 5},
            TypeError,
            r"guidance_interval: got 5, expected two timesteps such as \(100, 900\)",
        ),
        ({"guidance_interval": (9, 1)}, ValueError, "the lower first"),
        ({"guidance_interval": (0, float("nan"))}, ValueError, "finite"),
        ({"guidance_interval": ("a", "b")}, ValueError, "two finite timesteps"),
        ({"feature_reuse": 0}, ValueError, "feature_reuse: got 0, expected 1 or more"),
        ({"feature_reuse": 1.5}, TypeError, "feature_reuse: got 1.5, expected a whole number"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(pipe, change, error, message):
    with pytest.raises(error, match=message):
        pipe("a", **change)
