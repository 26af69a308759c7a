"""What the solvers visit and where they start: timesteps, start scales, the noise schedule, the printed plan."""

import dataclasses
import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicldm.sampling import iterate
from musicldm.schedulers import (
    DDIM,
    LMS,
    PNDM,
    SOLVERS,
    DPMSolver,
    Euler,
    EulerAncestral,
    Heun,
    InverseDDIM,
    NoiseSchedule,
    UniPC,
)

SIGMA_SPACE = (Euler, EulerAncestral, LMS, Heun)
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)

# --- timesteps ---


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 1000), st.sampled_from(["leading", "trailing", "linspace"]), st.integers(0, 30))
def test_timesteps_are_distinct_descending_and_inside_the_table(steps, spacing, offset):
    for solver in (DDIM, DPMSolver, Euler):
        visited = solver(timestep_spacing=spacing, steps_offset=offset).plan(steps).timesteps
        assert len(visited) == steps
        assert (visited.diff() < 0).all()
        assert 0 <= visited[-1] <= visited[0] <= 999


@every_solver
def test_a_thousand_steps_visit_every_timestep_and_stay_finite(solver):
    plan = solver(skip_prk_steps=True).plan(1000) if solver is PNDM else solver().plan(1000)
    assert sorted(set(plan.timesteps.tolist())) == list(range(1000))
    noise = torch.randn(len(plan), 1, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    *_, last = iterate(lambda x, timestep: 0.5 * x.tanh(), plan, noise[0], step_noise=noise)
    assert torch.isfinite(last.x).all()


@pytest.mark.parametrize("steps", [334, 390, 501, 667])
def test_leading_spacing_never_starts_at_half_noise(steps):
    assert DDIM().plan(steps).timesteps[0] > 990
    assert DPMSolver().plan(steps).timesteps[0] > 990


@pytest.mark.parametrize("solver", [DDIM, *SIGMA_SPACE], ids=lambda solver: solver.__name__)
def test_one_step_of_linspace_starts_from_noise_not_from_data(solver):
    assert solver(timestep_spacing="linspace").plan(1).timesteps.tolist() == [999]


@pytest.mark.parametrize("steps", [61, 103, 206])
def test_trailing_spacing_has_no_extra_step_to_timestep_minus_one(steps):
    visited = Euler(timestep_spacing="trailing").plan(steps).timesteps
    assert len(visited) == steps
    assert visited.min() >= 0


def test_the_offset_gives_way_where_it_would_leave_the_table():
    assert DPMSolver(timestep_spacing="leading", steps_offset=1).plan(999).timesteps[0] == 999


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_steps_through_its_own_list(spacing):
    solver = DDIM(timestep_spacing=spacing, prediction_type="sample")
    plan, squared = solver.plan(30), solver.noise_schedule.alphas_cumprod
    for row, following in zip(plan.table[:-1], plan.timesteps[1:], strict=True):
        # x' = sigma' / sigma x + ...: the level that the row goes to is that of the next timestep
        x, out = row[0, 0], row[0, -1]
        alpha, sigma = squared[int(following)].sqrt(), (1 - squared[int(following)]).sqrt()
        at = plan.timesteps[list(plan.timesteps[1:]).index(following)]
        now_alpha, now_sigma = squared[int(at)].sqrt(), (1 - squared[int(at)]).sqrt()
        assert math.isclose(float(x), float(sigma / now_sigma), rel_tol=1e-9)
        assert math.isclose(
            float(out), float(alpha - sigma / now_sigma * now_alpha), rel_tol=1e-9, abs_tol=1e-12
        )


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_pndm_with_runge_kutta_steps_runs_below_four_steps(steps):
    assert len(PNDM().plan(steps)) == 3 * (steps - 1) + steps


def test_pndm_evaluates_where_its_runge_kutta_stage_went():
    plan, squared = PNDM().plan(30), PNDM().noise_schedule.alphas_cumprod  # an odd stride
    for k in range(1, 12):  # the row before arrives at the level of the timestep that this row is told
        carried = plan.table[k - 1, 0, :-1].sum()  # its share of the base point
        base = squared[int(plan.timesteps[k // 4 * 4 if k % 4 else k - 4])]
        assert math.isclose(
            float(carried), float((squared[int(plan.timesteps[k])] / base).sqrt()), rel_tol=1e-9
        ) or (
            k % 4 == 0  # the step's end also mixes in the eps of its stages
        )


# --- start scales ---


@pytest.mark.parametrize("solver", SIGMA_SPACE, ids=lambda solver: solver.__name__)
@pytest.mark.parametrize("spacing", ["linspace", "trailing", "leading"])
def test_sigma_space_starts_at_the_scale_of_the_references(solver, spacing):
    own = solver(timestep_spacing=spacing)
    plan = own.plan(10)
    squared = own.noise_schedule.alphas_cumprod[int(plan.timesteps[0])]
    sigma = float(((1 - squared) / squared).sqrt())
    expected = math.sqrt(sigma**2 + 1) if spacing == "leading" else sigma
    assert math.isclose(plan.init_scale, expected, rel_tol=1e-12)


@pytest.mark.parametrize("solver", [s for s in SOLVERS if s not in SIGMA_SPACE], ids=lambda s: s.__name__)
def test_variance_preserving_solvers_start_at_scale_one(solver):
    assert solver().plan(10).init_scale == 1


# --- the noise schedule ---


def test_add_noise_velocity_and_snr_follow_their_definitions():
    schedule, timesteps = NoiseSchedule(), torch.tensor([0, 500, 999])
    x0, noise = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    squared = schedule.alphas_cumprod[timesteps][:, None, None, None]
    noisy, velocity = schedule.add_noise(x0, noise, timesteps), schedule.velocity(x0, noise, timesteps)
    torch.testing.assert_close(noisy, squared.sqrt() * x0 + (1 - squared).sqrt() * noise)
    torch.testing.assert_close(velocity, squared.sqrt() * noise - (1 - squared).sqrt() * x0)
    torch.testing.assert_close(squared.sqrt() * noisy - (1 - squared).sqrt() * velocity, x0)
    torch.testing.assert_close(schedule.snr(timesteps), (squared / (1 - squared)).flatten().float())
    assert schedule.add_noise(x0.half(), noise.half(), timesteps).dtype == torch.float16


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("rescale", [False, True])
def test_noise_schedules_fall_from_signal_to_noise(name, rescale):
    squared = NoiseSchedule(beta_schedule=name, rescale_betas_zero_snr=rescale).alphas_cumprod
    assert (squared.diff() < 0).all()
    assert 0.99 < squared[0] < 1
    assert squared[-1] == 0 if rescale else squared[-1] > 0


# --- plans ---


def test_a_plan_prints_as_a_table():
    lines = str(UniPC().plan(3)).splitlines()
    assert len(lines) == 2 + 3
    assert lines[0].startswith("UniPC (bh2, order 2): 3 evaluations, first x = 1 * noise")
    assert "noise" in str(EulerAncestral().plan(3)).splitlines()[2]
    assert "751.00" in lines[2]


@every_solver
def test_solvers_are_short_and_hashable_values(solver):
    assert len(inspect.getsource(solver).splitlines()) <= 60
    assert hash(solver()) == hash(solver())
    assert solver() != dataclasses.replace(solver(), beta_end=0.02)


def test_inverse_ddim_leads_back_where_the_model_does_not_depend_on_x():
    def flow(x, timestep):
        return torch.sin(timestep / 100) * torch.ones_like(x)

    latents = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for spacing in ("leading", "trailing", "linspace"):
        *_, noisy = iterate(flow, InverseDDIM(timestep_spacing=spacing).plan(30), latents)
        *_, back = iterate(flow, DDIM(timestep_spacing=spacing).plan(30), noisy.x)
        torch.testing.assert_close(back.x, latents, rtol=0, atol=1e-12)
        assert (noisy.x - latents).abs().max() > 0.1
