"""Makes schedulers.safetensors: timesteps and every x of short runs of Diffusers' schedulers.

Run it in the `parity` environment, from the repository's root: python tests/goldens/make_schedulers.py
"""

import importlib
import json
from pathlib import Path

import diffusers  # noqa: TID251  it is the producer
import torch
from diffusers import schedulers  # noqa: TID251
from safetensors.torch import save_file

SEED = 20240601
MODEL = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing", "steps_offset": 1}
CASES = [
    ("ddim", "DDIMScheduler", 10, {**LEADING, "set_alpha_to_one": False, "clip_sample": False}),
    (
        "ddim-inverse",
        "DDIMInverseScheduler",
        10,
        {**LEADING, "set_alpha_to_one": False, "clip_sample": False},
    ),
    ("dpm-2m", "DPMSolverMultistepScheduler", 10, LEADING),
    ("dpm-2m-karras", "DPMSolverMultistepScheduler", 16, {**LEADING, "use_karras_sigmas": True}),
    ("dpm-2m-sde", "DPMSolverMultistepScheduler", 10, {**LEADING, "algorithm_type": "sde-dpmsolver++"}),
    ("dpm-3s", "DPMSolverSinglestepScheduler", 10, {"solver_order": 3}),
    ("pndm", "PNDMScheduler", 10, LEADING),
    ("plms", "PNDMScheduler", 10, {**LEADING, "skip_prk_steps": True}),
    ("lms", "LMSDiscreteScheduler", 10, {**LEADING, "prediction_type": "v_prediction"}),
    ("euler", "EulerDiscreteScheduler", 10, {"timestep_spacing": "linspace"}),
    ("euler-exponential", "EulerDiscreteScheduler", 10, {**LEADING, "use_exponential_sigmas": True}),
    ("euler-ancestral", "EulerAncestralDiscreteScheduler", 10, TRAILING),
    ("heun", "HeunDiscreteScheduler", 6, {**LEADING, "prediction_type": "sample"}),
    ("unipc", "UniPCMultistepScheduler", 10, LEADING),
    (
        "unipc-3",
        "UniPCMultistepScheduler",
        16,
        {**TRAILING, "solver_order": 3, "final_sigmas_type": "sigma_min"},
    ),
]


def model(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """x: (b, c, t, f); timestep: () -> (b, c, t, f)."""
    return 0.7 * torch.tanh(0.9 * x.roll(1, -1) + 0.4 * torch.cos(0.004 * timestep.to(x.dtype))) + 0.2 * x


def run(
    scheduler, steps: int, noise: torch.Tensor, step_noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """noise: (b, c, t, f); step_noise: (k, b, c, t, f) -> (n,) timesteps, (n, b, c, t, f) trajectory."""
    module = importlib.import_module(type(scheduler).__module__)
    remaining = iter(step_noise)
    module.randn_tensor = lambda *_, **__: next(remaining)
    scheduler.set_timesteps(steps)
    x, trajectory = noise * scheduler.init_noise_sigma, []
    for timestep in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, timestep), timestep), timestep, x).prev_sample
        trajectory.append(x)
    return scheduler.timesteps.float(), torch.stack(trajectory)


def main() -> None:
    """Write the file beside this script."""
    generator = torch.Generator().manual_seed(SEED)
    tensors = {
        "noise": torch.randn(1, 2, 3, 4, generator=generator),
        "step_noise": torch.randn(24, 1, 2, 3, 4, generator=generator),
    }
    cases = []
    for name, cls, steps, settings in CASES:
        config = {**MODEL, **settings}
        scheduler = getattr(schedulers, cls)(**config)
        timesteps, trajectory = run(scheduler, steps, tensors["noise"], tensors["step_noise"])
        tensors |= {f"{name}/timesteps": timesteps, f"{name}/trajectory": trajectory}
        cases.append({"name": name, "steps": steps, "config": {"_class_name": cls, **config}})
    versions = f"diffusers {diffusers.__version__}, torch {torch.__version__}, CPU, float32, seed {SEED}"
    path = Path(__file__).with_name("schedulers.safetensors")
    save_file(tensors, path, metadata={"producer": versions, "cases": json.dumps(cases)})


if __name__ == "__main__":
    main()
