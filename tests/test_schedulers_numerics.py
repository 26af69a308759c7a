"""What the solvers compute, against theory: convergence, exactness, statistics. All in float64.

The problem is Gaussian data N(MEAN, SPREAD^2), whose noise prediction and whose solution are known in closed form: a
solution keeps its standard score. The model is told its noise level, which is minus the weight of its output in the
row's estimate of x0 (for noise prediction).
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from musicldm import schedulers
from musicldm.sampling import iterate
from musicldm.schedulers import (
    DDIM,
    LMS,
    PNDM,
    SOLVERS,
    DPMSolver,
    DPMSolverSinglestep,
    Euler,
    EulerAncestral,
    Heun,
    UniPC,
)
from musicldm.schedulers.dpm import _correction
from musicldm.schedulers.exponential import ALGORITHMS, Interval
from musicldm.schedulers.spacing import Grid

MEAN, SPREAD = 0.4, 0.5
TOTAL = 2560  # training timesteps: so many that 20 to 160 trailing steps divide them
SLOPE_TOLERANCE = 0.35  # short runs start in low order and have not reached their limit
GOLDENS = Path(__file__).parent / "goldens" / "schedulers.safetensors"
GOLDEN_TOLERANCE = 2e-5  # float32 on both sides, relative to the largest value of the step

every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)


def gaussian_model(levels, prediction_type="epsilon"):
    """A model that is told its noise level sigma / alpha by counting its calls."""
    remaining = iter(levels)

    def model(x, timestep):
        ratio = next(remaining)
        alpha = 1 / (1 + ratio**2) ** 0.5
        sigma = ratio * alpha
        eps = sigma * (x - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = (x - sigma * eps) / alpha
        return {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0}[prediction_type]

    return model


def levels_of(solver, steps):
    return (-replace(solver, prediction_type="epsilon").plan(steps).table[:, -1, -1]).tolist()


def run(solver, steps, noise, **arguments):
    model = gaussian_model(levels_of(solver, steps), solver.prediction_type)
    return [step.x for step in iterate(model, solver.plan(steps), noise, **arguments)]


def error_midway(solver, steps):
    """How far x is from the solution at the timestep nearest the middle, where no solver has begun to end."""
    start = torch.tensor([[[[0.9, -1.3]]]], dtype=torch.float64)
    plan, levels = solver.plan(steps), levels_of(solver, steps)
    visited = plan.timesteps.tolist()
    row = max(k for k, t in enumerate(visited) if t == min(visited, key=lambda t: abs(t - TOTAL // 2 + 1)))
    if isinstance(solver, DPMSolverSinglestep):
        row -= row % solver.solver_order
    scaled = plan.init_scale != 1  # x = x0 + sigma eps rather than alpha x0 + ...

    def score(x, level):
        return ((x if scaled else x * (1 + level**2) ** 0.5) - MEAN) / (SPREAD**2 + level**2) ** 0.5

    arrived = run(solver, steps, start)[row - 1]
    return float((score(arrived, levels[row]) - score(start * plan.init_scale, levels[0])).abs().max())


@pytest.mark.parametrize(
    ("solver", "settings", "order"),
    [
        (DDIM, {}, 1),
        (Euler, {}, 1),
        (DPMSolver, {"solver_order": 1}, 1),
        (DPMSolver, {"solver_order": 2}, 2),
        (DPMSolver, {"solver_order": 2, "solver_type": "heun"}, 2),
        (DPMSolver, {"solver_order": 2, "algorithm_type": "dpmsolver"}, 2),
        (DPMSolver, {"solver_order": 3}, 3),
        (DPMSolver, {"solver_order": 3, "algorithm_type": "dpmsolver"}, 3),
        (DPMSolverSinglestep, {"solver_order": 2}, 2),
        (DPMSolverSinglestep, {"solver_order": 3, "solver_type": "heun"}, 3),
        (Heun, {}, 2),
        (LMS, {}, 3.4),  # order 4 in the limit; it starts in order 1
        (UniPC, {"solver_order": 1}, 2),
        (UniPC, {"solver_order": 2}, 3),
        (UniPC, {"solver_order": 2, "solver_type": "bh1"}, 3),
        (UniPC, {"solver_order": 3}, 4),
        (PNDM, {}, 1.8),  # order 2 in the limit: its transfer is a second-order one
        (PNDM, {"skip_prk_steps": True, "prediction_type": "v_prediction"}, 1.8),  # Diffusers': order 1
    ],
    ids=str,
)
def test_order_of_convergence_is_the_published_one(solver, settings, order):
    schedule = {"num_train_timesteps": TOTAL, "beta_start": 0.0015 / 2.56, "beta_end": 0.0195 / 2.56}
    spacing = {} if solver is DPMSolverSinglestep else {"timestep_spacing": "trailing"}
    own = solver(**schedule, **spacing, **settings)
    counts = (48, 96, 192) if solver is DPMSolverSinglestep else (40, 80, 160)
    errors = [error_midway(own, steps) for steps in counts]
    slope = math.log2(errors[0] / errors[-1]) / 2
    assert abs(slope - order) < SLOPE_TOLERANCE, f"slope {slope:.2f}, errors {errors}"


@every_solver
def test_the_result_does_not_depend_on_what_the_model_predicts(solver):
    start = torch.tensor([[[[0.9, -1.3]]]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(solver().plan(10)), *start.shape, dtype=torch.float64, generator=generator)
    eps, v = (
        run(solver(prediction_type=kind), 10, start, step_noise=noise)[-1]
        for kind in ("epsilon", "v_prediction")
    )
    torch.testing.assert_close(eps, v, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_three_known_points_integrate_a_parabola_exactly(algorithm):
    """Against Gauss' rule on the integral that defines the step (2206.00927, eq. 3.4; 2211.01095, eq. 8, sec. 5)."""
    x, m2, m1, m0 = 0.3, 1.1, -0.4, 0.8
    sigmas = [5.0, 3.2, 2.1, 1.3]
    places = [-math.log(s) for s in sigmas]

    def parabola(place):
        return sum(
            m * math.prod((place - q) / (p - q) for q in places[:3] if q != p)
            for m, p in zip((m2, m1, m0), places[:3], strict=True)
        )

    start, end = places[2], places[3]
    alpha_s, alpha_t = (1 / (1 + s**2) ** 0.5 for s in sigmas[2:])
    sigma_s, sigma_t = sigmas[2] * alpha_s, sigmas[3] * alpha_t
    grid = [start + (end - start) * (k + 0.5) / 20000 for k in range(20000)]
    width = (end - start) / 20000
    integral = {
        "dpmsolver": lambda: (
            alpha_t / alpha_s * x - alpha_t * sum(math.exp(-p) * parabola(p) for p in grid) * width
        ),
        "sde-dpmsolver": lambda: (
            alpha_t / alpha_s * x - 2 * alpha_t * sum(math.exp(-p) * parabola(p) for p in grid) * width
        ),
        "dpmsolver++": lambda: (
            sigma_t / sigma_s * x + sigma_t * sum(math.exp(p) * parabola(p) for p in grid) * width
        ),
        "sde-dpmsolver++": lambda: (
            sigma_t / sigma_s * math.exp(start - end) * x
            + sigma_t * math.exp(-end) * 2 * sum(math.exp(2 * p) * parabola(p) for p in grid) * width
        ),
    }[algorithm]()
    interval = Interval(sigmas[2], sigmas[3], algorithm)
    known = [torch.tensor(m, dtype=torch.float64) for m in (m0, m1, m2)]
    got, _ = interval.step(torch.tensor(x), known[0], _correction(interval, sigmas[2::-1], known, "heun"))
    assert math.isclose(float(got), integral, rel_tol=1e-6)


STOCHASTIC = [
    DDIM(eta=1.0, set_alpha_to_one=True),
    DDIM(eta=0.5, set_alpha_to_one=True),
    EulerAncestral(),
    DPMSolver(algorithm_type="sde-dpmsolver++"),
    DPMSolver(algorithm_type="sde-dpmsolver++", solver_order=3),
    DPMSolver(algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min"),
    DPMSolverSinglestep(algorithm_type="sde-dpmsolver++"),
]


def moments(solver, steps):
    """On Gaussian data every step is affine: mean and variance are carried exactly, without sampling."""
    plan, levels = solver.plan(steps), levels_of(solver, steps)
    width = plan.table.shape[1] - 1
    mean, covariance = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    covariance[0, 0] = plan.init_scale**2
    for row, level in zip(plan.rows(), levels, strict=True):
        alpha = 1 / (1 + level**2) ** 0.5
        gain = level * alpha / (alpha**2 * SPREAD**2 + (level * alpha) ** 2)
        moved = row.table[:-1, :-1].clone()
        moved[:, 0] += row.table[:-1, -1] * gain * row.input_scale
        mean = moved @ mean - row.table[:-1, -1] * gain * alpha * MEAN
        covariance = moved @ covariance @ moved.T
        covariance[0, 0] += row.noise_std**2
    assert plan.stochastic
    return float(mean[0]), float(covariance[0, 0])


@pytest.mark.parametrize("solver", STOCHASTIC, ids=str)
def test_stochastic_solvers_converge_to_the_datas_mean_and_variance(solver):
    wrong = [abs(moments(solver, steps)[1] / SPREAD**2 - 1) for steps in (250, 1000)]
    assert abs(moments(solver, 1000)[0] - MEAN) < 1e-3  # the start is N(0, 1), not quite the noised data
    assert wrong[1] < 0.05  # first order in the step; 1,000 is all there are
    assert wrong[1] < 0.6 * wrong[0]


@pytest.mark.parametrize("solver", STOCHASTIC, ids=str)
def test_the_same_step_noise_gives_the_same_result(solver):
    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(11, 1, 2, 2, 2, generator=generator)
        return run(solver, 10, noise[0], step_noise=noise[1:])[-1]

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


@pytest.mark.parametrize("solver", [DPMSolver, DPMSolverSinglestep, UniPC, Euler], ids=lambda s: s.__name__)
def test_a_last_step_of_no_length_is_finite_and_stays_where_it_is(solver):
    """Karras sigmas end at sigma_min; with `final_sigmas_type` sigma_min the last step stays there."""
    own = solver(use_karras_sigmas=True, final_sigmas_type="sigma_min")
    if solver is Euler:
        own = replace(own, timestep_spacing="linspace")
    else:
        own = replace(own, solver_order=3, lower_order_final=False)
    last = own.plan(9).table[-1, 0]
    assert torch.isfinite(last).all()
    if solver in (DPMSolver, Euler):  # the others' last rows also finish what the row before began
        torch.testing.assert_close(last, torch.eye(7, dtype=torch.float64)[0])


def test_grids_pair_every_evaluation_with_where_it_leads():
    assert list(Grid([3.0, 1.0], [9.0, 4.0, 0.0]).intervals()) == [(3.0, 9.0, 4.0), (1.0, 4.0, 0.0)]


def golden_model(x, timestep):
    return 0.7 * torch.tanh(0.9 * x.roll(1, -1) + 0.4 * torch.cos(0.004 * timestep.to(x.dtype))) + 0.2 * x


def golden_cases():
    with safe_open(GOLDENS, "pt") as file:
        return json.loads(file.metadata()["cases"])


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case["name"])
def test_trajectories_equal_the_stored_ones_of_diffusers(case):
    tensors = load_file(GOLDENS)
    solver = schedulers.from_config(case["config"])
    plan = solver.plan(case["steps"])
    timesteps, expected = tensors[f"{case['name']}/timesteps"], tensors[f"{case['name']}/trajectory"]
    torch.testing.assert_close(plan.timesteps.float(), timesteps, rtol=1e-5, atol=2e-3)
    noise = tensors["step_noise"][: len(plan)]
    got = torch.stack([step.x for step in iterate(golden_model, plan, tensors["noise"], step_noise=noise)])
    scale = expected.flatten(1).abs().amax(1)
    assert ((got - expected).flatten(1).abs().amax(1) / scale).max() < GOLDEN_TOLERANCE
    wrong = torch.stack([s.x for s in iterate(lambda x, t: golden_model(x, t + 1), plan, tensors["noise"],
                                              step_noise=noise)])  # fmt: skip
    assert ((wrong - expected).flatten(1).abs().amax(1) / scale).max() > GOLDEN_TOLERANCE
