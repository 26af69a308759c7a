"""Degraded copies: four ways in which a recording can be bad, each plain to hear."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from musicldm import audio

__all__ = ["KINDS", "damage"]

KINDS = ("muffled", "noisy", "crushed", "clipped")

Samples = NDArray[np.float32]


def damage(wave: Samples, rate: int, kind: str, rng: Random) -> Samples:
    """(s,) -> (s,), as loud at its peak as before. `kind` is one of KINDS; `rng` draws how bad."""
    peak = float(np.abs(wave).max())
    worse = WAYS[kind](wave / peak, rate, rng)
    return (worse * (peak / float(np.abs(worse).max()))).astype(np.float32)


def _muffled(wave: Samples, rate: int, rng: Random) -> Samples:
    """Nothing above 0.7 to 1.4 kHz."""
    narrow = round(2 * rng.uniform(700, 1400))
    back = audio.resample(audio.resample(wave, rate, narrow), narrow, rate)
    return np.pad(back, (0, max(0, len(wave) - len(back))))[: len(wave)]


def _noisy(wave: Samples, rate: int, rng: Random) -> Samples:
    """White noise, 4 to 14 dB below the music, and a hum."""
    drawn = np.random.default_rng(rng.getrandbits(32)).standard_normal(len(wave)).astype(np.float32)
    level = float(np.sqrt((wave**2).mean())) * 10 ** (-rng.uniform(4, 14) / 20)
    time = np.arange(len(wave), dtype=np.float32) / rate
    hum = 0.5 * np.sin(np.float32(2 * np.pi * 50) * time)
    return (wave + level * (drawn + hum)).astype(np.float32)


def _crushed(wave: Samples, rate: int, rng: Random) -> Samples:
    """Seven or eleven levels, each sample held for four to eight."""
    hold, levels = rng.randint(4, 8), np.float32(rng.choice((3, 5)))
    held = np.repeat(wave[::hold], hold)[: len(wave)]
    return np.round(held * levels) / levels


def _clipped(wave: Samples, rate: int, rng: Random) -> Samples:
    """Driven 18 to 28 dB over the top."""
    return np.clip(wave * np.float32(10 ** (rng.uniform(18, 28) / 20)), -1, 1)


WAYS = {"muffled": _muffled, "noisy": _noisy, "crushed": _crushed, "clipped": _clipped}
