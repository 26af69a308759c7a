"""The hub's scheduler_config.json: which keys there are, what a missing one means, what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["CLASSES", "DEFAULTS", "IRRELEVANT", "REFUSED", "read", "write"]

# Our names, and the classes of Diffusers 0.33.1 that they stand for.
CLASSES = {
    "DDIM": "DDIMScheduler",
    "InverseDDIM": "DDIMInverseScheduler",
    "DPMSolver": "DPMSolverMultistepScheduler",
    "DPMSolverSinglestep": "DPMSolverSinglestepScheduler",
    "PNDM": "PNDMScheduler",
    "LMS": "LMSDiscreteScheduler",
    "Euler": "EulerDiscreteScheduler",
    "EulerAncestral": "EulerAncestralDiscreteScheduler",
    "Heun": "HeunDiscreteScheduler",
    "UniPC": "UniPCMultistepScheduler",
}

# What describes the model rather than the sampling: it follows the file from one solver to another.
_MODEL: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "trained_betas": None,
}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_THRESHOLDING = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_RESPACED = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0}
_LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
_LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
_CLIPPING = {"clip_sample_range": 1.0}
_DPM = {
    **_THRESHOLDING, **_RESPACED, **_FLOW,
    "solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint",
    "final_sigmas_type": "zero", "lambda_min_clipped": -math.inf, "variance_type": None,
}  # fmt: skip

# What each class of Diffusers 0.33.1 knows, and what it assumes where a file is silent.
DEFAULTS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {
        **_MODEL, **_ZERO_SNR, **_LEADING, **_THRESHOLDING, **_CLIPPING,
        "clip_sample": True, "set_alpha_to_one": True,
    },
    "DDIMInverseScheduler": {
        **_MODEL, **_ZERO_SNR, **_LEADING, **_CLIPPING,
        "clip_sample": True, "set_alpha_to_one": True,
    },
    "DPMSolverMultistepScheduler": {
        **_MODEL, **_ZERO_SNR, **_LINSPACE, **_DPM,
        "lower_order_final": True, "euler_at_final": False, "use_lu_lambdas": False,
    },
    "DPMSolverSinglestepScheduler": {**_MODEL, **_DPM, "lower_order_final": False},
    "PNDMScheduler": {**_MODEL, **_LEADING, "skip_prk_steps": False, "set_alpha_to_one": False},
    "LMSDiscreteScheduler": {**_MODEL, **_LINSPACE, **_RESPACED},
    "EulerDiscreteScheduler": {
        **_MODEL, **_ZERO_SNR, **_LINSPACE, **_RESPACED,
        "final_sigmas_type": "zero", "interpolation_type": "linear", "timestep_type": "discrete",
        "sigma_min": None, "sigma_max": None,
    },
    "EulerAncestralDiscreteScheduler": {**_MODEL, **_ZERO_SNR, **_LINSPACE},
    "HeunDiscreteScheduler": {
        **_MODEL, **_LINSPACE, **_RESPACED, **_CLIPPING,
        "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False,
    },
    "UniPCMultistepScheduler": {
        **_MODEL, **_ZERO_SNR, **_LINSPACE, **_THRESHOLDING, **_RESPACED, **_FLOW,
        "solver_order": 2, "predict_x0": True, "solver_type": "bh2", "lower_order_final": True,
        "disable_corrector": [], "solver_p": None, "final_sigmas_type": "zero",
    },
}  # fmt: skip

# Settings that would change the numbers and that no solver here has: the values that are off, the remedy.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "trained_betas": ((None,), "name a beta_schedule and its range instead"),
    "clip_sample": ((False,), "latents have no range to clip to; set it to False"),
    "thresholding": ((False,), "it bounds pixels, and latents have no range; set it to False"),
    "use_beta_sigmas": ((False,), "use use_karras_sigmas or use_exponential_sigmas"),
    "use_flow_sigmas": ((False,), "MusicLDM is no flow-matching model; set it to False"),
    "use_lu_lambdas": ((False,), "use use_karras_sigmas or use_exponential_sigmas"),
    "lambda_min_clipped": (
        (-math.inf, "-inf"),
        "use timestep_spacing 'trailing' or fewer training timesteps",
    ),
    "variance_type": ((None, "fixed_small", "fixed_large"), "the U-Net predicts no variance; set it to None"),
    "disable_corrector": (([], ()), "use DPMSolver, which has no corrector"),
    "solver_p": ((None,), "choose that solver itself"),
    "interpolation_type": (("linear",), "use use_exponential_sigmas, which is even in log sigma"),
    "timestep_type": (("discrete",), "the U-Net is told timesteps, not sigmas"),
    "sigma_min": ((None,), "the noise schedule sets the range of sigmas"),
    "sigma_max": ((None,), "the noise schedule sets the range of sigmas"),
}

# Keys whose value cannot change the numbers here, and why.
IRRELEVANT = {
    "_class_name": "read first: it says whose file this is",
    "_diffusers_version": "who wrote the file",
    "_name_or_path": "where the file was",
    "_use_default_values": "read first: keys that the user of Diffusers never set",
    "clip_sample_range": "used with clip_sample only, which is refused",
    "dynamic_thresholding_ratio": "used with thresholding only, which is refused",
    "sample_max_value": "used with thresholding only, which is refused",
    "flow_shift": "used with use_flow_sigmas only, which is refused",
}

_OURS = frozenset({"eta"})  # settings here that Diffusers passes to `step` instead

# `solver_type` means one thing to these two, another to UniPC: it is carried over among these only.
_DPM_SOLVERS = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler")


def read(
    config: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str, hub_class: str, own: frozenset[str]
) -> dict[str, Any]:
    """A hub config -> the arguments of the solver called `name`, whose settings are called `own`.

    A missing key means what the writer of the file meant by leaving it out. If `_class_name` is a class of
    Diffusers, that is Diffusers' default: of the file's class for what describes the model, of the solver
    being made for the rest. If it is one of ours or absent, it is the solver's own default here. null counts
    as missing.

    Raises ValueError for unknown keys, all of them, and for refused settings.
    """
    source = source_class(config.get("_class_name", hub_class))
    unset = frozenset(config.get("_use_default_values") or ())
    given = {key: value for key, value in config.items() if key not in unset and value is not None}
    _check_known(given, overrides, name=name, own=own)
    if source != hub_class and not {source, hub_class} <= set(_DPM_SOLVERS):
        given.pop("solver_type", None)
    settings = given | {key: value for key, value in overrides.items() if value is not None}
    if config.get("_class_name") in DEFAULTS:
        settings = _unsaid(source, hub_class) | settings
    _check_refused(settings, DEFAULTS.get(hub_class, {}), name=name)
    return {key: value for key, value in settings.items() if key in own}


def write(settings: Mapping[str, tuple[Any, Any]], *, hub_class: str) -> dict[str, Any]:
    """settings: name -> (value, our default) -> the whole scheduler_config.json.

    Settings that Diffusers' class does not have are written where they are not at their default, and what is
    refused here is written off where Diffusers' default is on.
    """
    theirs = DEFAULTS.get(hub_class, {})
    off = {
        key: values[0] for key, (values, _) in REFUSED.items() if key in theirs and theirs[key] not in values
    }
    said = {name: value for name, (value, default) in settings.items() if name in theirs or value != default}
    return {"_class_name": hub_class, **dict(sorted({**said, **off}.items()))}


def source_class(name: str) -> str:
    """`_class_name`, ours or Diffusers' -> Diffusers'. Raises ValueError if it is neither."""
    found = CLASSES.get(name, name)
    if found not in DEFAULTS:
        raise ValueError(
            f"scheduler config: got _class_name {name!r}, expected one of {(*CLASSES, *DEFAULTS)}; "
            "if the settings are meant for one of these, give it its name"
        )
    return found


def _unsaid(source: str, target: str) -> dict[str, Any]:
    """What Diffusers would use where a file of class `source`, read for class `target`, is silent."""
    settings = {
        key: value for key, value in DEFAULTS[target].items() if source == target or key not in REFUSED
    }
    return settings | {key: DEFAULTS[source].get(key, False) for key in (*_MODEL, *_ZERO_SNR)}


def _check_known(
    given: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str, own: frozenset[str]
) -> None:
    known = {*own, *_OURS, *IRRELEVANT, *REFUSED, *(key for keys in DEFAULTS.values() for key in keys)}
    unknown = sorted(set(given) - known)
    unknown += sorted(set(overrides) - own - set(REFUSED) - set(IRRELEVANT))
    if unknown:
        raise ValueError(
            f"{name}: got unknown settings {', '.join(unknown)}; it has {', '.join(sorted(own))}"
        )


def _check_refused(settings: Mapping[str, Any], applies: Mapping[str, Any], *, name: str) -> None:
    problems = [
        f"{key} = {settings[key]!r}: {remedy}"
        for key, (off, remedy) in REFUSED.items()
        if key in settings and key in applies and settings[key] not in off
    ]
    if problems:
        raise ValueError(f"{name}: settings that are not supported here: {'; '.join(problems)}")
