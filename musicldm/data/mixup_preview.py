"""One mix to listen to: both sides, the mix, clicks where the beats are, and what was aligned as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicldm import audio
from musicldm.io.files import write_json

from .manifest import Track
from .mixer import Mixer, Pair
from .mixup import audio_mixup, drift_bound, exact_tempo, residual_offsets
from .seeds import generator
from .track_stats import Measures, Samples, cut

__all__ = ["Example", "find_pair", "write_example"]

CLICK_HZ, DOWNBEAT_HZ = 1000.0, 1600.0
CLICK_SECONDS, CLICK_LEVEL = 0.03, 0.25


@dataclass(frozen=True)
class Example:
    """What `write_example` wrote: `about` is the content of its JSON file."""

    files: list[Path]
    about: dict[str, Any]


def find_pair(
    mixer: Mixer, measures: Measures, seconds: float, seed: int = 0, anchor: str | None = None
) -> tuple[int, Pair]:
    """An anchor's index and a pair for it: of the tracks whose path contains `anchor`, the first drawn that
    has one.

    Raises ValueError saying why there is none.
    """
    named = [index for index, t in enumerate(mixer.tracks) if anchor is None or anchor in t.path.as_posix()]
    if not named:
        raise ValueError(f"mix: no track's path contains {anchor!r}")
    reasons = set()
    for index in generator(seed, "example", 0, 0).permutation(named):
        drawn = mixer.draw(
            int(index),
            generator(seed, "example mix", 0, int(index)),
            seconds,
            lambda track: measures(mixer.tracks[track].path).seconds,
        )
        if isinstance(drawn, Pair):
            return int(index), drawn
        reasons.add(drawn)
    raise ValueError(f"mix: of {len(named)} tracks none can be mixed: {', '.join(sorted(reasons))}")


def write_example(
    folder: Path,
    mixer: Mixer,
    measures: Measures,
    index: int,
    pair: Pair,
    seconds: float,
    *,
    clicks: bool = False,
) -> Example:
    """a.wav, b.wav, mix.wav and mix.json in a folder. clicks: of a's beats on the left, b's on the right of
    mix.wav.

    The clicks sound where the annotations say that beats are: together, if the two are in step.
    """
    anchor, partner = mixer.tracks[index], mixer.tracks[pair.partner]
    rate, samples = measures.rate, round(seconds * measures.rate)
    wave_a = cut(anchor.path, measures(anchor.path), round(pair.start * rate), samples)
    wave_b = cut(partner.path, measures(partner.path), round(pair.partner_start * rate), samples)
    mix = audio_mixup(torch.from_numpy(wave_a), torch.from_numpy(wave_b), pair.lam).numpy()
    sounds: dict[str, Samples] = {"a.wav": wave_a, "b.wav": wave_b, "mix.wav": mix}
    if clicks:
        sides = ((anchor, pair.start), (partner, pair.partner_start))
        sounds["mix.wav"] = np.stack(
            [mix + _clicks(track, start, samples, rate) for track, start in sides], axis=1
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, wave in sounds.items():
        audio.write(folder / name, wave, rate)
    about = _about(mixer, anchor, partner, pair, seconds)
    write_json(folder / "mix.json", about)
    return Example([folder / name for name in (*sounds, "mix.json")], about)


def _clicks(track: Track, start: float, samples: int, rate: int) -> Samples:
    time = np.arange(round(CLICK_SECONDS * rate)) / rate
    fade = CLICK_LEVEL * np.exp(-time / (CLICK_SECONDS / 5))
    wave = np.zeros(samples + len(time), np.float32)
    for times, hertz in ((track.beats, CLICK_HZ), (track.downbeats, DOWNBEAT_HZ)):
        for beat in _inside(times, start, samples / rate):
            at = round(beat * rate)
            wave[at : at + len(time)] = (
                np.sin(2 * np.pi * hertz * time) * fade
            )  # a downbeat's takes the beat's place
    return wave[:samples]


def _about(mixer: Mixer, anchor: Track, partner: Track, pair: Pair, seconds: float) -> dict[str, Any]:
    sides = ((anchor, pair.start), (partner, pair.partner_start))
    about: dict[str, Any] = {"strategy": mixer.strategy, "seconds": seconds, "lambda": round(pair.lam, 6)}
    for name, (track, start) in zip("ab", sides, strict=True):
        about[name] = {
            "path": track.path.as_posix(),
            "captions": list(track.captions),
            "cut_at": round(start, 4),
            "tempo": None if track.beats is None else round(exact_tempo(track.beats), 3),
            "beats": _rounded(_inside(track.beats, start, seconds)),
            "downbeats": _rounded(_inside(track.downbeats, start, seconds)),
        }
    if anchor.beats is None or partner.beats is None:
        return about
    offsets = 1000 * residual_offsets(
        (anchor.beats, partner.beats), (pair.start, pair.partner_start), seconds
    )
    about["offsets_ms"] = [round(float(offset), 1) for offset in offsets]
    about["largest_offset_ms"] = round(float(np.abs(offsets).max()), 1) if len(offsets) else None
    about["median_offset_ms"] = round(float(np.median(np.abs(offsets))), 1) if len(offsets) else None
    tempi = exact_tempo(anchor.beats), exact_tempo(partner.beats)
    if all(tempi):
        about["drift_bound_ms"] = round(1000 * drift_bound(*tempi, seconds), 1)
    return about


def _inside(times: NDArray[np.float64] | None, start: float, seconds: float) -> NDArray[np.float64]:
    """Times of a clip that begins at `start`, from its own beginning."""
    if times is None:
        return np.zeros(0)
    moved = times - start
    return np.maximum(moved[(moved >= -1e-6) & (moved < seconds)], 0.0)


def _rounded(times: NDArray[np.float64]) -> list[float]:
    return [round(float(time), 4) for time in times]
