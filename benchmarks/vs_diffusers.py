"""Twins against Diffusers 0.33.1: the same weights, noise, steps, precision and length, in one run.

In the parity environment (pip install ".[parity]"):

    python benchmarks/vs_diffusers.py modules   [--folder DIR] [--rounds 5]
    python benchmarks/vs_diffusers.py compiled  [--folder DIR] [--rounds 5]
    python benchmarks/vs_diffusers.py pipeline  [--folder DIR] [--rounds 3] [--steps 20]
    python benchmarks/vs_diffusers.py memory    [--folder DIR]

Every ratio is against Diffusers in eager float32 in the same round (`modules --dtype`: in that precision); every
row says how far the output is from that of eager float32 (in that precision). DIR holds a checkpoint of the published size; without one it is made, with random weights.
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
from harness import command_line, figures, in_turn, peak_mb, relative, save, spectral_distance
from published import make
from torch import Tensor
from workload import DTYPES

from musicldm import MusicLDMPipeline
from musicldm.schedulers import DPMSolver

PROMPT = "melodic techno with a fast beat and synths"
INTERVAL = (200, 800)
REUSE = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def ours(folder: Path, dtype: torch.dtype = torch.float32) -> MusicLDMPipeline:
    """Our pipeline with DPM-Solver++ (2M)."""
    pipe = MusicLDMPipeline.from_pretrained(folder, torch_dtype=dtype).to(DEVICE)
    pipe.scheduler = DPMSolver.from_config(pipe.scheduler)
    return pipe


def theirs(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Theirs with the same solver."""
    pipe = diffusers.MusicLDMPipeline.from_pretrained(folder, torch_dtype=dtype).to(DEVICE)
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def inputs(dtype: torch.dtype) -> dict[str, Tensor]:
    """What a guided step, the decoder and the vocoder get for a clip of 10.24 s."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    cond = torch.nn.functional.normalize(draw(2, 512), dim=-1)
    made = {
        "x": draw(2, 8, 256, 16),
        "cond": cond,
        "latents": draw(1, 8, 256, 16),
        "mel": 2 * draw(1, 1024, 64) - 4,
    }
    return {name: tensor.to(DEVICE, dtype) for name, tensor in made.items()}


def modules_of_ours(pipe: MusicLDMPipeline, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """The three networks at work on `inputs`."""
    given, t = inputs(dtype), torch.tensor(500, device=DEVICE)
    return {
        "U-Net guided step": lambda: pipe.unet(given["x"], t, given["cond"]),
        "VAE decode": lambda: pipe.vae.decode(given["latents"]),
        "vocoder": lambda: pipe.vocoder(given["mel"]),
    }


def modules_of_theirs(pipe: Any, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """The same of theirs."""
    given, t = inputs(dtype), torch.tensor(500, device=DEVICE)
    scale = pipe.vae.config.scaling_factor
    return {
        "U-Net guided step": lambda: pipe.unet(given["x"], t, None, class_labels=given["cond"]).sample,
        "VAE decode": lambda: pipe.vae.decode(given["latents"] / scale).sample,
        "vocoder": lambda: pipe.vocoder(given["mel"]),
    }


def contest(
    contestants: dict[str, dict[str, Callable[[], Tensor]]], rounds: int, file: str
) -> list[dict[str, Any]]:
    """A row per module and contestant; the first contestant is the base of the ratios, the second the oracle.

    Saved as results/FILE.json after each module.
    """
    base, oracle = list(contestants)[:2]
    rows = []
    for what in contestants[base]:
        fields = {name: functions[what] for name, functions in contestants.items()}
        times = in_turn(fields, rounds)
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
        save(file, rows, command=command_line())
    return rows


def modules(options: argparse.Namespace) -> None:
    """Eager against eager, in one precision."""
    dtype, how = DTYPES[options.dtype], f"eager {options.dtype}"
    layout = ours(options.folder, dtype).to(memory_format=torch.channels_last)
    contestants = {
        f"Diffusers, {how}": modules_of_theirs(theirs(options.folder, dtype), dtype),
        f"ours, {how}": modules_of_ours(ours(options.folder, dtype), dtype),
        f"ours, {how}, channels-last": modules_of_ours(layout, dtype),
    }
    suffix = "" if options.dtype == "float32" else f"_{options.dtype}"
    contest(contestants, options.rounds, f"vs_diffusers_modules{suffix}")


def compiled(options: argparse.Namespace) -> None:
    """Compiled bfloat16, ours and theirs, against eager float32."""
    half = torch.bfloat16
    their_half, our_half = theirs(options.folder, half), ours(options.folder, half).compile()
    their_half.unet.compile()
    their_half.vae.decoder.compile()
    their_half.vocoder.compile()
    our_half.unet.compile(fullgraph=True)  # by itself; the pipeline compiles it with guidance and solver
    layout = ours(options.folder, half).to(memory_format=torch.channels_last).compile()
    layout.unet.compile(fullgraph=True)
    contestants = {
        "Diffusers, eager float32": modules_of_theirs(theirs(options.folder), torch.float32),
        "ours, eager float32": modules_of_ours(ours(options.folder), torch.float32),
        "ours, compiled bfloat16": modules_of_ours(our_half, half),
        "ours, compiled bfloat16, channels-last": modules_of_ours(layout, half),
        "Diffusers, compiled bfloat16": modules_of_theirs(their_half, half),
        "ours, eager bfloat16": modules_of_ours(ours(options.folder, half), half),
    }
    contest(contestants, options.rounds, "vs_diffusers_compiled")


def clips_of(folder: Path, steps: int) -> dict[str, Callable[..., Any]]:
    """Prompt to waveform by each contestant, from the same noise; output_type as the pipelines have it."""
    noise = torch.randn(1, 8, 256, 16, generator=torch.Generator().manual_seed(0))
    call = {"num_inference_steps": steps, "audio_length_in_s": 10.24, "latents": noise.to(DEVICE)}
    their, our = theirs(folder), ours(folder)
    fast, brief = (
        ours(folder, torch.bfloat16).compile(),
        {"guidance_interval": INTERVAL, "feature_reuse": REUSE},
    )

    def run(pipe: Any, **extra: Any) -> Any:
        return pipe(PROMPT, **{**call, "latents": call["latents"].clone()}, **extra).audios

    def run_fast(**extra: Any) -> Any:
        return run(fast, **extra)

    return {
        "Diffusers, eager float32": partial(run, their),
        "ours, eager float32": partial(run, our),
        "ours, compiled bfloat16": run_fast,
        "ours, compiled bfloat16, interval and reuse": partial(run_fast, **brief),
        "ours, eager float32, interval and reuse": partial(run, our, **brief),
    }


def pipeline(options: argparse.Namespace) -> None:
    """Prompt to waveform: time, and how far latents and audio are from eager float32."""
    contestants = clips_of(options.folder, options.steps)
    timed = dict(list(contestants.items())[:4])  # the last is the approximation's oracle in float32
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
                "real_time_factor": round(statistics.median(times[name]) / 10.24, 3),
            }
        row |= {
            "latents_difference": relative(latents, expected["latent"]),
            "spectral_distance_db": spectral_distance(wave, expected["pt"]),
        }
        print(row, flush=True)
        rows.append(row)
    save("vs_diffusers_pipeline", rows, command=command_line(), interval=INTERVAL, reuse=REUSE)


MEMORY = {  # name -> (whose, seconds)
    "Diffusers, 10.24 s": ("theirs", 10.24),
    "ours, 10.24 s": ("ours", 10.24),
    "ours, 60 s": ("ours", 60.0),
    "ours, decode only, 10.24 s": ("decode", 10.24),
    "ours, decode only, 60 s": ("decode", 60.0),
}


def memory(options: argparse.Namespace) -> None:
    """Each contestant in a process of its own; 2 steps, since memory does not depend on them."""
    peaks: dict[str, list[int]] = {name: [] for name in MEMORY}
    for _ in range(options.rounds):
        for name, (whose, length) in MEMORY.items():
            command = [sys.executable, __file__, "one", "--folder", str(options.folder)]
            command += ["--whose", whose, "--seconds", str(length)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[name].append(json.loads(out.splitlines()[-1])["peak_mb"])
            print(name, peaks[name][-1], flush=True)
    rows = [
        {"who": name, "peak_mb": round(statistics.median(all_)), "min_mb": min(all_), "max_mb": max(all_)}
        for name, all_ in peaks.items()
    ]
    save("vs_diffusers_memory", rows, command=command_line())


def one(options: argparse.Namespace) -> None:
    """One contestant of `memory`, in its own process."""
    if options.whose == "decode":
        pipe = ours(options.folder)
        loaded = peak_mb()
        with torch.no_grad():
            pipe.decode(torch.randn(1, 8, round(options.seconds * 25), 16, device=DEVICE))
    else:
        pipe = {"ours": ours, "theirs": theirs}[options.whose](options.folder)
        loaded = peak_mb()
        pipe(PROMPT, num_inference_steps=2, audio_length_in_s=options.seconds)
    print(json.dumps({"loaded_mb": round(loaded), "peak_mb": round(peak_mb())}))


def main() -> None:
    """Run one of the four."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("modules", "compiled", "pipeline", "memory", "one"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of `modules`")
    parser.add_argument("--whose", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
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
