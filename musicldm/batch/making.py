"""Rows of equal settings -> clips, encoded, with everything that the sidecar says about them."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from musicldm import __version__, audio
from musicldm.pipeline import MusicLDMOutput, MusicLDMPipeline

from .rows import Row
from .run import Clips
from .seeds import plan_digest, row_seed

__all__ = ["PipelineMaker", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run's clips depend on, besides rows and model; rows may say otherwise in what they can say.

    seconds in s, None: the model's own. scheduler: a name of the command line.
    """

    seed: int
    steps: int
    guidance: float
    negative: str | None
    seconds: float | None
    eta: float
    scheduler: str
    candidates: int
    keep_all: bool
    format: str
    float32: bool
    dtype: str
    heads: str
    compile: bool
    guidance_interval: tuple[float, float] | None
    feature_reuse: int


class PipelineMaker:
    """A `run.Maker` over a pipeline. Every candidate has a generator of its own, named by its seed.

    model: what the sidecar says about the checkpoint.
    Raises ValueError or TypeError for settings that no row could be made with.
    """

    def __init__(self, pipe: MusicLDMPipeline, settings: Settings, model: dict[str, Any]) -> None:
        self._pipe = pipe
        self._settings = settings
        self._rate = pipe.vocoder.config.sampling_rate
        seconds = settings.seconds
        self._seconds = pipe.grid.seconds(pipe.unet.config.sample_size) if seconds is None else seconds
        pipe.grid.samples(self._seconds)
        self._scheduler = pipe.scheduler.with_eta(settings.eta)
        self._digest = lru_cache(maxsize=64)(lambda steps: plan_digest(self._scheduler.plan(steps)))
        self._digest(settings.steps)
        self._always = {
            "model": model,
            "device": _device_name(pipe.device),
            "dtype": settings.dtype,
            "heads": settings.heads,
            "compile": settings.compile,
            "guidance_interval": settings.guidance_interval,
            "feature_reuse": settings.feature_reuse,
            "versions": {
                "musicldm": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "numpy", "soundfile")},
            },
        }

    def kind(self, row: Row) -> tuple[float, int, float]:
        """(seconds, steps, guidance): what one call of the pipeline has in common."""
        settings = self._settings
        return (
            self._seconds if row.seconds is None else row.seconds,
            settings.steps if row.steps is None else row.steps,
            settings.guidance if row.guidance is None else row.guidance,
        )

    def make(self, rows: list[Row]) -> list[Clips]:
        """Rows of one kind -> their clips. Raises whatever the pipeline raises, for all of them."""
        settings, n = self._settings, self._settings.candidates
        seconds, steps, guidance = self.kind(rows[0])
        seeds = [row_seed(settings.seed, row.index) if row.seed is None else row.seed for row in rows]
        negatives = [(settings.negative or "") if row.negative is None else row.negative for row in rows]
        start = time.perf_counter()
        output = self._pipe(
            [row.prompt for row in rows],
            audio_length_in_s=seconds,
            num_inference_steps=steps,
            guidance_scale=guidance,
            negative_prompt=negatives,
            num_waveforms_per_prompt=n,
            eta=settings.eta,
            seed=[seed + candidate for seed in seeds for candidate in range(n)],
            guidance_interval=settings.guidance_interval,
            feature_reuse=settings.feature_reuse,
        )
        assert isinstance(output, MusicLDMOutput)
        wall = time.perf_counter() - start
        made = []
        for k, row in enumerate(rows):
            clips = output.audios[k * n : (k + 1) * n]
            order = output.order[k].tolist()
            scores = [None] * n if output.scores is None else output.scores[k].tolist()
            audio.warn_if_silent(clips[0], f"row {row.index}")
            about = {
                "id": row.id,
                "prompt": row.prompt,
                "negative": negatives[k] or None,
                "seconds": seconds,
                "steps": steps,
                "guidance": guidance,
                "eta": settings.eta,
                "seed": seeds[k],
                "candidates": [
                    {"seed": seeds[k] + candidate, "score": score}
                    for candidate, score in zip(order, scores, strict=True)
                ],
                "score": scores[0],
                "peak": float(np.abs(clips[0]).max()),
                "samples": clips.shape[1],
                "rate": self._rate,
                "scheduler": {"table_sha256": self._digest(steps), "config": self._scheduler.config},
                **self._always,
                "wall_s": round(wall / len(rows), 4),
                "batch_rows": len(rows),
            }
            kept = clips if settings.keep_all else clips[:1]
            made.append(Clips([self._encode(clip) for clip in kept], about))
        return made

    def _encode(self, clip: np.ndarray) -> bytes:
        return audio.encode(f"clip.{self._settings.format}", clip, self._rate, float32=self._settings.float32)


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
