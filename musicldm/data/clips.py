"""Clips: what each item of each epoch is, whoever asks, in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .manifest import Track
from .mixer import Mixer, Pair
from .mixup import audio_mixup
from .seeds import generator
from .track_stats import Measures, Samples, cut, cut_raw, normalise

__all__ = ["Clip", "Clips"]

ENOUGH = 100  # samples that both tracks must have after their downbeats, in the authors' mixup


@dataclass(frozen=True, eq=False)
class Clip:
    """One item of training.

    wave: (s,) float32, mixed already where waves are mixed; start: where it begins in its track, in seconds.
    wave_b: (s,) what the latents are to be mixed with (BLM), lam being the share of `wave`; else None and 1.
    outcome: "mixed", or why not (see `Mixer.draw`). pair: how it was mixed.
    key: names the samples of `wave`: equal keys, equal samples; key_b: those of `wave_b`, or of `wave`.
    """

    wave: Tensor
    caption: str
    path: Path
    start: float
    key: str
    outcome: str
    pair: Pair | None = None
    wave_b: Tensor | None = None
    key_b: str = ""
    lam: float = 1.0


class Clips:
    """Tracks, each with one clip an epoch: `item(e, k)` depends on them, the settings, seed, e and k alone.

    sample_rate in Hz, samples per clip. training: random crops, one of the captions at random, mixing; else
    the middle of the track, the first caption, never mixed. Tracks are normalised whole before they are cut,
    short ones zero-padded at the end.
    mixer: over the same tracks. measures: shares the tracks' statistics with `check_tracks`, or keeps them on
    the disk; without it every process decodes each track once more before its first clip.
    repeat_after: epoch e brings the clips of epoch e modulo this, in an order of its own, so that caches are
    hit.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        sample_rate: int = 16000,
        samples: int = 163840,
        seed: int = 0,
        *,
        training: bool = True,
        mixer: Mixer | None = None,
        measures: Measures | None = None,
        repeat_after: int | None = None,
    ) -> None:
        if not tracks:
            raise ValueError("Clips: got no tracks")
        if samples < 1 or sample_rate < 1 or (repeat_after is not None and repeat_after < 1):
            raise ValueError(
                f"Clips: got {samples} samples at {sample_rate} Hz, repeat_after {repeat_after}; "
                "expected 1 or more"
            )
        if mixer is not None and list(mixer.tracks) != list(tracks):
            raise ValueError("Clips: the mixer was made for other tracks; make it from the same list")
        if measures is not None and measures.rate != sample_rate:
            raise ValueError(f"Clips: got measures at {measures.rate} Hz, expected {sample_rate} Hz")
        self.tracks = tracks
        self.sample_rate = sample_rate
        self.samples = samples
        self.seed = seed
        self.training = training
        self.mixer = mixer if training else None
        self.measures = measures or Measures(sample_rate)
        self.repeat_after = repeat_after

    def __len__(self) -> int:
        return len(self.tracks)

    def item(self, epoch: int, index: int) -> Clip:
        """The clip of track `index` in an epoch. Raises ValueError naming a file that cannot be read."""
        drawn = epoch % self.repeat_after if self.repeat_after else epoch
        pair: Pair | str = "off"
        if self.mixer is not None:
            chance = generator(self.seed, "mix", drawn, index)
            pair = self.mixer.draw(index, chance, self.samples / self.sample_rate, self._seconds)
        if isinstance(pair, Pair):
            mixed = self._mixed(drawn, index, pair)
            if mixed is not None:
                return mixed
            pair = "too short"
        start = self._crop(drawn, index, self.measures(self.tracks[index].path).samples)
        wave, key = self._cut(index, start)
        return self._clip(drawn, index, start, wave, key, outcome=pair)

    def _clip(
        self, drawn: int, index: int, start: int, wave: Tensor, key: str, *,
        outcome: str, pair: Pair | None = None, wave_b: Tensor | None = None, key_b: str = "",
        lam: float = 1.0,
    ) -> Clip:  # fmt: skip
        return Clip(
            wave=wave, caption=self._caption(drawn, index), path=self.tracks[index].path,
            start=start / self.sample_rate, key=key, outcome=outcome, pair=pair, wave_b=wave_b, key_b=key_b,
            lam=lam,
        )  # fmt: skip

    def _mixed(self, drawn: int, index: int, pair: Pair) -> Clip | None:
        assert self.mixer is not None
        start = round(pair.start * self.sample_rate)
        partner_start = round(pair.partner_start * self.sample_rate)
        if self.mixer.strategy == "bam" and self.mixer.crop == "authors":
            return self._authors_mix(drawn, index, pair, start, partner_start)
        wave, key = self._cut(index, start)
        other, other_key = self._cut(pair.partner, partner_start)
        if self.mixer.strategy == "blm":
            return self._clip(
                drawn, index, start, wave, key,
                outcome="mixed", pair=pair, wave_b=other, key_b=other_key, lam=pair.lam,
            )  # fmt: skip
        mix = audio_mixup(wave, other, pair.lam)
        key = _key(key, other_key, pair.lam)
        return self._clip(drawn, index, start, mix, key, outcome="mixed", pair=pair)

    def _authors_mix(self, drawn: int, index: int, pair: Pair, start: int, partner_start: int) -> Clip | None:
        """All that follows the two downbeats, mixed at the files' own levels, normalised, then cut at
        random."""
        paths = self.tracks[index].path, self.tracks[pair.partner].path
        stats = self.measures(paths[0]), self.measures(paths[1])
        length = min(stats[0].samples - start, stats[1].samples - partner_start)
        if length <= ENOUGH:
            return None
        wave, other = (
            cut_raw(paths[0], stats[0], start, length),
            cut_raw(paths[1], stats[1], partner_start, length),
        )
        mix: Samples = normalise(
            audio_mixup(torch.from_numpy(wave), torch.from_numpy(other), pair.lam).numpy()
        )
        at = self._crop(drawn, index, length)
        clip = torch.zeros(self.samples)
        clip[: max(0, length - at)] = torch.from_numpy(mix[at : at + self.samples])
        key = _key(
            stats[0].sha256,
            stats[1].sha256,
            start,
            partner_start,
            at,
            pair.lam,
            self.samples,
            self.sample_rate,
        )
        return self._clip(drawn, index, start + at, clip, key, outcome="mixed", pair=pair)

    def _crop(self, drawn: int, index: int, length: int) -> int:
        spare = max(0, length - self.samples)
        if not self.training:
            return spare // 2
        return int(generator(self.seed, "crop", drawn, index).integers(spare + 1))

    def _cut(self, index: int, start: int) -> tuple[Tensor, str]:
        path = self.tracks[index].path
        stats = self.measures(path)
        wave = torch.from_numpy(cut(path, stats, start, self.samples))
        return wave, _key(stats.sha256, start, self.samples, self.sample_rate)

    def _caption(self, drawn: int, index: int) -> str:
        captions = self.tracks[index].captions
        if len(captions) < 2 or not self.training:
            return captions[0] if captions else ""
        return captions[int(generator(self.seed, "caption", drawn, index).integers(len(captions)))]

    def _seconds(self, index: int) -> float:
        return self.measures(self.tracks[index].path).seconds


def _key(*parts: object) -> str:
    return hashlib.blake2b(" ".join(map(repr, parts)).encode(), digest_size=16).hexdigest()
