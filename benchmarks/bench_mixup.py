"""Is beat-synchronous mixup in step on real music? An answer from the annotations, and one from the sound.

Takes a manifest with beats (`musicldm beats`) and mixes every track six times. From the annotations: how far the
beats of the two clips lie apart. From the sound alone, which no beat tracker has seen: the correlation of the two
clips' onset strengths (positive differences of log-mel frames) as they are cut, and with one of them moved by half
a beat. In step, the first is larger.

    python benchmarks/bench_mixup.py MANIFEST [--max-offset 0.06] [--max-bpm 1] [--seconds 10.24]
                                       [--measures DIR]

Writes results/bench_mixup.json.
"""

from __future__ import annotations

import argparse
import json
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import save
from torch import Tensor

from musicldm.data.clips import Clips
from musicldm.data.manifest import read_manifest
from musicldm.data.mixer import Mixer
from musicldm.data.mixup import exact_tempo, residual_offsets
from musicldm.data.track_stats import Measures
from musicldm.mel import log_mel

FRAMES = 100  # mel frames per second
SLACK = 4  # frames on either side of a lag: onsets are softer than clicks


def onset_strength(wave: Tensor) -> Tensor:
    """wave: (s,) -> (t,) mean rise of the log-mel bins, without its slow part, at unit norm."""
    mel = log_mel(wave[None])[0, 0]
    rise = (mel[1:] - mel[:-1]).clamp_min(0).mean(dim=1)
    rise = rise - F.avg_pool1d(rise[None], FRAMES + 1, 1, FRAMES // 2)[0]
    return rise / rise.norm().clamp_min(1e-9)


def correlation(a: Tensor, b: Tensor, lag: int) -> float:
    """The largest within SLACK frames of a lag."""
    lags = range(lag - SLACK, lag + SLACK + 1)
    return max(
        float((a[max(0, k) : len(a) + min(0, k)] * b[max(0, -k) : len(b) - max(0, k)]).sum()) for k in lags
    )


def rounded(values: list[float]) -> float:
    """Their mean, for the eye."""
    return round(float(np.mean(values)), 3)


def alignment(clips: Clips, epochs: int = 6) -> dict[str, Any]:
    """Figures over all mixes of some epochs. The clips are of strategy blm: both sides of a mix are at hand."""
    tracks, offsets, in_step, off_beat = clips.tracks, [], [], []
    outcomes: dict[str, int] = {}
    for epoch in range(epochs):
        for index in range(len(tracks)):
            clip = clips.item(epoch, index)
            outcomes[clip.outcome] = outcomes.get(clip.outcome, 0) + 1
            if clip.pair is None or clip.wave_b is None:
                continue
            beats = tracks[index].beats, tracks[clip.pair.partner].beats
            starts = clip.pair.start, clip.pair.partner_start
            offsets.append(
                np.median(np.abs(residual_offsets(beats, starts, clips.samples / clips.sample_rate)))
            )
            a, b = onset_strength(clip.wave), onset_strength(clip.wave_b)
            half = round(FRAMES * 30 / exact_tempo(beats[0]))
            in_step.append(correlation(a, b, 0))
            off_beat.append((correlation(a, b, half) + correlation(a, b, -half)) / 2)
    better = np.array(in_step) - np.array(off_beat)
    return {
        "outcomes": outcomes,
        "median_offset_ms": {q: round(1000 * float(np.percentile(offsets, int(q))), 1) for q in ("50", "90")},
        "onset_correlation": {
            "in_step": rounded(in_step),
            "half_a_beat_off": rounded(off_beat),
        },
        "share_better_in_step": round(float(np.mean(better > 0)), 3),
        "standard_errors_apart": round(float(better.mean() / (better.std() / np.sqrt(len(better)))), 1),
    }


def main() -> None:
    """Print and store the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--max-offset", type=float, default=inf, help="seconds; default: ask nothing")
    parser.add_argument("--max-bpm", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.24, help="of a clip")
    parser.add_argument("--measures", type=Path, help="folder in which tracks' statistics are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tracks = read_manifest(options.manifest)
    mixer = Mixer(tracks, "blm", probability=1.0, max_bpm=options.max_bpm, max_offset=options.max_offset)
    clips = Clips(
        tracks,
        mixer=mixer,
        measures=Measures(16000, options.measures),
        samples=round(options.seconds * 16000),
    )
    about = {"manifest": options.manifest.name, "tracks": len(tracks), "alignable": mixer.alignable,
             "paired": mixer.paired, "max_bpm": options.max_bpm, "max_offset": options.max_offset if options.max_offset < inf else None}  # fmt: skip
    row = about | alignment(clips)
    print(json.dumps(row, indent=1))
    save("bench_mixup", [row])


if __name__ == "__main__":
    main()
