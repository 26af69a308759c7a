"""Where a plan's rows stand between data and noise, and plans for what is left of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import draw

from musicldm.sampling import sample
from musicldm.schedulers import (
    DDIM,
    LMS,
    PNDM,
    DPMSolver,
    DPMSolverSinglestep,
    Euler,
    EulerAncestral,
    Heun,
    InverseDDIM,
    Scheduler,
    UniPC,
)

EXACT = 1e-4  # float32 state, up to 12 steps, values of order one
SOLVERS: dict[str, Scheduler] = {
    "ddim": DDIM(),
    "ddim eta": DDIM(eta=1.0),
    "ddim to one": DDIM(set_alpha_to_one=True, timestep_spacing="trailing"),
    "dpm 2": DPMSolver(),
    "dpm 3": DPMSolver(solver_order=3, use_karras_sigmas=True),
    "dpm noise form": DPMSolver(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
    "dpm sde": DPMSolver(algorithm_type="sde-dpmsolver++"),
    "singlestep 2": DPMSolverSinglestep(),
    "singlestep 3": DPMSolverSinglestep(solver_order=3, solver_type="heun"),
    "pndm": PNDM(),
    "pndm skip": PNDM(skip_prk_steps=True),
    "lms": LMS(),
    "euler": Euler(),
    "euler linspace": Euler(timestep_spacing="linspace", use_karras_sigmas=True),
    "ancestral": EulerAncestral(),
    "heun": Heun(),
    "unipc": UniPC(),
    "unipc 3": UniPC(solver_order=3, predict_x0=False),
    "zero snr": DDIM(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
    ),
}
X0, NOISE = draw(1, 2, 4, 4), draw(1, 2, 4, 4, seed=1)


class Oracle:
    """A model that knows the clip: it answers as if x were that clip under noise, whatever the noise is."""

    def __init__(self, solver: Scheduler, plan) -> None:
        self.kind = solver.prediction_type
        self.levels = iter((plan.levels * plan.input_scale[:, None]).tolist())
        self.seen = []

    def __call__(self, x, timestep):
        alpha, sigma = next(self.levels)
        self.seen.append((x, alpha, sigma))
        eps = (x - alpha * X0) / sigma
        return eps if self.kind == "epsilon" else alpha * eps - sigma * X0


@pytest.mark.parametrize("skip", [0, 1, 5, 9, 11])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_from_any_of_its_levels_leads_to_the_clip(name, skip):
    """With a perfect model every solver ends at the clip, if levels, timesteps and history fit together."""
    solver = SOLVERS[name]
    plan = solver.plan(12, skip=skip)
    extra = draw(len(plan), 1, 2, 4, 4, seed=2) if plan.stochastic else None
    model = Oracle(solver, plan)
    found = sample(model, plan.from_latents(), plan.noised(X0, NOISE), step_noise=extra)
    left = (found - X0).abs().max()
    final = solver.noise_schedule.alphas_cumprod[0] if left > EXACT else 1.0  # runs that end at timestep 0
    assert left <= EXACT + 4 * float(1 - final) ** 0.5
    if not plan.stochastic:  # x keeps to the one path that has the starting noise
        for x, alpha, sigma in model.seen:
            assert (x - alpha * X0 - sigma * NOISE).abs().max() < EXACT * 10


def test_control_a_wrong_level_does_not_lead_there():
    plan = DDIM().plan(12, skip=5)
    wrong = replace(plan, levels=plan.levels.roll(-1, 0))
    found = sample(Oracle(DDIM(), wrong), plan.from_latents(), plan.noised(X0, NOISE))
    assert (found - X0).abs().max() > 100 * EXACT


@pytest.mark.parametrize("name", SOLVERS)
def test_levels_are_variance_preserving_once_scaled_and_fall(name):
    plan = SOLVERS[name].plan(12)
    scaled = plan.levels * plan.input_scale[:, None]
    assert torch.allclose(scaled.square().sum(dim=1), torch.ones(len(plan), dtype=torch.float64))
    assert (scaled[1:, 1] <= scaled[:-1, 1]).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_left_visits_the_same_levels(name):
    """Singlestep, PNDM and Heun group their evaluations anew; the solver steps' levels are the same."""
    whole, rest = SOLVERS[name].plan(12), SOLVERS[name].plan(12, skip=7)
    assert rest.levels[0].tolist() in whole.levels.tolist()
    assert rest.timesteps[0] in whole.timesteps
    assert torch.equal(rest.levels[-1], whole.levels[-1])
    assert len(rest) < len(whole)


def test_a_model_that_is_no_oracle_sees_its_noise_level():
    """In DDIM's own words: the level is that of the timestep."""
    plan = DDIM().plan(10)
    squared = DDIM().noise_schedule.alphas_cumprod[plan.timesteps.long()]
    assert torch.allclose(plan.levels, torch.stack([squared.sqrt(), (1 - squared).sqrt()], dim=1))


def test_inversion_of_what_is_left_ends_where_sampling_of_it_begins():
    there, back = InverseDDIM().plan(10, skip=4), DDIM().plan(10, skip=4)
    assert there.timesteps[-1] == back.timesteps[0]
    assert there.timesteps.flip(0).tolist() == back.timesteps.tolist()


@pytest.mark.parametrize("skip", [-1, 10, 11])
def test_a_skip_that_leaves_nothing_is_an_error(skip):
    with pytest.raises(ValueError, match=f"DDIM: got skip {skip} of 10 steps, expected 0 to 9"):
        DDIM().plan(10, skip=skip)
