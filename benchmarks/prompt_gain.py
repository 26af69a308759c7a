"""How well a U-Net denoises at each noise level, and what the prompt tells it there.

    python benchmarks/prompt_gain.py MODEL [MODEL ...] --corpus DIR [--split valid] [--clips 32]
                                                [--seconds 10.24]

DIR: a corpus by `musicldm corpus`, or any folder with a manifest.jsonl. For every timestep: mean square error of the
estimate of the clean latents, told the clip's own caption (its longest), another clip's, and the empty prompt. The
same clips and noise for all. An error above the latents' variance is worse than no model at all, and where another's
caption does as well as the own one the prompt is not heard. Writes results/prompt_gain.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from harness import save
from torch import Tensor

from musicldm import MusicLDMPipeline, audio
from musicldm.mel import log_mel
from musicldm.schedulers.base import predict

TIMESTEPS = (20, 100, 200, 300, 400, 500, 600, 700, 800, 900, 980)
RATE = 16000


def main() -> None:
    """A row for each model and timestep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="+")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.24, help="of each clip, from its start")
    options = parser.parse_args()
    rows = []
    for model in options.model:
        pipe = MusicLDMPipeline.from_pretrained(model)
        latents, captions = clips(pipe, options)
        print(f"{model}: {pipe.scheduler.prediction_type}, variance of the latents {latents.var():.3f}")
        about = {"model": Path(model).name, "prediction_type": pipe.scheduler.prediction_type,
                 "clips": len(latents), "variance": float(latents.var())}  # fmt: skip
        for timestep in TIMESTEPS:
            row = about | {"timestep": timestep, **errors(pipe, latents, captions, timestep)}
            rows.append(row)
            print(
                " | ".join(
                    f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()
                )
            )
    save("prompt_gain", rows)


def clips(pipe: MusicLDMPipeline, options: argparse.Namespace) -> tuple[Tensor, list[str]]:
    """-> (b, c, t, f) latents at unit scale, b captions."""
    corpus, samples = options.corpus, round(options.seconds * RATE)
    lines = map(json.loads, (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    chosen = [line for line in lines if line["split"] == options.split][: options.clips]
    waves = torch.stack([torch.from_numpy(audio.read(corpus / line["path"])[0][:samples]) for line in chosen])
    with torch.inference_mode():
        latents = torch.cat([pipe.vae.encode(log_mel(wave)).mean for wave in waves.split(8)])
    return latents * pipe.vae.config.scaling_factor, [max(line["caption"], key=len) for line in chosen]


@torch.inference_mode()
def errors(pipe: MusicLDMPipeline, latents: Tensor, captions: list[str], timestep: int) -> dict[str, Any]:
    """The mean square error of the clean latents' estimate, by what the U-Net is told."""
    told = pipe.clap.embed_text(captions)
    conditions = {
        "own": told,
        "another's": told.roll(1, 0),
        "none": pipe.clap.embed_text([""]).expand_as(told),
    }
    power = float(pipe.scheduler.noise_schedule.alphas_cumprod[timestep])
    alpha, sigma = power**0.5, (1 - power) ** 0.5
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(timestep))
    noisy, timesteps = alpha * latents + sigma * noise, torch.full((len(latents),), timestep)
    found: dict[str, Any] = {"snr": power / (1 - power)}
    for name, cond in conditions.items():
        out = pipe.unet(noisy, timesteps, cond)
        clean = predict(pipe.scheduler.prediction_type, noisy, out, alpha, sigma)[0]
        found[name] = float((clean - latents).square().mean())
    return found


if __name__ == "__main__":
    main()
