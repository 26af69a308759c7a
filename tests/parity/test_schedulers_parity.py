"""Our solvers against Diffusers 0.33.1, every step of the trajectory.

The denoiser is fixed, nonlinear and smooth; noise is given. Where Diffusers' float32 is itself further from its own
algorithm than the tolerance, its code is run again in float64 and ours must be the closer one. Where Diffusers is
wrong, the oracle is another part of Diffusers that is right; `test_schedulers.py` has a test of ours for each.
"""

import importlib
import itertools
import json
from dataclasses import replace

import diffusers.schedulers
import pytest
import torch
from diffusers.utils import logging

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
    InverseDDIM,
    UniPC,
    hub,
)

TOLERANCE = 2e-5  # relative to the largest value of the step: float32 in both, up to 1,000 steps
DOUBLE_TOLERANCE = 1e-9  # both in float64: only the order of operations differs
STEPS = (1, 2, 3, 5, 7, 10, 20, 25, 30, 33, 50, 100, 150, 200, 300, 999)
TIMESTEP_TOLERANCE = 2e-3  # of one timestep: Diffusers finds those of Karras sigmas in float32 logarithms
FEW = (1, 3, 5, 14, 15)  # for the variants; 15 is where `lower_order_final` stops
SPACINGS = ("leading", "trailing", "linspace")
SIGMA_SPACE = (LMS, Euler, EulerAncestral, Heun)

# Diffusers' own: numpy 2 on its tables, and algorithms that it calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

generator = torch.Generator().manual_seed(7)
NOISE = torch.randn(1, 2, 2, 3, generator=generator)
STEP_NOISE = torch.randn(2100, 1, 2, 2, 3, generator=generator)


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.set_verbosity(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors
    yield
    torch.set_num_threads(threads)


def denoiser(x, timestep):
    time = torch.as_tensor(timestep).to(x.dtype)
    return 0.7 * torch.tanh(0.9 * x.roll(1, -1) + 0.4 * torch.cos(0.004 * time)) + 0.2 * x


class Double:
    """A module whose float32 is float64: Diffusers' own code, without its rounding."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, "float64" if name == "float32" else name)


def gauss(function, start, end, **_):
    """Two points, exact for the cubics of LMS. Stands in for scipy's adaptive rule in long runs: 20 times faster."""
    middle, half = (start + end) / 2, (end - start) / 2
    return [half * (function(middle - half * 3**-0.5) + function(middle + half * 3**-0.5))]


class Patched:
    def __init__(self, cls, noise, *, double, steps):
        self.module = importlib.import_module(cls.__module__)
        self.new = {"randn_tensor": lambda *_, **__: next(noise)}
        if double:
            self.new |= {"torch": Double(torch), "np": Double(importlib.import_module("numpy"))}
        if steps > max(FEW):
            self.new["integrate"] = type("integrate", (), {"quad": staticmethod(gauss)})

    def __enter__(self):
        self.old = {name: getattr(self.module, name) for name in self.new if hasattr(self.module, name)}
        for name in self.old:
            setattr(self.module, name, self.new[name])

    def __exit__(self, *_):
        for name, value in self.old.items():
            setattr(self.module, name, value)


def reference(cls, config, steps, *, model=denoiser, double=False, told=None, visit=None, **step_arguments):
    """Diffusers' timesteps and x after every evaluation. told: what the model is told instead of the timesteps."""
    cast = torch.Tensor.double if double else torch.Tensor.float
    with Patched(cls, iter(cast(STEP_NOISE)), double=double, steps=steps):
        scheduler = cls(**{key: value for key, value in config.items() if key in hub.DEFAULTS[cls_name(cls)]})
        scheduler.set_timesteps(**({"timesteps": visit} if visit else {"num_inference_steps": steps}))
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # as Diffusers' pipelines do
        x = cast(NOISE) * scheduler.init_noise_sigma
        trajectory = []
        for k, timestep in enumerate(scheduler.timesteps):
            out = model(scheduler.scale_model_input(x, timestep), timestep if told is None else told[k])
            x = scheduler.step(out, timestep, x, **step_arguments).prev_sample
            trajectory.append(x)
    return scheduler.timesteps.double(), torch.stack(trajectory)


def cls_name(cls):
    return next(base.__name__ for base in cls.__mro__ if base.__name__ in hub.DEFAULTS)


def ours(solver, steps, *, double=False, model=denoiser):
    cast = torch.Tensor.double if double else torch.Tensor.float
    plan = solver.plan(steps)
    noise = cast(STEP_NOISE[: len(plan)])
    with torch.no_grad():
        return plan.timesteps, torch.stack([s.x for s in iterate(model, plan, cast(NOISE), step_noise=noise)])


def error(got, expected):
    assert got.shape == expected.shape
    difference = (got.double() - expected.double()).flatten(1).abs().amax(1)
    return float((difference / expected.double().flatten(1).abs().amax(1)).max())


def hub_class(solver):
    return getattr(diffusers.schedulers, solver.hub_class)


def check(solver, steps, **arguments):
    """The claim of this file, for one solver and one number of steps."""
    cls, config = arguments.pop("cls", hub_class(solver)), arguments.pop("config", solver.config)
    timesteps, expected = reference(cls, config, steps, **arguments)
    visited, got = ours(solver, steps)
    if "told" not in arguments:
        assert len(visited) == len(timesteps)
        assert (visited - timesteps).abs().max() < TIMESTEP_TOLERANCE, f"{solver} {steps}: timesteps"
    found = error(got, expected)
    if found <= TOLERANCE:
        return
    _, exact = reference(cls, config, steps, double=True, **arguments)
    assert error(expected, exact) > error(got, exact), f"{solver}, {steps} steps: off by {found:.1e}"
    assert error(got, exact) <= TOLERANCE, f"{solver}, {steps} steps: off by {error(got, exact):.1e}"
    assert error(ours(solver, steps, double=True)[1], exact) <= DOUBLE_TOLERANCE, f"{solver}, {steps} steps"


def wrong_in_diffusers(solver, steps):
    """The deviations of the README, as far as the grid below meets them; each has a test of its own further down."""
    total, spacing = solver.num_train_timesteps, solver.timestep_spacing
    listless = isinstance(solver, (DDIM, InverseDDIM, PNDM))  # recomputes the previous timestep
    return (
        (spacing == "linspace" and steps == 1 and isinstance(solver, (DDIM, *SIGMA_SPACE)))
        or (spacing == "linspace" and listless)
        or (spacing == "trailing" and listless and total % steps)
        or (spacing == "leading" and steps == 999 and isinstance(solver, (DPMSolver, UniPC)))
        or (solver.prediction_type == "sample" and isinstance(solver, (EulerAncestral, PNDM)))
        or (isinstance(solver, PNDM) and solver.prediction_type == "v_prediction")
        or (isinstance(solver, PNDM) and not solver.skip_prk_steps and (steps < 4 or total // steps % 2))
    )


GRID = [*(solver() for solver in SOLVERS), PNDM(skip_prk_steps=True)]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", GRID, ids=lambda solver: type(solver).__name__)
def test_trajectories_equal_diffusers_at_every_step(solver, spacing, prediction_type):
    solver = replace(solver, prediction_type=prediction_type)
    if not isinstance(solver, DPMSolverSinglestep):  # it has one spacing
        solver = replace(solver, timestep_spacing=spacing)
    elif spacing != "linspace":
        return
    for steps in STEPS:
        if not wrong_in_diffusers(solver, steps):
            check(solver, steps)


def dpm_variants():
    for order, algorithm, kind, last, lower in itertools.product(
        (1, 2, 3),
        ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"),
        ("midpoint", "heun"),
        ("zero", "sigma_min"),
        (True, False),
    ):
        settings = {
            "solver_order": order, "algorithm_type": algorithm, "solver_type": kind,
            "final_sigmas_type": last, "lower_order_final": lower,
        }  # fmt: skip
        if last == "zero" and not algorithm.endswith("++"):
            continue  # Diffusers refuses it
        if order < 3:  # wrong in Diffusers, tested below
            yield DPMSolver(**settings)
        if algorithm != "sde-dpmsolver" and (algorithm, kind, order) != ("sde-dpmsolver++", "heun", 3):
            yield DPMSolverSinglestep(**settings)


def unipc_variants():
    for order, kind, data, lower in itertools.product(
        (1, 2, 3), ("bh1", "bh2"), (True, False), (True, False)
    ):
        yield UniPC(
            solver_order=order, solver_type=kind, predict_x0=data, lower_order_final=lower,
            final_sigmas_type="sigma_min",
        )  # fmt: skip
    yield UniPC(solver_order=1)
    yield UniPC(solver_order=3)


def schedule_variants():
    for solver in (DPMSolver, DPMSolverSinglestep, UniPC, LMS, Euler, Heun):
        yield solver(use_karras_sigmas=True)
    for solver in (LMS, Euler, Heun):
        yield solver(use_exponential_sigmas=True)
        yield solver(use_karras_sigmas=True, timestep_spacing="trailing")
    for solver in SOLVERS:
        yield solver(beta_schedule="linear")
        if solver is not PNDM:  # odd strides
            yield solver(beta_schedule="squaredcos_cap_v2", num_train_timesteps=500)
        if solver not in (DPMSolverSinglestep, PNDM, LMS, Heun):  # Diffusers' cannot
            yield solver(
                rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
            )
    yield DPMSolver(final_sigmas_type="sigma_min", euler_at_final=True)
    yield Euler(final_sigmas_type="sigma_min")
    yield DDIM(set_alpha_to_one=True)
    yield InverseDDIM(set_alpha_to_one=True)
    yield PNDM(set_alpha_to_one=True, skip_prk_steps=True)
    yield PNDM(steps_offset=0, skip_prk_steps=True)


@pytest.mark.parametrize("solver", [*dpm_variants(), *unipc_variants(), *schedule_variants()], ids=str)
def test_variants_equal_diffusers_at_every_step(solver):
    for steps in FEW:
        if not wrong_in_diffusers(solver, steps):
            check(solver, steps)


@pytest.mark.parametrize("steps", [5, 25])
def test_ddim_with_eta_equals_diffusers_given_the_same_noise(steps):
    check(DDIM(eta=0.7), steps, config=DDIM().config, eta=0.7)


@pytest.mark.parametrize("solver", [solver() for solver in SOLVERS], ids=lambda solver: type(solver).__name__)
def test_a_planted_defect_breaks_the_tolerance(solver):
    nudged = replace(solver, beta_start=solver.beta_start * 1.001)
    _, expected = reference(hub_class(solver), solver.config, 10)
    assert error(ours(nudged, 10)[1], expected) > 2 * TOLERANCE


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_a_neighbouring_timestep_breaks_the_tolerance(solver):
    _, expected = reference(hub_class(solver()), solver().config, 10)
    late = ours(solver(), 10, model=lambda x, timestep: denoiser(x, timestep + 1))[1]
    assert error(late, expected) > 2 * TOLERANCE


# --- where Diffusers is wrong: another part of Diffusers is the oracle ---


@pytest.mark.parametrize(
    ("spacing", "steps"), [(s, n) for s in ("linspace", "trailing") for n in (2, 3, 7, 30, 33)]
)
def test_ddim_equals_diffusers_first_order_solver_told_the_same_list(spacing, steps):
    solver = DDIM(timestep_spacing=spacing)
    visited = [int(t) for t in solver.plan(steps).timesteps]
    first_order = DPMSolver(solver_order=1, final_sigmas_type="sigma_min")
    check(solver, steps, cls=hub_class(first_order), config=first_order.config, visit=visited)


class ListedPNDM(diffusers.schedulers.PNDMScheduler):
    """Diffusers' PNDM, made to go to the next timestep of its own list."""

    def _get_prev_sample(self, sample, timestep, prev_timestep, model_output):
        listed = [*dict.fromkeys(self.timesteps.tolist()), -1]
        k = max(self.counter - 1, 0)
        return super()._get_prev_sample(sample, listed[k], listed[k + 1], model_output)


@pytest.mark.parametrize(
    ("spacing", "steps"), [(s, n) for s in ("linspace", "trailing") for n in (2, 3, 7, 30, 33)]
)
def test_pndm_equals_diffusers_made_to_follow_its_own_list(spacing, steps):
    check(PNDM(skip_prk_steps=True, timestep_spacing=spacing), steps, cls=ListedPNDM)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("solver", [PNDM(), PNDM(skip_prk_steps=True), EulerAncestral()], ids=str)
def test_other_predictions_equal_diffusers_with_the_model_translated_to_epsilon(solver, prediction_type):
    squared = solver.noise_schedule.alphas_cumprod

    def translated(x, timestep):
        alpha, sigma = squared[int(timestep)].sqrt().to(x), (1 - squared[int(timestep)]).sqrt().to(x)
        return schedulers.base.predict(prediction_type, x, denoiser(x, timestep), alpha, sigma)[1]

    for steps in (4, 5, 10, 20):
        check(replace(solver, prediction_type=prediction_type), steps, config=solver.config, model=translated)


@pytest.mark.parametrize("steps", [3, 5, 10, 14])
def test_order_3_equals_diffusers_unipc_of_order_3_without_its_corrector(steps):
    predictor = {**UniPC(solver_order=3).config, "disable_corrector": list(range(steps))}
    check(DPMSolver(solver_order=3), steps, cls=hub_class(UniPC()), config=predictor)


@pytest.mark.parametrize("solver", [DPMSolver(), DPMSolverSinglestep(), UniPC()], ids=str)
def test_exponential_sigmas_equal_diffusers_told_the_nearest_timestep(solver):
    solver = replace(solver, use_exponential_sigmas=True)
    for steps in FEW:
        check(solver, steps, told=solver.plan(steps).timesteps)


@pytest.mark.parametrize("kind", ["bh1", "bh2"])
@pytest.mark.parametrize("data", [True, False])
def test_unipc_down_to_no_noise_equals_diffusers_until_its_last_step(kind, data):
    solver = UniPC(solver_type=kind, predict_x0=data)
    _, expected = reference(hub_class(solver), solver.config, 10)
    _, got = ours(solver, 10)
    assert error(got[:-1], expected[:-1]) <= TOLERANCE
    assert torch.isfinite(got[-1]).all()


@pytest.mark.parametrize("solver", [DDIM, InverseDDIM, DPMSolver, Euler], ids=lambda solver: solver.__name__)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_equal_diffusers_for_every_number_of_steps(solver, spacing):
    """One solver for each way to space them; the grid above has the others."""
    if (solver, spacing) == (InverseDDIM, "linspace"):
        pytest.skip("Diffusers has none")
    own, ahead = solver(timestep_spacing=spacing), int(solver is DPMSolver)
    scheduler = hub_class(own)(**{k: v for k, v in own.config.items() if k != "_class_name"})
    for steps in range(2, 1000):
        scheduler.set_timesteps(steps)
        expected = scheduler.timesteps.double()
        got = torch.tensor(own._timesteps(steps, ahead=ahead), dtype=torch.float64)
        got = got if solver is Euler else got.round()
        got = got.flip(0) if solver is InverseDDIM else got
        points = steps + ahead
        uncovered = spacing == "leading" and points * (1000 // points) < 800
        beyond = expected.max() > 999  # the offset leads out of the table
        extra = expected.min() < 0  # a step too many, to timestep -1
        if not (uncovered or beyond or extra):
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_diffusers_reads_the_config_that_we_write(solver, tmp_path):
    (tmp_path / "scheduler_config.json").write_text(json.dumps(solver().config))
    cls = hub_class(solver())
    theirs = cls.from_pretrained(tmp_path)
    for name, value in solver().config.items():
        assert name == "_class_name" or theirs.config[name] == value
    assert schedulers.from_config(dict(theirs.config)) == solver()


@pytest.mark.parametrize("target", SOLVERS, ids=lambda solver: solver.__name__)
@pytest.mark.parametrize("source", SOLVERS, ids=lambda solver: solver.__name__)
def test_switching_solvers_means_what_it_means_in_diffusers(source, target, tmp_path):
    settings = {name: value for name, value in source().config.items() if name != "_class_name"}
    hub_class(source())(**settings).save_pretrained(tmp_path)
    file = json.loads((tmp_path / "scheduler_config.json").read_text())
    converted = hub_class(target()).from_config(file)
    own = target.from_config(file)
    for name in hub.DEFAULTS[target.hub_class]:
        if name in own.config and name != "clip_sample":  # Diffusers would start to clip latents here
            assert converted.config[name] == own.config[name], name
