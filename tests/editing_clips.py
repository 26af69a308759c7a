"""What the tests of editing start from: clips that are music enough, requests that are short."""

from __future__ import annotations

import numpy as np
import torch

from musicldm.schedulers import SOLVERS, DPMSolver, InverseDDIM
from musicldm.stages import Request

RATE = 16000
ROW = 640  # samples
SAMPLES = 20480  # 1.28 s, 32 rows
LATENT_ATOL = 1e-4  # the promise of the README; the copy itself is exact
AUDIO_ATOL = 1e-4  # a batch, or another clip length, sums in another order
CHANGED = 1e-3  # ten times that: what differs, differs by more

GENERATING = tuple(solver for solver in SOLVERS if solver is not InverseDDIM)
STOCHASTIC = DPMSolver(algorithm_type="sde-dpmsolver++")


def clip(seed: int = 0, samples: int = SAMPLES) -> np.ndarray:
    """Three notes and some noise: no two seeds alike, nothing periodic."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    notes = [
        np.sin(2 * np.pi * f * time + p)
        for f, p in zip(rng.uniform(100, 4000, 3), rng.uniform(0, 6, 3), strict=True)
    ]
    return (0.15 * sum(notes) * (1 + np.sin(7 * time)) / 2 + 0.02 * rng.standard_normal(samples)).astype(
        np.float32
    )


def ask(prompt: str | list[str] | None = "a waltz", **settings) -> Request:
    return Request(prompt=prompt, **{"num_inference_steps": 4, "seed": 5, **settings})


def cheap(x, timestep, cond):
    """In the U-Net's place where only the paths around it are tested: every latent hears its neighbours, the
    time and the prompt."""
    heard = 0.4 * x + 0.2 * x.roll(1, 2) + 0.2 * x.roll(1, 3) + 0.1 * torch.tanh(x.flip(1))
    return heard + cond[:, : x.shape[1], None, None] + timestep / 10_000


def reconstruction(pipe, wave: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return pipe.decode(pipe.encode(wave, RATE))[:, : wave.shape[-1]].numpy()


def source(pipe, wave: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return pipe.encode(wave, RATE)
