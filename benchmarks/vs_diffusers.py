"""Twins against Diffusers 0.33.1: the same weights, noise, steps, precision and length, in one run.

In the parity environment (pip install ".[parity]"):

    python benchmarks/vs_diffusers.py modules   [--folder DIR] [--rounds 5]
    python benchmarks/vs_diffusers.py compiled  [--folder DIR] [--rounds 5]
    python benchmarks/vs_diffusers.py pipeline  [--folder DIR] [--rounds 3] [--steps 20]
    python benchmarks/vs_diffusers.py memory    [--folder DIR] [--rounds 3]

Every ratio is against Diffusers in eager float32 in the same round (`modules --dtype`: in that precision); every
row says how far the output is from ours in eager float32 (in that precision). DIR holds a checkpoint of the
published size; without one it is made, with random weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from harness import figures, in_turn, peak_mb, relative, save_speed, spectral_distance
from published import make
from torch import Tensor
from workload import DEVICE, DTYPES, MODULES, SECONDS, calls, inputs, load, noise

from musicldm import MusicLDMPipeline

PROMPT = "melodic techno with a fast beat and synths"
INTERVAL = (200, 800)
REUSE = 3


def theirs(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Diffusers' pipeline with the solver of `workload.load`, DPM-Solver++ (2M)."""
    pipe = diffusers.MusicLDMPipeline.from_pretrained(folder, torch_dtype=dtype).to(DEVICE)
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def their_calls(
    pipe: Any, our: MusicLDMPipeline, dtype: torch.dtype, seconds: float
) -> dict[str, Callable[[], Tensor]]:
    """Diffusers' three networks on what ours get in `workload.calls`."""
    given, t = inputs(our, dtype, seconds), torch.tensor(500, device=DEVICE)
    scale = pipe.vae.config.scaling_factor
    functions: tuple[Callable[[], Tensor], ...] = (
        lambda: pipe.unet(given["x"], t, None, class_labels=given["cond"]).sample,
        lambda: pipe.vae.decode(given["latents"] / scale).sample,
        lambda: pipe.vocoder(given["mel"]),
    )
    return dict(zip(MODULES, functions, strict=True))


def contest(
    contestants: dict[str, dict[str, Callable[[], Tensor]]], options: argparse.Namespace, file: str
) -> None:
    """A row per module and contestant; the first contestant is the base of the ratios, the second the oracle.

    Saved as FILE.json after each module.
    """
    base, oracle = list(contestants)[:2]
    rows: list[dict[str, Any]] = []
    for what in contestants[base]:
        fields = {name: functions[what] for name, functions in contestants.items()}
        times = in_turn(fields, options.rounds)
        with torch.no_grad():
            expected = fields[oracle]()
            for name, function in fields.items():
                row = {
                    "what": what,
                    "who": name,
                    **figures(times[name], times[base]),
                    "difference": relative(function(), expected),
                }
                print(row, flush=True)
                rows.append(row)
        save_speed(file, rows, seconds_of_audio=options.clip)


def modules(options: argparse.Namespace) -> None:
    """Eager against eager, in one precision."""
    dtype, how = DTYPES[options.dtype], f"eager {options.dtype}"
    our = load(options.folder, dtype)
    layout = load(options.folder, dtype).to(memory_format=torch.channels_last)
    contestants = {
        f"Diffusers, {how}": their_calls(theirs(options.folder, dtype), our, dtype, options.clip),
        f"ours, {how}": calls(our, dtype, options.clip),
        f"ours, {how}, channels-last": calls(layout, dtype, options.clip),
    }
    suffix = "" if options.dtype == "float32" else f"_{options.dtype}"
    contest(contestants, options, f"vs_diffusers_modules{suffix}")


def compiled(options: argparse.Namespace) -> None:
    """Compiled bfloat16, ours and theirs, against eager float32."""
    half, backend = torch.bfloat16, options.backend
    our, their_half, our_half = load(options.folder), theirs(options.folder, half), load(options.folder, half)
    for network in (their_half.unet, their_half.vae.decoder, their_half.vocoder):
        network.compile(backend=backend)
    layout = load(options.folder, half).to(memory_format=torch.channels_last)
    for pipe in (our_half, layout):
        pipe.compile(backend=backend)
        pipe.unet.compile(fullgraph=True, backend=backend)  # by itself, without guidance and solver
    contestants = {
        "Diffusers, eager float32": their_calls(theirs(options.folder), our, torch.float32, options.clip),
        "ours, eager float32": calls(our, torch.float32, options.clip),
        "ours, compiled bfloat16": calls(our_half, half, options.clip),
        "ours, compiled bfloat16, channels-last": calls(layout, half, options.clip),
        "Diffusers, compiled bfloat16": their_calls(their_half, our_half, half, options.clip),
        "ours, eager bfloat16": calls(load(options.folder, half), half, options.clip),
    }
    contest(contestants, options, "vs_diffusers_compiled")


def clips_of(options: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """Prompt to waveform by each contestant, from the same noise; output_type as the pipelines have it."""
    folder, half = options.folder, torch.bfloat16
    their, our, eager, fast = theirs(folder), load(folder), load(folder, half), load(folder, half)
    fast.compile(backend=options.backend)
    brief = {"guidance_interval": INTERVAL, "feature_reuse": REUSE}
    call = {
        "num_inference_steps": options.steps,
        "audio_length_in_s": options.clip,
        "latents": noise(our, options.clip),
    }

    def run(pipe: Any, **extra: Any) -> Any:
        return pipe(PROMPT, **{**call, "latents": call["latents"].clone()}, **extra).audios

    return {
        "Diffusers, eager float32": partial(run, their),
        "ours, eager float32": partial(run, our),
        "ours, eager bfloat16": partial(run, eager),
        "ours, compiled bfloat16": partial(run, fast),
        "ours, compiled bfloat16, interval and reuse": partial(run, fast, **brief),
        "ours, eager float32, interval and reuse": partial(run, our, **brief),
    }


def pipeline(options: argparse.Namespace) -> None:
    """Prompt to waveform: time, and how far latents and audio are from eager float32."""
    contestants = clips_of(options)
    timed = dict(list(contestants.items())[:-1])  # the last is the approximation's oracle in float32
    times = in_turn(timed, options.rounds)
    base, oracle = list(contestants)[:2]
    expected = {kind: torch.as_tensor(contestants[oracle](output_type=kind)) for kind in ("latent", "pt")}
    rows = []
    for name, function in contestants.items():
        latents, wave = (torch.as_tensor(function(output_type=kind)) for kind in ("latent", "pt"))
        row = {"what": f"prompt to waveform, {options.steps} steps", "who": name}
        if name in times:
            row |= {
                **figures(times[name], times[base]),
                "real_time_factor": round(statistics.median(times[name]) / options.clip, 3),
            }
        row |= {
            "latents_difference": relative(latents, expected["latent"]),
            "spectral_distance_db": spectral_distance(wave, expected["pt"]),
        }
        print(row, flush=True)
        rows.append(row)
        save_speed(
            "vs_diffusers_pipeline", rows, interval=INTERVAL, reuse=REUSE, seconds_of_audio=options.clip
        )


LONG = 60 / SECONDS  # times as long as a training clip
MEMORY = {  # name -> (whose, length over --clip)
    "Diffusers, {:g} s": ("theirs", 1),
    "ours, {:g} s": ("ours", 1),
    "ours, {:.3g} s": ("ours", LONG),
    "ours, decode only, {:g} s": ("decode", 1),
    "ours, decode only, {:.3g} s": ("decode", LONG),
}


def memory(options: argparse.Namespace) -> None:
    """Each contestant in a process of its own; 2 steps, since memory does not depend on them."""
    peaks: dict[str, list[int]] = {
        name.format(times * options.clip): [] for name, (_, times) in MEMORY.items()
    }
    for _ in range(options.rounds):
        for name, (whose, times) in zip(peaks, MEMORY.values(), strict=True):
            command = [sys.executable, __file__, "one", "--folder", str(options.folder)]
            command += ["--whose", whose, "--clip", str(times * options.clip)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[name].append(json.loads(out.splitlines()[-1])["peak_mb"])
            print(name, peaks[name][-1], flush=True)
    rows = [
        {"who": name, "peak_mb": round(statistics.median(all_)), "min_mb": min(all_), "max_mb": max(all_)}
        for name, all_ in peaks.items()
    ]
    save_speed("vs_diffusers_memory", rows)


def one(options: argparse.Namespace) -> None:
    """One contestant of `memory`, in its own process."""
    if options.whose == "decode":
        pipe = load(options.folder)
        loaded = peak_mb()
        with torch.no_grad():
            pipe.decode(noise(pipe, options.clip))
    else:
        pipe = {"ours": load, "theirs": theirs}[options.whose](options.folder)
        loaded = peak_mb()
        pipe(PROMPT, num_inference_steps=2, audio_length_in_s=options.clip)
    print(json.dumps({"loaded_mb": round(loaded), "peak_mb": round(peak_mb())}))


def main() -> None:
    """Run one of the four; `one` is a process of `memory`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("modules", "compiled", "pipeline", "memory", "one"))
    parser.add_argument(
        "--folder", type=Path, help="a checkpoint; default: one of the published size is made"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--clip", type=float, default=SECONDS, help="seconds of audio")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of `modules`")
    parser.add_argument("--backend", default="inductor", help="torch.compile's; eager to test this program")
    parser.add_argument("--whose", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = make(options.folder or Path(temporary))
        {"modules": modules, "compiled": compiled, "pipeline": pipeline, "memory": memory, "one": one}[
            options.what
        ](options)


if __name__ == "__main__":
    main()
