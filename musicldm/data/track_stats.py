"""Sound files as normalised mono waves at one rate, decoded only where a clip is cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicldm import audio
from musicldm.io.cache import StatCache
from musicldm.io.files import file_digest

__all__ = ["Measures", "Stats", "cut", "cut_raw", "measure", "normalise"]

Samples = NDArray[np.float32]
CUT_OFF = 1.0  # s that may be missing: published Ogg files lack a fraction of what their last page says
MARGIN = 0.1  # s decoded on either side of a cut: more than the resampling filter reaches


@dataclass(frozen=True)
class Stats:
    """What the whole track is divided by, at one rate, and what names its bytes.

    samples: at `rate` (Hz), after resampling; mean, peak: of these, the peak after the mean is gone.
    file_samples, file_rate: as the file has them. sha256: of the file.
    """

    samples: int
    rate: int
    mean: float
    peak: float
    file_samples: int
    file_rate: int
    sha256: str

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.rate


def measure(path: Path, rate: int) -> Stats:
    """Decode a file once, in pieces, whatever its length. Raises ValueError for one that cannot be read."""
    about = audio.header(path)
    counted = 0

    def pieces() -> Iterator[Samples]:
        nonlocal counted
        for piece in audio.blocks(path):
            counted += len(piece)
            yield piece

    samples, total, low, high = 0, 0.0, math.inf, -math.inf
    for piece in audio.resample_blocks(pieces(), about.rate, rate):
        if len(piece):
            samples += len(piece)
            total += float(piece.sum(dtype=np.float64))
            low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    if not samples:
        raise ValueError(f"{path}: holds no samples")
    lost = (about.samples - counted) / about.rate
    if lost > CUT_OFF and about.format != "MP3":  # an MP3's header may only estimate its length
        raise ValueError(f"{path}: cut off: {counted} samples could be read, its header says {about.samples}")
    mean = total / samples
    return Stats(
        samples=samples,
        rate=rate,
        mean=mean,
        peak=max(high - mean, mean - low),
        file_samples=counted,
        file_rate=about.rate,
        sha256=file_digest(path)[0],
    )


class Measures:
    """`measure`, remembered: in memory, and in a folder, by each file's state, if one is given."""

    def __init__(self, rate: int, folder: Path | None = None) -> None:
        self.rate = rate
        self._kept = None if folder is None else StatCache(folder, Stats, str(rate))
        self._known: dict[Path, Stats] = {}

    def __call__(self, path: Path) -> Stats:
        """Raises ValueError for a file that cannot be read."""
        if path not in self._known:
            self._known[path] = self._made(path)
        return self._known[path]

    def _made(self, path: Path) -> Stats:
        if self._kept is None:
            return measure(path, self.rate)
        try:
            return self._kept.get(path, lambda path: measure(path, self.rate))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def cut(path: Path, stats: Stats, start: int, samples: int) -> Samples:
    """-> (samples,) from sample `start` of the normalised track at `stats.rate`; zeros after its end.

    Normalised as a whole track is (`mel.normalize_track`): minus its mean, peak 0.5, then cut.
    """
    wave = np.zeros(samples, np.float32)
    found = cut_raw(path, stats, start, min(samples, stats.samples - start))
    if stats.peak > 0:
        wave[: len(found)] = (found - np.float32(stats.mean)) * np.float32(0.5 / stats.peak)
    return wave


def cut_raw(path: Path, stats: Stats, start: int, samples: int) -> Samples:
    """-> (samples,) as the file has them, resampled: what `audio.resample` of the whole file has there.

    Decoding starts at a sample that both rates share, so that a part is resampled with the whole's phase.
    """
    if samples <= 0:
        return np.zeros(0, np.float32)
    common = math.gcd(stats.file_rate, stats.rate)
    ours, theirs = stats.rate // common, stats.file_rate // common
    margin = int(MARGIN * stats.rate)
    first = max(0, start - margin) // ours  # in steps of `ours` samples of our rate, `theirs` of the file's
    last = -(-(start + samples + margin) // ours)
    wave, _ = audio.read(path, first * theirs, last * theirs)
    if stats.file_rate != stats.rate:
        wave = audio.resample(wave, stats.file_rate, stats.rate)
    wave = wave[start - first * ours :][:samples]
    return np.pad(wave, (0, samples - len(wave)))


def normalise(wave: Samples) -> Samples:
    """wave: (s,) -> (s,) with zero mean and peak 0.5; silence stays silence."""
    wave = wave - wave.mean(dtype=np.float64).astype(np.float32)
    peak = np.abs(wave).max(initial=0.0)
    return wave * np.float32(0.5 / peak) if peak > 0 else wave
