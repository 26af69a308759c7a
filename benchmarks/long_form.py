"""Minutes of music from one checkpoint: memory, seams, tempo, loops, inversion, in one JSON file.

    python benchmarks/long_form.py --folder DIR [--seconds 10.24,30,60,120] [--steps 50] [--seeds 0,1,2]

- memory: a fresh process for each length, since a process's highest memory never falls: what it takes before
  and after the clip, sampling and decoding by windows, and with --whole also in one piece.
- seams: spectral flux at the joins of windows over the flux elsewhere, as a rank: 0.5 is what a join that
  cannot be told from the music has, 1 a click. Beside it, two controls: windows without overlap, and the same
  measure at places half a window away from the joins.
- tempo: of the first and of the last 20 s of clips of drum prompts, by librosa's beat tracker, if installed.
- loop: the same flux rank where the end meets the beginning, and for a plain clip repeated.
- inversion: latents to noise and back at guidance 1, relative error, by refinements per step.

Without a trained checkpoint the figures say that the program runs, and no more.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import peak_mb, relative, save
from torch import Tensor
from workload import DEVICE, load

from musicldm import MusicLDMPipeline
from musicldm.editing.inversion import invert, plans
from musicldm.editing.long_form import Form, compose, layout_of
from musicldm.sampling import Conditioned, sample
from musicldm.stages import Request

DRUMS = (
    "a steady drum loop, 120 bpm",
    "techno at 128 bpm with drums",
    "rock with drums, 140 bpm",
    "hip hop beat, 90 bpm, with drums",
)
MUSIC = "a calm piano piece with strings"
NEAR = 0.02  # seconds around a join in which its flux is looked for
TEMPO_SECONDS = 20.0
INVERSION_STEPS = 50


def flux(wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """wave: (s,) -> times in seconds and positive spectral flux in dB, every 10 ms."""
    hop = rate // 100
    spectrum = torch.stft(
        torch.from_numpy(wave).float(), 4 * hop, hop, window=torch.hann_window(4 * hop), return_complex=True
    ).abs()
    levels = 20 * torch.log10(spectrum.clamp_min(1e-5 * float(spectrum.max()) + 1e-10))
    rises = levels.diff(dim=1).clamp_min(0).mean(dim=0).numpy()
    return (np.arange(len(rises)) + 0.5) * hop / rate, rises


def rank_at(times: np.ndarray, rises: np.ndarray, places: list[float]) -> float | None:
    """Mean rank, 0 to 1, of the largest flux near each place among the largest near every other place."""
    width = max(1, round(NEAR / (times[1] - times[0])))
    largest = np.array([rises[max(0, k - width) : k + width + 1].max() for k in range(len(rises))])
    inside = [place for place in places if times[0] < place < times[-1]]
    if not inside:
        return None
    found = [largest[np.abs(times - place).argmin()] for place in inside]
    return float(np.mean([(largest < each).mean() + 0.5 * (largest == each).mean() for each in found]))


def joins(pipe: MusicLDMPipeline, form: Form) -> list[float]:
    """Seconds at which one window hands over to the next: the middles of their overlaps."""
    layout, row = layout_of(pipe, form), pipe.grid.seconds(1)
    pairs = zip(layout.starts, layout.starts[1:], strict=False)
    return [(first + layout.size + second) / 2 * row for first, second in pairs]


def tempo(wave: np.ndarray, rate: int) -> float | None:
    """Beats per minute by librosa's beat tracker, in steps of 1.5 % at 110; None where it is not installed."""
    try:
        librosa = importlib.import_module("librosa")
    except ImportError:
        return None
    found = librosa.beat.beat_track(y=wave, sr=rate, hop_length=128)[0]  # 512, its default, steps by 6 %
    return float(np.atleast_1d(found)[0])


def drift(start: float, end: float) -> float:
    """Change of a tempo, octaves folded: a tracker that hears every other beat has heard the same tempo."""
    octaves = math.log2(end / start)
    return abs(2 ** (octaves - round(octaves)) - 1)


def memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per length and way, each from a process of its own."""
    rows = []
    for seconds in options.seconds:
        for way in ("windows", "whole")[: 1 + options.whole]:
            command = [sys.executable, __file__, "--folder", str(options.folder), "--one", way]
            command += ["--seconds", str(seconds), "--steps", "2"]
            if options.window is not None:
                command += ["--window", str(options.window)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            row: dict[str, Any] = {"what": "memory", "way": way, "seconds": seconds}
            failed = {"error": done.stderr[-300:]}
            rows.append(row | (failed if done.returncode else json.loads(done.stdout.splitlines()[-1])))
            print(rows[-1], flush=True)
    return rows


def one(options: argparse.Namespace) -> None:
    """The process that `memory` starts: its last line is what it took."""
    pipe, (seconds,) = load(options.folder), options.seconds
    short = Form(seconds=pipe.grid.seconds(8))
    compose(pipe, Request(prompt=MUSIC, num_inference_steps=1, seed=0), short)  # libraries take theirs
    before, start = peak_mb(), time.perf_counter()
    form = Form(seconds=seconds, window=seconds if options.one == "whole" else options.window)
    compose(pipe, asked(options, MUSIC, 0), form)
    spent = time.perf_counter() - start
    figures = {"before_mb": round(before), "peak_mb": round(peak_mb()), "spent_s": round(spent, 2)}
    print(json.dumps(figures))


def clip(
    pipe: MusicLDMPipeline, options: argparse.Namespace, prompt: str, seed: int, form: Form
) -> np.ndarray:
    """(s,) samples."""
    return compose(pipe, asked(options, prompt, seed), form).audios[0]


def asked(options: argparse.Namespace, prompt: str, seed: int) -> Request:
    """What every clip has in common."""
    return Request(
        prompt=prompt, num_inference_steps=options.steps, guidance_scale=options.guidance, seed=seed
    )


def seams(pipe: MusicLDMPipeline, options: argparse.Namespace, form: Form) -> list[dict[str, Any]]:
    """Joins against the rest of the clip."""
    rows = []
    rate = pipe.grid.rate
    for prompt in (MUSIC, DRUMS[0]):
        for seed in options.seeds:
            for overlap in (0.5, 0.25, 0.0):
                shaped = replace(form, overlap=overlap)
                wave, places = clip(pipe, options, prompt, seed, shaped), joins(pipe, shaped)
                times, rises = flux(wave, rate)
                gap = places[1] - places[0] if len(places) > 1 else places[0]
                row: dict[str, Any] = {"what": "seams", "prompt": prompt, "seed": seed, "overlap": overlap}
                row["rank_at_joins"] = rank_at(times, rises, places)
                row["rank_between_joins"] = rank_at(times, rises, [place + gap / 2 for place in places])
                print(row, flush=True)
                rows.append(row)
    return rows


def tempos(pipe: MusicLDMPipeline, options: argparse.Namespace, form: Form) -> list[dict[str, Any]]:
    """Tempo at both ends of clips of drum prompts."""
    rows = []
    rate = pipe.grid.rate
    for prompt in DRUMS:
        for seed in options.seeds:
            wave = clip(pipe, options, prompt, seed, form)
            ends = min(round(rate * TEMPO_SECONDS), len(wave) // 2)
            start, end = tempo(wave[:ends], rate), tempo(wave[-ends:], rate)
            row = {"what": "tempo", "prompt": prompt, "seed": seed, "start": start, "end": end}
            row["drift"] = drift(start, end) if start and end else None
            print(row, flush=True)
            rows.append(row)
    return rows


def loops(pipe: MusicLDMPipeline, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Flux where a repeated clip begins again."""
    rows = []
    for seed in options.seeds:
        for loop in (True, False):
            wave = clip(pipe, options, DRUMS[0], seed, Form(window=options.window, loop=loop))
            times, rises = flux(np.tile(wave, 3), pipe.grid.rate)
            length = len(wave) / pipe.grid.rate
            row = {
                "what": "loop",
                "seed": seed,
                "loop": loop,
                "rank": rank_at(times, rises, [length, 2 * length]),
            }
            print(row, flush=True)
            rows.append(row)
    return rows


@torch.no_grad()
def inversion(pipe: MusicLDMPipeline, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Latents of the model's own clips, encoded again from the wave, to noise and back."""
    rows = []
    there, back = plans(pipe.scheduler, INVERSION_STEPS)
    wave = clip(pipe, options, MUSIC, options.seeds[0], Form(window=options.window, seconds=options.window))
    latents: Tensor = pipe.encode(wave, pipe.grid.rate)
    denoiser = Conditioned(pipe.unet, pipe.embed_text([MUSIC]).to(latents.device))
    for refinements in (0, 1, 2):
        noise = invert(denoiser, there, latents, refinements=refinements)
        error = relative(sample(denoiser, back, noise), latents)
        row = {"what": "inversion", "steps": INVERSION_STEPS, "refinements": refinements, "relative_error": error,
               "noise_std": float(noise.std())}  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What issue 9 asks, in one place."""
    names = ("memory", "seams", "tempo", "inversion")
    kinds = {kind: [row for row in rows if row["what"] == kind] for kind in names}
    peaks = [
        row["peak_mb"] - row["before_mb"]
        for row in kinds["memory"]
        if row["way"] == "windows" and "peak_mb" in row
    ]
    ranks = [
        row["rank_at_joins"]
        for row in kinds["seams"]
        if row["overlap"] == 0.25 and row["rank_at_joins"] is not None
    ]
    drifts = [row["drift"] for row in kinds["tempo"] if row["drift"] is not None]
    return {
        "memory_over_the_model_mb": peaks,
        "rank_at_joins": round(statistics.mean(ranks), 3) if ranks else None,
        "tempo_drift": round(statistics.median(drifts), 4) if drifts else None,
        "tempo_within_3_percent": [sum(each <= 0.03 for each in drifts), len(drifts)],
        "inversion_relative_error": {row["refinements"]: row["relative_error"] for row in kinds["inversion"]},
    }


def main() -> None:
    """Everything above, saved once at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="a trained checkpoint")
    parser.add_argument("--seconds", default="10.24,30,60,120", help="lengths; the last is that of the seams")
    parser.add_argument("--window", type=float, help="default: the model's own")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--whole", action="store_true", help="measure the memory of undivided clips too")
    parser.add_argument("--one", choices=("windows", "whole"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = [float(each) for each in options.seconds.split(",")]
    options.seeds = [int(each) for each in options.seeds.split(",")]
    if options.one:
        one(options)
        return
    pipe = load(options.folder)
    form = Form(seconds=options.seconds[-1], window=options.window)
    rows = [*memory(options), *tempos(pipe, options, form), *seams(pipe, options, form)]
    rows += [*loops(pipe, options), *inversion(pipe, options)]
    save("long_form", rows, device=DEVICE, summary=summary(rows))


if __name__ == "__main__":
    main()
