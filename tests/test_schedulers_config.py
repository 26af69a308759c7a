"""The solvers' settings: the hub's scheduler_config.json, switching solvers, and every refusal."""

import dataclasses
import json

import pytest

from musicldm import schedulers
from musicldm.schedulers import (
    DDIM,
    LMS,
    SOLVERS,
    DPMSolver,
    DPMSolverSinglestep,
    Euler,
    NoiseSchedule,
    UniPC,
    hub,
)

every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)

HUB_FILE = {
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.33.1", "beta_end": 0.0195, "beta_start": 0.0015,
    "beta_schedule": "scaled_linear", "clip_sample": False, "clip_sample_range": 1.0, "num_train_timesteps": 1000,
    "dynamic_thresholding_ratio": 0.995, "prediction_type": "epsilon", "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0, "set_alpha_to_one": False, "steps_offset": 1, "thresholding": False,
    "timestep_spacing": "leading", "trained_betas": None,
}  # fmt: skip


# --- the hub's config ---


@every_solver
def test_every_solver_survives_the_hubs_json(solver):
    written = json.loads(json.dumps(solver(beta_schedule="linear", prediction_type="v_prediction").config))
    assert schedulers.from_config(written) == solver(beta_schedule="linear", prediction_type="v_prediction")


def test_the_hubs_file_gives_musicldms_ddim():
    assert schedulers.from_config(HUB_FILE) == DDIM()


@every_solver
def test_any_solver_can_be_made_from_the_hubs_file(solver):
    made = solver.from_config(HUB_FILE)
    assert made.noise_schedule == NoiseSchedule()
    assert made.timestep_spacing == ("linspace" if solver is DPMSolverSinglestep else "leading")


def test_from_config_takes_a_solver_and_overrides():
    made = DPMSolver.from_config(DDIM(beta_end=0.02), solver_order=3)
    assert (made.beta_end, made.solver_order) == (0.02, 3)
    assert DDIM.from_config(made).beta_end == 0.02


def test_our_own_names_are_understood():
    assert schedulers.from_config({"_class_name": "DPMSolver"}) == DPMSolver()


def test_eta_is_written_where_it_is_not_zero_and_read_again():
    assert "eta" not in DDIM().config
    assert schedulers.from_config(DDIM(eta=0.5).config) == DDIM(eta=0.5)
    assert Euler.from_config(DDIM(eta=0.5)).noise_schedule == NoiseSchedule()


def test_a_missing_key_means_what_diffusers_would_use():
    made = schedulers.from_config({"_class_name": "HeunDiscreteScheduler"})
    assert (made.beta_start, made.beta_end, made.beta_schedule) == (0.00085, 0.012, "linear")
    assert made.timestep_spacing == "linspace"
    carried = DPMSolver.from_config({"_class_name": "HeunDiscreteScheduler"})
    assert (carried.beta_start, carried.steps_offset, carried.timestep_spacing) == (0.00085, 0, "linspace")


def test_a_missing_key_without_a_class_name_means_our_default():
    assert DDIM.from_config({"eta": 1.0}) == DDIM(eta=1.0)


def test_a_ddim_file_that_says_nothing_of_clipping_clips_and_is_refused():
    silent = {key: value for key, value in HUB_FILE.items() if key != "clip_sample"}
    with pytest.raises(ValueError, match=r"DDIM: .*clip_sample = True"):
        DDIM.from_config(silent)
    assert (
        Euler.from_config(silent).noise_schedule == NoiseSchedule()
    )  # Diffusers' Euler does not clip either


def test_solver_type_is_not_carried_between_families_that_spell_it_differently():
    assert DPMSolver.from_config(UniPC()).solver_type == "midpoint"
    assert DPMSolver.from_config(DPMSolverSinglestep(solver_type="heun")).solver_type == "heun"


def test_all_unknown_keys_are_named_at_once():
    with pytest.raises(ValueError, match="DDIM: got unknown settings betta_end, ettta"):
        DDIM.from_config({**HUB_FILE, "ettta": 1, "betta_end": 1})


def test_an_override_that_only_another_solver_has_is_an_error():
    with pytest.raises(ValueError, match="DDIM: got unknown settings use_karras_sigmas"):
        DDIM.from_config(HUB_FILE, use_karras_sigmas=True)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("DDIMScheduler", "thresholding", True),
        ("DDIMScheduler", "trained_betas", [0.1]),
        ("DPMSolverMultistepScheduler", "use_lu_lambdas", True),
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", -5.1),
        ("DPMSolverMultistepScheduler", "variance_type", "learned"),
        ("UniPCMultistepScheduler", "disable_corrector", [0]),
        ("UniPCMultistepScheduler", "use_flow_sigmas", True),
        ("EulerDiscreteScheduler", "interpolation_type", "log_linear"),
        ("EulerDiscreteScheduler", "timestep_type", "continuous"),
        ("EulerDiscreteScheduler", "sigma_max", 10.0),
        ("HeunDiscreteScheduler", "clip_sample", True),
    ],
)
def test_settings_that_would_change_the_numbers_are_refused_by_name(name, key, value):
    with pytest.raises(ValueError, match=f"{key} = "):
        schedulers.from_config({**HUB_FILE, "_class_name": name, key: value})


def test_every_key_of_diffusers_is_ours_refused_or_irrelevant():
    ours = {field.name for solver in SOLVERS for field in dataclasses.fields(solver) if field.init}
    theirs = {key for keys in hub.DEFAULTS.values() for key in keys}
    assert theirs <= ours | set(hub.REFUSED) | set(hub.IRRELEVANT)
    assert {solver.__name__: solver.hub_class for solver in SOLVERS} == hub.CLASSES


# --- errors ---


@every_solver
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_outside_the_training_steps_are_an_error(solver, steps):
    with pytest.raises(
        ValueError, match=rf"{solver.__name__}: got {steps} inference steps, expected .* 1 to 1000"
    ):
        solver().plan(steps)


@pytest.mark.parametrize("steps", [True, 2.0, "20", None])
def test_steps_that_are_no_integer_are_a_type_error(steps):
    with pytest.raises(TypeError, match=r"DDIM: got num_inference_steps .*, expected an integer"):
        DDIM().plan(steps)


@pytest.mark.parametrize(
    ("solver", "wrong"),
    [
        (DDIM, {"timestep_spacing": "even"}),
        (DDIM, {"prediction_type": "flow"}),
        (DDIM, {"beta_schedule": "cosine"}),
        (DDIM, {"beta_start": 0.02, "beta_end": 0.001}),
        (DDIM, {"beta_start": 0.0}),
        (DDIM, {"steps_offset": -1}),
        (DDIM, {"num_train_timesteps": 0}),
        (DDIM, {"eta": 1.5}),
        (DPMSolver, {"solver_order": 4}),
        (DPMSolver, {"solver_order": True}),
        (DPMSolver, {"algorithm_type": "deis"}),
        (DPMSolver, {"solver_type": "bh2"}),
        (DPMSolver, {"final_sigmas_type": "one"}),
        (DPMSolver, {"algorithm_type": "sde-dpmsolver"}),
        (UniPC, {"solver_type": "midpoint"}),
        (LMS, {"use_karras_sigmas": True, "use_exponential_sigmas": True}),
    ],
)
def test_wrong_settings_are_refused_when_the_solver_is_made(solver, wrong):
    with pytest.raises(ValueError, match=r"got|must be"):
        solver(**wrong)


def test_an_unknown_class_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"got _class_name 'DEISMultistepScheduler'.*DDIM.*UniPC"):
        schedulers.from_config({"_class_name": "DEISMultistepScheduler"})
    with pytest.raises(ValueError, match="no _class_name"):
        schedulers.from_config({})


def test_predicting_noise_from_pure_noise_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"timestep 999 are not finite.*v_prediction"):
        DDIM(rescale_betas_zero_snr=True, timestep_spacing="trailing").plan(10)


def test_only_ddim_takes_an_eta():
    assert DDIM().with_eta(0.5).eta == 0.5
    assert Euler().with_eta(0) == Euler()
    with pytest.raises(ValueError, match="Euler has no eta"):
        Euler().with_eta(0.5)
