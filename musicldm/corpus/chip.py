"""A home computer of the eighties: pulse waves, a triangle bass and a noise generator, in NumPy.

Each channel is a wave read at the note's frequency, without filters, as that hardware did; it runs at four
times the output's rate so that the folding stays low.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from musicldm import audio

from .clip import Clip, Played
from .score import Note

__all__ = ["chip_sound"]

OVERSAMPLING = 4
LEVELS = {"lead": 0.24, "bass": 0.42, "arpeggio": 0.20, "drums": 0.42}
VIBRATO = (5.5, 0.006, 0.18)  # Hz, share of the frequency, seconds until it begins
DUTIES = (0.5, 0.25, 0.125)

Samples = NDArray[np.float32]
Wave = NDArray[np.float64]


def chip_sound(clip: Clip, samples: int, rate: int) -> Samples:
    """-> (s,) at `rate` Hz, not normalised. The same score gives the same samples."""
    fast = rate * OVERSAMPLING
    wave = np.zeros(samples * OVERSAMPLING)
    for part in clip.parts:
        level = LEVELS[part.role]
        for note in part.notes:
            start = round(note.start * fast)
            sound = _note(part, note, fast) * level * (0.5 + note.velocity / 200)
            skipped = max(0, -start)
            room = wave[max(start, 0) : max(start, 0) + max(len(sound) - skipped, 0)]
            room += sound[skipped : skipped + len(room)]
    return audio.resample(wave.astype(np.float32), fast, rate)[:samples]


def _note(part: Played, note: Note, rate: int) -> Wave:
    if part.role == "drums":
        return _drum(note, rate)
    time = np.arange(max(1, round(note.length * rate))) / rate
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    if part.role == "bass":
        return _steps(2 * np.abs(2 * (frequency * time % 1) - 1) - 1) * _edges(len(time), rate)
    duty = DUTIES[zlib.crc32(repr(part.notes[0]).encode()) % 3 if part.role == "lead" else 1]
    hertz, depth, delay = VIBRATO
    bend = depth * np.sin(2 * np.pi * hertz * time) * (time > delay) if part.role == "lead" else 0.0
    phase = np.cumsum(frequency * (1 + bend) * np.ones_like(time)) / rate
    fall = np.maximum(1 - time * 0.9, 0.45) if part.role == "lead" else np.exp(-time * 9)
    return np.where(phase % 1 < duty, 1.0, -1.0) * _steps(fall) * _edges(len(time), rate)


def _steps(wave: Wave) -> Wave:
    """To 16 levels, as a four-bit register has."""
    return np.round(wave * 7.5) / 7.5


def _edges(length: int, rate: int) -> Wave:
    """A millisecond up, a millisecond down."""
    ramp = np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.001 * rate)
    return np.minimum(ramp, 1.0)


def _drum(note: Note, rate: int) -> Wave:
    """Kick: a falling triangle. The others: noise that is held for some samples and dies away."""
    seconds, hold, voice = {
        36: (0.14, 0, _kick),
        38: (0.16, 12, _noise),
        42: (0.04, 4, _noise),
        46: (0.14, 4, _noise),
    }.get(note.pitch, (0.1, 8, _noise))
    return voice(round(seconds * rate), hold, rate)


def _kick(length: int, hold: int, rate: int) -> Wave:
    time = np.arange(length) / rate
    phase = np.cumsum(45 + 180 * np.exp(-time * 35)) / rate
    return 1.6 * (2 * np.abs(2 * (phase % 1) - 1) - 1) * np.exp(-time * 14)


def _noise(length: int, hold: int, rate: int) -> Wave:
    raw = np.random.default_rng(hold).uniform(-1, 1, length // hold + 1)
    time = np.arange(length) / rate
    return np.repeat(raw, hold)[:length] * np.exp(-time * 5 / (length / rate)) * 0.8
