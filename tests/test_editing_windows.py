"""Windows on long clips: the layout, the blend, and what of a plain run must stay."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import draw, relative
from torch._dynamo.testing import CompileCounterWithBackend

from musicldm.approximations import DeepReuse, Steps, in_interval, step_keeping, step_reusing
from musicldm.editing.windows import Through, Windowed, cover
from musicldm.sampling import Conditioned, Guided, draw_noise, sample
from musicldm.schedulers import DDIM, DPMSolver, EulerAncestral, Heun, UniPC
from musicldm.unet import UNet, UNetConfig

SIZE = 16
ITEM = 1e-5  # of one item alone and in a batch: the same sums in another order, outputs of order 1


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1, cond_dim=12,
        norm_num_groups=4, norm_eps=1e-5, sample_size=SIZE,
    )  # fmt: skip
    return UNet(config).eval()


def guided(unet, layout, batch=2, at_once=1, seed=5):
    """Windows, each under its own condition; (n, b, d) conditions come from one draw, item after item."""
    conds = torch.stack([draw(len(layout), 12, seed=seed + item) for item in range(batch)], dim=1)
    groups = conds.split(at_once)
    return Windowed(layout, [Guided(unet, c.flatten(0, 1), -c.flatten(0, 1), 2.0) for c in groups], at_once)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 40, 97])
@pytest.mark.parametrize("overlap", [0, 1, 5, 8, 13])
@pytest.mark.parametrize("loop", [False, True])
def test_windows_cover_the_clip_and_weights_sum_to_one(rows, overlap, loop):
    layout = cover(rows, SIZE, overlap, loop=loop)
    total = torch.zeros(rows, dtype=torch.float64)
    total.index_add_(0, layout.indices().flatten(), layout.weights().flatten())
    assert (total - 1).abs().max() < 1e-12
    assert (layout.weights() > 0).all()
    if rows > SIZE:
        starts = [*layout.starts, *([layout.starts[0] + rows] if loop else [])]
        assert all(b - a <= SIZE - overlap for a, b in zip(sorted(starts), sorted(starts)[1:], strict=False))
    if not loop:
        assert layout.starts[0] == 0
        assert layout.starts[-1] + layout.size == rows
        assert (layout.indices().diff(dim=1) == 1).all()


def test_no_more_windows_than_needed():
    assert len(cover(16, 16, 8)) == 1
    assert len(cover(17, 16, 8)) == 2
    assert len(cover(24, 16, 8)) == 2
    assert len(cover(25, 16, 8)) == 3
    assert len(cover(24, 16, 8, loop=True)) == 3


def test_weights_rise_without_a_step_and_stay_at_the_ends():
    first, middle, last = cover(40, 16, 4).weights()
    assert first[0] == 1
    assert last[-1] == 1
    assert (middle[4:-4] == 1).all()
    assert (middle[:4].diff() > 0).all()
    assert torch.allclose(middle[:4] + first[-4:], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("plan", [DDIM().plan(4), DPMSolver().plan(4), UniPC().plan(3), Heun().plan(3)])
def test_one_window_is_the_plain_run_bit_for_bit(unet, plan):
    cond, noise = draw(2, 12), draw(2, 4, SIZE, 4)
    plain = Guided(unet, cond, -cond, 2.0)
    expected = sample(plain, plan, noise)
    assert torch.equal(sample(Windowed(cover(SIZE, SIZE, 8), [plain]), plan, noise), expected)
    short = noise[:, :, :11]
    got = sample(Windowed(cover(11, SIZE, 8), [plain]), plan, short)
    assert torch.equal(got, sample(plain, plan, short))


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("rows", [9, 50])
def test_a_denoiser_that_sees_one_row_at_a_time_is_not_changed_by_windows(rows, loop):
    """Constant, and local: whatever the windows, blending equal values gives them back."""
    x = draw(2, 4, rows, 4).double()
    layout = cover(rows, SIZE, 6, loop=loop)
    constant = Windowed(layout, [lambda x, t: torch.full_like(x, 3.0)] * len(layout))
    assert (constant(x, torch.tensor(1.0)) - 3).abs().max() < 1e-12
    local = Windowed(layout, [lambda x, t: torch.tanh(x) * t] * len(layout))
    assert torch.allclose(local(x, torch.tensor(2.0)), 2 * torch.tanh(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("at_once", [1, 2, 5, 9])
def test_groups_only_change_how_many_windows_are_in_memory(unet, at_once):
    layout = cover(50, SIZE, 8)
    seen = []
    handle = unet.register_forward_pre_hook(lambda m, args: seen.append(tuple(args[0].shape)))
    with torch.no_grad():
        x = draw(2, 4, 50, 4)
        got = guided(unet, layout, at_once=at_once)(x, torch.tensor(300))
        handle.remove()
        assert relative(got, guided(unet, layout)(x, torch.tensor(300))) < ITEM
    assert max(shape[0] for shape in seen) <= 2 * 2 * at_once
    assert {shape[1:] for shape in seen} == {(4, SIZE, 4)}


def test_the_network_never_sees_more_than_a_window_however_long_the_clip(unet):
    sizes = []
    handle = unet.register_forward_pre_hook(lambda m, args: sizes.append(args[0].numel()))
    for rows in (40, 120):
        layout = cover(rows, SIZE, 8)
        with torch.no_grad():
            guided(unet, layout, batch=1)(draw(1, 4, rows, 4), torch.tensor(300))
    handle.remove()
    assert set(sizes) == {2 * 4 * SIZE * 4}


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("loop", [False, True])
def test_an_item_of_a_batch_is_the_item_alone(unet, at_once, loop):
    layout, plan = cover(25, SIZE, 8, loop=loop), DDIM(eta=1.0).plan(2)
    seeds = [torch.Generator().manual_seed(k) for k in range(3)]
    noise = draw_noise((3, 4, 25, 4), seeds)
    steps = [draw_noise((3, 4, 25, 4), seeds) for _ in range(2)]
    together = sample(guided(unet, layout, 3, at_once), plan, noise, step_noise=steps)
    for k in range(3):
        seed = torch.Generator().manual_seed(k)
        alone = draw_noise((1, 4, 25, 4), [seed])
        assert torch.equal(alone[0], noise[k])
        steps = [draw_noise((1, 4, 25, 4), [seed]) for _ in range(2)]
        got = sample(guided(unet, layout, 1, at_once, seed=5 + k), plan, alone, step_noise=steps)
        assert relative(got[0], together[k]) < ITEM
        wrong = sample(guided(unet, layout, 1, at_once, seed=5 + (k + 1) % 3), plan, alone, step_noise=steps)
        assert relative(wrong[0], together[k]) > 100 * ITEM


def test_a_window_has_its_own_condition(unet):
    """Another condition for the last window changes the rows that it covers and no others, at one evaluation."""
    layout, x = cover(40, SIZE, 4), draw(1, 4, 40, 4)
    conds = draw(3, 1, 12)
    other = conds.clone()
    other[-1] = draw(1, 12, seed=9)
    with torch.no_grad():
        one, two = (
            Windowed(layout, [Conditioned(unet, c) for c in each])(x, torch.tensor(500))
            for each in (conds, other)
        )
    changed = (one != two)[0].any(dim=0).any(dim=1)
    assert not changed[: layout.starts[-1]].any()
    assert changed[layout.starts[-1] :].all()


@pytest.mark.parametrize("rows", [12, 16, 48])
def test_a_rotated_loop_is_the_same_loop(unet, rows):
    """Rotated by one window's distance, windows fall on the same rows: nothing knows where the loop begins."""
    layout = cover(rows, SIZE, 4, loop=True)
    hop = layout.starts[1] - layout.starts[0]
    assert rows % hop == 0
    conditioned = [Conditioned(unet, draw(1, 12))] * len(layout)
    noise, plan = draw(1, 4, rows, 4), DDIM().plan(4)
    turned = sample(Windowed(layout, conditioned), plan, noise.roll(hop, dims=2))
    straight = sample(Windowed(layout, conditioned), plan, noise)
    assert relative(turned, straight.roll(hop, dims=2)) < ITEM
    if rows == 48:
        ends = cover(rows, SIZE, 4)
        denoiser = Windowed(ends, [conditioned[0]] * len(ends))
        turned = sample(denoiser, plan, noise.roll(hop, dims=2))
        assert relative(turned, sample(denoiser, plan, noise).roll(hop, dims=2)) > 1e-3


# --- exact statistics: data whose best denoiser is known ---

LONG, REACH = 100, 6.0  # rows of the clip; of the correlation


def gaussian(n: int):
    """The exact noise prediction for x0 ~ N(0, K), K = exp(-distance / REACH), at n rows."""
    rows = torch.arange(n, dtype=torch.float64)
    spread, basis = torch.linalg.eigh(torch.exp(-(rows[:, None] - rows).abs() / REACH))
    squared = DDIM().noise_schedule.alphas_cumprod

    def denoiser(x, timestep):
        now = squared[int(timestep)]
        gain = (1 - now).sqrt() / (now * spread + 1 - now)
        return torch.einsum("ij,bcjf->bcif", (basis * gain) @ basis.T, x)

    return denoiser


def correlation_error(denoisers) -> float:
    """Largest error of the correlation of neighbours, against sampling the clip whole.

    Everything is linear: what comes of the unit vectors is the whole distribution, without any drawing.
    """
    unit = torch.eye(LONG, dtype=torch.float64)[:, None, :, None]
    plan = DDIM(set_alpha_to_one=True).plan(20)
    found = []
    for each in (denoisers, gaussian(LONG)):
        out = sample(each, plan, unit)[:, 0, :, 0]
        covariance = out.T @ out
        spread = covariance.diagonal().sqrt()
        found.append((covariance / spread / spread[:, None]).diagonal(1))
    return (found[0] - found[1]).abs().max().item()


def test_overlap_keeps_the_correlation_across_seams():
    """Windows side by side forget each other; overlapping ones do not, the less the more they overlap."""
    size, errors = 24, {}
    for overlap in (0, 6, 12):  # found: 0.111, 0.0091, 0.0049
        layout = cover(LONG, size, overlap)
        errors[overlap] = correlation_error(Windowed(layout, [gaussian(size)] * len(layout)))
    assert errors[0] > 0.1
    assert errors[6] < 0.03
    assert errors[12] < 0.7 * errors[6]


# --- what composes and what is refused ---


def test_every_solver_takes_windows(unet):
    layout, noise = cover(40, SIZE, 8), draw(1, 4, 40, 4)
    for solver in (DPMSolver(), UniPC(), EulerAncestral()):
        plan = solver.plan(3)
        extra = [draw(1, 4, 40, 4, seed=k) for k in range(3)] if plan.stochastic else None
        assert torch.isfinite(sample(guided(unet, layout, 1), plan, noise, step_noise=extra)).all()


def test_guidance_in_an_interval_takes_windows(unet):
    layout, noise, plan = cover(24, SIZE, 8), draw(1, 4, 24, 4), DDIM().plan(3)
    inside = guided(unet, layout, 1)
    outside = Windowed(layout, [Conditioned(unet, each.conds[1:]) for each in inside.denoisers])
    whole = sample(in_interval(plan, (0, 999), inside, outside), plan, noise)
    none = sample(in_interval(plan, (2000, 3000), inside, outside), plan, noise)
    assert torch.equal(whole, sample(inside, plan, noise))
    assert torch.equal(none, sample(outside, plan, noise))
    assert relative(whole, none) > 1e-3


def test_a_step_for_each_window_is_exact_and_reuses_each_windows_own_features(unet):
    layout, noise, plan = cover(24, SIZE, 8), draw(1, 4, 24, 4), DDIM().plan(4)
    plain = guided(unet, layout, 1)
    exact = sample(plain, plan, noise)

    def through(every):
        return Windowed(layout, [Through(each, Steps().start(every)) for each in plain.denoisers])

    assert torch.equal(sample(through(1), plan, noise), exact)
    seen = []
    handle = unet.mid.register_forward_hook(lambda m, args, out: seen.append(1))
    reused = sample(through(2), plan, noise)
    handle.remove()
    assert len(seen) == len(layout) * 2
    assert 1e-6 < relative(reused, exact) < 0.5

    shared = Steps().start(2)  # one step for all windows would give one window's features to another
    wrong = Windowed(layout, [Through(each, shared) for each in plain.denoisers])
    assert relative(sample(wrong, plan, noise), exact) > relative(reused, exact)


def test_a_compiled_step_is_one_graph_for_all_windows_and_lengths():
    """The graph is counted, not lowered; a network of one line takes less tracing than a U-Net."""

    def network(x, timestep, cond):
        return torch.tanh(x * timestep) + cond[:, :4, None, None]

    counter = CompileCounterWithBackend("eager")
    step, plain = Steps().compiled(backend=counter).start(1), Conditioned(network, draw(1, 12))
    for rows in (24, 40):
        layout, x, t = cover(rows, SIZE, 8), draw(1, 4, rows, 4), torch.tensor(300.0)
        compiled = Windowed(layout, [Through(plain, step)] * len(layout))(x, t)
        assert relative(compiled, Windowed(layout, [plain] * len(layout))(x, t)) < ITEM
    assert counter.frame_count == 1


def test_reuse_of_features_across_windows_is_refused(unet):
    layout = cover(40, SIZE, 8)
    step = DeepReuse(2, step_keeping, step_reusing)
    with pytest.raises(TypeError, match=r"got Windowed.*each window through its own step"):
        sample(guided(unet, layout, 1), DDIM().plan(3), draw(1, 4, 40, 4), step=step)


def test_what_does_not_fit_is_an_error(unet):
    with pytest.raises(ValueError, match="overlap of 16 on a clip of 40"):
        cover(40, 16, 16)
    layout = cover(40, SIZE, 8)
    with pytest.raises(ValueError, match="got 1 denoisers for 4 windows in groups of 2, expected 2"):
        Windowed(layout, [gaussian(4)], at_once=2)
    with pytest.raises(ValueError, match="got latents of 41 rows, the windows are laid out on 40"):
        guided(unet, layout, 1)(draw(1, 4, 41, 4), torch.tensor(1))


def test_gradients_flow_through_the_blend():
    layout = cover(30, SIZE, 6)
    denoiser = Windowed(layout, [lambda x, t: x.cumsum(2).tanh()] * len(layout))
    x = draw(1, 1, 30, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: denoiser(x, torch.tensor(1.0)), x)


def test_centres_are_rows_of_the_clip():
    assert cover(40, 16, 4).centres == [8, 20, 32]
    assert all(math.isfinite(c) and 0 <= c < 12 for c in cover(12, 16, 4, loop=True).centres)
