from __future__ import annotations

import pytest
import torch
from helpers import draw
from torch._dynamo.testing import CompileCounterWithBackend

from musicldm.sampling import Conditioned, Guided, denoise_step, draw_noise, iterate, sample
from musicldm.schedulers import DDIM
from musicldm.unet import UNet, UNetConfig

SHAPE = (2, 4, 8, 4)
EQUAL = 1e-5  # outputs of order 1, doubled batch, times a guidance of 3


def toy(x, timestep):
    return torch.tanh(x) * (1 + timestep / 1000)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1, cond_dim=12,
        norm_num_groups=4, norm_eps=1e-5, sample_size=8,
    )  # fmt: skip
    return UNet(config).eval()


def test_the_last_step_carries_the_sample():
    plan, noise = DDIM().plan(7), draw(*SHAPE)
    steps = list(iterate(toy, plan, noise))
    assert [step.row for step in steps] == list(range(7))
    assert [step.timestep for step in steps] == plan.timesteps.tolist()
    assert torch.equal(steps[-1].x, sample(toy, plan, noise))


def test_ddim_follows_its_paper():
    """Equation 12 with sigma = 0, by hand in float64."""
    plan, noise = DDIM().plan(5), draw(*SHAPE).double()
    squared = DDIM().noise_schedule.alphas_cumprod
    x = noise
    visited = [int(t) for t in plan.timesteps]
    for t, after in zip(visited, [*visited[1:], 0], strict=True):
        now, then = squared[t], squared[after]
        eps = toy(x, torch.tensor(t, dtype=torch.float64))
        x = then.sqrt() * (x - (1 - now).sqrt() * eps) / now.sqrt() + (1 - then).sqrt() * eps
    assert torch.allclose(sample(toy, plan, noise), x, rtol=1e-12)


def test_each_step_shows_the_sample_it_aims_at():
    """A denoiser that knows the answer: every preview is that answer."""
    answer = draw(*SHAPE, seed=1)
    squared = DDIM().noise_schedule.alphas_cumprod.float()

    def knows(x, timestep):
        now = squared[timestep.long()]
        return (x - now.sqrt() * answer) / (1 - now).sqrt()

    for step in iterate(knows, DDIM().plan(6), draw(*SHAPE)):
        assert (step.x0 - answer).abs().max() < 1e-4  # the first step divides by alpha = 0.02


def test_editing_x_in_place_edits_the_trajectory():
    plan, noise = DDIM().plan(4), draw(*SHAPE)
    for step in iterate(toy, plan, noise):
        step.x[:, :, 0] = 0
    assert (step.x[:, :, 0] == 0).all()
    assert not torch.equal(step.x, sample(toy, plan, noise))


def test_a_stochastic_plan_asks_for_its_noise():
    plan, noise = DDIM(eta=1.0).plan(4), draw(*SHAPE)
    with pytest.raises(ValueError, match=r"pass step_noise \(4, 2, 4, 8, 4\), or plan with eta = 0"):
        iterate(toy, plan, noise)
    given = draw(4, *SHAPE, seed=3)
    assert torch.equal(
        sample(toy, plan, noise, step_noise=given), sample(toy, plan, noise, step_noise=iter(given))
    )
    with pytest.raises(ValueError, match="expected \\(4, 2, 4, 8, 4\\)"):
        iterate(toy, plan, noise, step_noise=given[:3])
    with pytest.raises(ValueError, match="expected \\(b, c, t, f\\)"):
        iterate(toy, plan, noise[0])


def test_guidance_is_the_published_formula(unet):
    x, cond, uncond = draw(*SHAPE), draw(2, 12, seed=1), draw(2, 12, seed=2)
    t = torch.tensor(500.0)
    c, u = unet(x, t, cond), unet(x, t, uncond)
    assert (Guided(unet, cond, uncond, 3.0)(x, t) - (u + 3 * (c - u))).abs().max() < EQUAL
    assert (Guided(unet, cond, uncond, 1.0)(x, t) - Conditioned(unet, cond)(x, t)).abs().max() < EQUAL


def test_the_state_stays_float32_around_a_half_precision_network(unet):
    half = UNet(unet.config).bfloat16()
    half.load_state_dict(unet.state_dict())
    cond = draw(2, 12).bfloat16()
    for step in iterate(Guided(half, cond, -cond, 2.0), DDIM().plan(2), draw(*SHAPE)):
        assert step.x.dtype == step.x0.dtype == torch.float32


def test_gradients_flow_through_the_loop(unet):
    noise, cond = draw(*SHAPE).requires_grad_(), draw(2, 12).requires_grad_()
    *_, last = iterate(Guided(unet, cond, -cond, 2.0), DDIM().plan(3), noise)
    last.x.square().sum().backward()
    assert noise.grad.abs().sum() > 0
    assert cond.grad.abs().sum() > 0


def test_sample_keeps_no_gradients(unet):
    assert not sample(Conditioned(unet, draw(2, 12)), DDIM().plan(2), draw(*SHAPE)).requires_grad


def test_one_graph_serves_every_step_guidance_and_eta(unet):
    graphs = CompileCounterWithBackend("aot_eager")
    step = torch.compile(denoise_step, backend=graphs, fullgraph=True)
    for scale, eta in ((2.0, 0.0), (3.5, 1.0)):
        cond, noise, plan = draw(2, 12), draw(*SHAPE), DDIM(eta=eta).plan(20)
        given = draw(20, *SHAPE, seed=1)
        compiled = sample(Guided(unet, cond, -cond, scale), plan, noise, step_noise=given, step=step)
        eager = sample(Guided(unet, cond, -cond, scale), plan, noise, step_noise=given)
        assert (compiled - eager).abs().max() < 1e-5 * eager.abs().max()
    assert graphs.frame_count == 1


def test_noise_of_an_item_depends_on_its_own_generator_alone():
    def seeded(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    batch = draw_noise((3, 4, 8, 4), seeded(7, 8, 9))
    assert torch.equal(batch[1:2], draw_noise((1, 4, 8, 4), seeded(8)))
    assert torch.equal(draw_noise(SHAPE, *seeded(3)), torch.randn(SHAPE, generator=seeded(3)[0]))
    torch.manual_seed(5)
    expected = torch.randn(SHAPE)
    torch.manual_seed(5)
    assert torch.equal(draw_noise(SHAPE, None), expected)
