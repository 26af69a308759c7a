"""Programs that hear beats, by name. None of them is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicldm import audio

from .annotations import Beats

__all__ = ["BACKENDS", "Backend", "load_backend"]

Tracker = Callable[[Path], Beats]


@dataclass(frozen=True)
class Backend:
    """package: what is installed, and its version names its results. licence: of the code and of the
    weights."""

    name: str
    package: str
    install: str
    licence: str
    make: Callable[[str], Tracker]


def load_backend(name: str, device: str = "cpu") -> Tracker:
    """A function from a sound file to its beats.

    Raises ValueError for a name that is not known, or saying what to install, and under which licence it
    comes.
    """
    if name not in BACKENDS:
        raise ValueError(f"beats: got backend {name!r}, expected one of {', '.join(BACKENDS)}")
    backend = BACKENDS[name]
    try:
        return backend.make(device)
    except ImportError as error:
        others = " or ".join(other for other in BACKENDS if other != name)
        raise ValueError(
            f"beats: the backend {name} cannot be imported ({error}); install it with `{backend.install}`. "
            f"{backend.licence} Or take another: {others}"
        ) from error


def _beat_this(device: str) -> Tracker:
    """Foscarin, Schlueter, Widmer 2024, arXiv 2407.21658: beats and downbeats, any metre."""
    make: Any = importlib.import_module("beat_this.inference").Audio2Beats
    hear = make(checkpoint_path="final0", device=device, dbn=False)

    def track(path: Path) -> Beats:
        beats, downbeats = hear(*audio.read(path))
        return Beats(_ascending(beats), _ascending(downbeats))

    return track


def _madmom(device: str) -> Tracker:
    """Boeck, Krebs, Widmer 2016, joint beat and downbeat tracking: bars of 3 or 4 beats. On the CPU alone."""
    processors: Any = importlib.import_module("madmom.features.downbeats")
    signal: Any = importlib.import_module("madmom.audio.signal")
    listen = processors.RNNDownBeatProcessor()
    decide = processors.DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)

    def track(path: Path) -> Beats:
        wave, rate = audio.read(path)
        if rate != 44100:
            wave = audio.resample(wave, rate, 44100)
        rows = decide(listen(signal.Signal(wave, sample_rate=44100, num_channels=1)))
        return Beats(_ascending(rows[:, 0]), _ascending(rows[rows[:, 1] == 1, 0]))

    return track


def _librosa(device: str) -> Tracker:
    """Ellis 2007, beat tracking by dynamic programming. It hears no downbeats: these are guessed.

    The guess: bars of four beats, of the four phases the one with the strongest onsets on its beats.
    """
    librosa: Any = importlib.import_module("librosa")

    def track(path: Path) -> Beats:
        wave, rate = audio.read(path)
        wave = audio.resample(wave, rate, 22050)
        strength = librosa.onset.onset_strength(y=wave, sr=22050)
        _, frames = librosa.beat.beat_track(onset_envelope=strength, sr=22050)
        beats = librosa.frames_to_time(frames, sr=22050)
        phase = max(range(4), key=lambda first: float(strength[frames[first::4]].sum()))
        return Beats(_ascending(beats), _ascending(beats[phase::4]))

    return track


def _ascending(times: Any) -> NDArray[np.float64]:
    """Sorted, none twice, none before the start."""
    return np.unique(np.maximum(np.asarray(times, np.float64), 0.0))


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "beat_this", "beat-this", "pip install beat-this",
            "Code under MIT; it downloads its weights at first use: see its page for "
            "their terms. Beats and downbeats; the one that we recommend.",
            _beat_this,
        ),
        Backend(
            "madmom", "madmom", "pip install madmom",
            "Code under BSD; its models under CC BY-NC-SA 4.0, for no commercial purpose. Beats and "
            "downbeats.",
            _madmom,
        ),
        Backend(
            "librosa", "librosa", "pip install librosa",
            "Under ISC. Beats alone; downbeats are guessed, every fourth beat.",
            _librosa,
        ),
    )
}  # fmt: skip
