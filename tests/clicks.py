"""Click tracks: music whose beats are known, and an ear that finds them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicldm import audio
from musicldm.data.manifest import Track

RATE = 16000
CLICK = 0.004  # s
REFRACTORY = 0.03  # s after a click in which there is no other


def click_track(
    path: Path, bpm: float, *, seconds: float = 30.0, first: float = 0.3, polarity: float = 1.0, rate: int = RATE,
    beats_per_bar: int = 4, split: str = "train",
) -> Track:  # fmt: skip
    """A file with a click on every beat from `first` on; its annotations are what it was made from."""
    beats = np.arange(first, seconds - 0.1, 60 / bpm)
    wave = np.zeros(round(seconds * rate), np.float32)
    for beat in beats:
        at = round(beat * rate)
        wave[at : at + round(CLICK * rate)] = 0.8 * polarity
    audio.write(path, wave, rate)
    return Track(
        path=path,
        captions=(f"clicks at {bpm:g} BPM",),
        beats=beats,
        downbeats=beats[::beats_per_bar],
        split=split,
    )


def heard(wave, rate: int = RATE, polarity: float = 1.0):
    """wave: (s,) -> times of its clicks of one polarity, in seconds, from the samples alone."""
    wave = np.asarray(wave, np.float64) * polarity
    loud = np.flatnonzero(wave > 0.2 * np.abs(wave).max())
    starts = loud[np.diff(loud, prepend=-rate) > REFRACTORY * rate]
    return starts / rate
