"""Files -> the waves that features hear: cut, averaged, resampled, levelled, each as the report says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from musicldm import audio
from musicldm.data.track_stats import Samples, normalise

from .examine import Looked

__all__ = ["LOUDNESS", "Excerpt", "Handling", "excerpts"]

LOUDNESS = {
    "as-is": "no change of level",
    "peak": "minus the mean, peak 0.5, as the model's training does",
    "rms": "root mean square 0.1 (-20 dB of full scale); samples may then exceed 1 and are not clipped",
}
RMS = 0.1
SLACK = 0.5  # of a window: what a track may be longer before it is cut in two


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a file, in samples of the file's rate."""

    item: Looked
    start: int
    samples: int

    @property
    def seconds(self) -> tuple[float, float]:
        """From, to."""
        rate = self.item.facts.rate
        return self.start / rate, (self.start + self.samples) / rate

    @property
    def name(self) -> str:
        """As the set names the file; with the place, if it is a part."""
        start, stop = self.seconds
        whole = self.samples == self.item.facts.samples
        return self.item.sound.name if whole else f"{self.item.sound.name} ({start:.2f}-{stop:.2f} s)"


@dataclass(frozen=True)
class Handling:
    """rate: Hz that all clips have before a feature brings them to its own. loudness: of LOUDNESS."""

    rate: int
    loudness: str

    def wave(self, excerpt: Excerpt, rate: int) -> Samples:
        """-> (s,) at `rate`."""
        facts = excerpt.item.facts
        wave, _ = audio.read(excerpt.item.sound.path, excerpt.start, excerpt.start + excerpt.samples)
        if facts.rate != self.rate:
            wave = audio.resample(wave, facts.rate, self.rate)
        wave = self._levelled(wave)
        return audio.resample(wave, self.rate, rate)

    def _levelled(self, wave: Samples) -> Samples:
        if self.loudness == "peak":
            return normalise(wave)
        if self.loudness == "rms":
            level = float(np.sqrt(np.square(wave, dtype=np.float64).mean()))
            return wave * np.float32(RMS / level) if level > 0 else wave
        return wave

    def key(self, excerpt: Excerpt) -> str:
        """All that the wave depends on, but the rate asked for."""
        facts = excerpt.item.facts
        return f"{facts.sha256} {excerpt.start} {excerpt.samples} {self.rate} {self.loudness} soxr-HQ"

    def about(self) -> dict[str, Any]:
        """For the report."""
        return {
            **asdict(self),
            "loudness_means": LOUDNESS[self.loudness],
            "resampler": "soxr, quality HQ",
            "soxr": version("soxr"),
            "order": "decode, average channels, resample to `rate`, level, resample to the feature's rate",
        }


def excerpts(items: list[Looked], seconds: float | None, window: float | None) -> list[Excerpt]:
    """One excerpt of each file, or more of those that are longer than 1.5 windows.

    seconds: the middle of each file, None: all of it. window: in s; a longer file is heard in windows that
    overlap by half, the last one flush with its end.
    """
    found = []
    for item in items:
        length, rate = item.facts.samples, item.facts.rate
        if window and item.facts.seconds > (1 + SLACK) * window:
            size = round(window * rate)
            starts = [*range(0, length - size, max(1, size // 2)), length - size]
            found += [Excerpt(item, start, size) for start in starts]
        else:
            size = length if seconds is None else min(length, round(seconds * rate))
            found.append(Excerpt(item, (length - size) // 2, size))
    return found
