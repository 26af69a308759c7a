"""The pictures of the demo model's page: four prompts side by side, and how its parts were trained.

    python benchmarks/demo_pictures.py mels [--model demo] [--seed 0]     results/demo_mels.png
    python benchmarks/demo_pictures.py curves RUNS                        results/demo_curves.png and .json

RUNS is the folder with the run folders vae, vocoder, clap, ldm-bam, ldm, ldm-last and ldm-v. Needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import results, save

from musicldm import MusicLDMPipeline
from musicldm.hub import usual_guidance
from musicldm.mel import log_mel
from musicldm.schedulers import DPMSolver
from musicldm.training.log import read_log

PROMPTS = (
    "techno with a hard beat and a synth lead, 130 bpm",
    "slow solo piano ballad in a minor key, no drums",
    "ambient soundscape with soft pads",
    "chiptune video game music, fast, square lead",
)
CURVES = {  # run folder -> title, what is logged while training, what on held-out clips
    "vae": ("VAE: reconstruction", "autoencode/reconstruction", "held_out/reconstruction"),
    "vocoder": ("vocoder: mel distance", "generate/mel", "held_out/loss"),
    "clap": ("CLAP: contrastive loss", "contrast/loss", "held_out/loss"),
    "ldm-bam": ("U-Net, 1st run: noise error", "denoise/loss", "held_out/loss"),
    "ldm": ("U-Net, 2nd run: noise error", "denoise/loss", "held_out/loss"),
    "ldm-last": ("U-Net, 3rd run: noise error", "denoise/loss", "held_out/loss"),
    "ldm-v": ("U-Net, 3rd run: velocity", "denoise/loss", "held_out/loss"),
}
SMOOTH = 9  # logged points in a running mean


def mels(options: argparse.Namespace) -> None:
    """One clip for each prompt, at the command line's defaults."""
    pipe = MusicLDMPipeline.from_pretrained(options.model)
    pipe.scheduler = DPMSolver.from_config(pipe.scheduler)
    guidance = usual_guidance(options.model)
    waves = pipe(list(PROMPTS), num_inference_steps=30, guidance_scale=guidance, seed=options.seed).audios
    pictures = log_mel(torch.from_numpy(waves))[:, 0].numpy()
    figure, all_axes = _plot().subplots(1, len(PROMPTS), figsize=(15, 3.2), sharey=True, layout="constrained")
    for axes, prompt, mel in zip(all_axes, PROMPTS, pictures, strict=True):
        axes.imshow(
            mel.T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-9,
            vmax=1,
            extent=(0, len(mel) / 100, 0, 64),
        )
        axes.set_title(prompt, fontsize=9)
        axes.set_xlabel("seconds")
    all_axes[0].set_ylabel("mel band")
    figure.savefig(results() / "demo_mels.png", dpi=90)


def curves(options: argparse.Namespace) -> None:
    """Losses against steps, thinned to what the picture shows."""
    found = {name: read_log(options.runs / name / "log.jsonl") for name in CURVES}
    figure, all_axes = _plot().subplots(1, len(CURVES), figsize=(20, 3.2), layout="constrained")
    rows = []
    for axes, (name, (title, trained, held_out)) in zip(all_axes, CURVES.items(), strict=True):
        steps, values = series(found[name], trained)
        axes.plot(steps, smooth(values), label="training")
        axes.plot(*series(found[name], held_out), "o-", markersize=3, label="held out")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("steps")
        axes.set_ylim(0, float(np.quantile(values, 0.98)))
        axes.legend(fontsize=8)
        spent = sum(line.get("cpu_seconds", 0.0) for line in found[name])
        logged = sum("cpu_seconds" in line for line in found[name])
        rows.append({
            "run": name, "steps": int(steps[-1]), "cpu_seconds_a_step": spent / logged,
            "training": [[int(s), round(float(v), 4)] for s, v in zip(steps, smooth(values), strict=True)][::5],
            "held_out": [[int(s), round(float(v), 4)] for s, v in zip(*series(found[name], held_out), strict=True)],
        })  # fmt: skip
    figure.savefig(results() / "demo_curves.png", dpi=80)
    save("demo_curves", rows)


def series(log: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a logged figure."""
    points = np.array([(line["step"], line[key]) for line in log if key in line], dtype=float)
    return points[:, 0], points[:, 1]


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean, shorter at the ends."""
    ones = np.ones(min(SMOOTH, len(values)))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def _plot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_subparsers(dest="what", required=True)
    heard = what.add_parser("mels")
    heard.add_argument("--model", default="demo")
    heard.add_argument("--seed", type=int, default=0)
    heard.set_defaults(run=mels)
    trained = what.add_parser("curves")
    trained.add_argument("runs", type=Path)
    trained.set_defaults(run=curves)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
