"""What the tests of editing start from: clips that are music enough, requests that are short."""

from __future__ import annotations

import numpy as np

from musicldm.stages import Request

RATE = 16000
ROW = 640  # samples
SAMPLES = 20480  # 1.28 s, 32 rows


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
