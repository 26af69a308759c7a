"""A manifest -> the clips of a run, as the loop asks for them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musicldm.data.clips import Clips
from musicldm.data.folders import tracks_from_folder
from musicldm.data.manifest import Track, read_manifest
from musicldm.data.mixer import Mixer
from musicldm.data.track_checks import check_tracks
from musicldm.data.track_stats import Measures
from musicldm.io.cache import Cache
from musicldm.mel import MUSICLDM_16K

from .config import ConfigError
from .remembered import NOTHING, Store
from .settings import Data, Mixup, RunConfig

__all__ = ["ClipSource", "cache_folder", "clip_samples", "clip_store", "refuse_latent_mixup", "sources"]

log = logging.getLogger(__name__)


class ClipSource:
    """Clips under the names that stages read.

    wave: (s,) float32, mixed where waves are mixed. wave_b: (s,) and lam: the partner and the share of `wave`
    for latent mixup; lam is 1 where nothing is mixed. caption. key, key_b: name what the waves hold. outcome:
    "mixed", or why not. file: for error messages.
    """

    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def item(self, epoch: int, index: int) -> Mapping[str, Any]:
        """Raises ValueError naming a file that cannot be read."""
        clip = self.clips.item(epoch, index)
        file = f"{clip.path} at {clip.start:.2f} s"
        if clip.pair is not None:
            file += f" (mixed with {self.clips.tracks[clip.pair.partner].path})"
        return {
            "wave": clip.wave,
            "wave_b": clip.wave if clip.wave_b is None else clip.wave_b,
            "lam": float(clip.lam),
            "caption": clip.caption,
            "key": clip.key,
            "key_b": clip.key_b or clip.key,
            "outcome": clip.outcome,
            "file": file,
        }


def clip_samples(seconds: float, factor: int) -> int:
    """Samples of a clip whose mel frames are a multiple of `factor`. Raises ValueError if they are not."""
    rate, hop = MUSICLDM_16K.sampling_rate, MUSICLDM_16K.hop_length
    samples = round(seconds * rate)
    step = hop * factor
    if samples < step or samples % step:
        nearest = max(1, round(samples / step)) * step / rate
        raise ValueError(
            f"data.seconds: got {seconds:g}, expected a multiple of {step / rate:g} (the networks take whole "
            f"groups of {factor} mel frames); the nearest is {nearest:g}"
        )
    return samples


def sources(config: RunConfig, factor: int) -> tuple[ClipSource, ClipSource | None]:
    """The clips to train on and the held-out ones (None without a split for them), every file looked at.

    factor: mel frames that the networks take together. Raises ValueError with all that is wrong.
    """
    data = config.data
    samples = clip_samples(data.seconds, factor)
    measures = Measures(MUSICLDM_16K.sampling_rate, cache_folder(config) / "sound")
    train = _checked(_tracks(data, data.split), data, measures)
    mixer = _mixer(train, config.mixup)
    repeat = data.repeat_after or None
    settings: dict[str, Any] = {"samples": samples, "seed": config.seed, "measures": measures}
    clips = Clips(train, mixer=mixer, repeat_after=repeat, **settings)
    if not data.held_out:
        return ClipSource(clips), None
    kept = _checked(_tracks(data, data.held_out), data, measures)
    return ClipSource(clips), ClipSource(Clips(kept, training=False, **settings))


def refuse_latent_mixup(mixup: Mixup) -> None:
    """For stages that train on waves. Raises ConfigError."""
    if mixup.strategy == "blm":
        raise ConfigError(
            'mixup.strategy "blm": latents are mixed in the ldm stage alone; waves are by "bam" or "plain"'
        )


def cache_folder(config: RunConfig) -> Path:
    """Where a run keeps what it computes once."""
    return Path(config.data.cache) if config.data.cache else Path(config.output) / "cache"


def clip_store(config: RunConfig) -> Store:
    """Only clips that come again are worth keeping: random crops do not, unless `repeat_after` says so."""
    return Cache(cache_folder(config) / "clips") if config.data.repeat_after else NOTHING


def _tracks(data: Data, split: str) -> Sequence[Track]:
    source = Path(data.manifest)
    if not source.is_dir():
        return read_manifest(source, split)
    found = tracks_from_folder(source, data.validation)
    if found.left:
        log.warning(
            "%s: %d files in formats that are not read, such as %s", source, len(found.left), found.left[0]
        )
    chosen = [track for track in found.tracks if track.split == split]
    if not chosen:
        raise ValueError(
            f"{source}: no file is in split {split!r}; of a folder, data.validation is the share of "
            "'validation', the rest is 'train'"
        )
    return chosen


def _checked(tracks: Sequence[Track], data: Data, measures: Measures) -> list[Track]:
    threads = min(8, os.cpu_count() or 1)  # each decodes a file
    log.info("%s: %d files are read once (data.cache keeps their levels)", data.manifest, len(tracks))
    return check_tracks(tracks, data.shortest, policy=data.bad_files, measures=measures, workers=threads)


def _mixer(tracks: Sequence[Track], mixup: Mixup) -> Mixer | None:
    if mixup.strategy == "none":
        return None
    mixer = Mixer(
        tracks,
        mixup.strategy,
        probability=mixup.probability,
        alpha=mixup.alpha,
        pairs=mixup.pairs,
        max_bpm=mixup.max_bpm,
        fold=mixup.fold,
        crop=mixup.crop,
        max_offset=mixup.max_offset,
    )
    if mixup.strategy != "plain":
        log.info("mixup: %d of %d tracks have a partner of their tempo", mixer.paired, len(tracks))
    return mixer
