"""Clips per CPU second of a training step of a CLAP from scratch, on one thread.

    python benchmarks/bench_clap_training.py [--preset preset:small] [--batch 8] [--steps 2]

CPU time, not wall time: it counts this process alone, on a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from harness import save_speed

from musicldm.io.distributed import Group
from musicldm.training.clap import CLAPSettings, CLAPStage
from musicldm.training.clap_parts import start_clap
from musicldm.training.stage import Batch, Draws


def main() -> None:
    """Print and store parameters, and clips per CPU second of the mel front end alone and of whole steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="preset:small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2, help="after one that warms up")
    options = parser.parse_args()
    torch.set_num_threads(1)
    captions = [
        f"a {speed} {what} number {k}"
        for k in range(8)
        for speed in ("slow", "fast")
        for what in ("song", "beat")
    ]
    clap = start_clap(options.preset, {}, captions, vocab_size=4096, seed=0, begun=None)
    stage = CLAPStage(clap, CLAPSettings(), Group(), scratch=True)
    b = options.batch
    wave = 0.1 * torch.randn(b, 163840, generator=torch.Generator().manual_seed(0))
    batch = Batch({"wave": wave, "caption": tuple(captions[:b]), "key": ("",) * b}, ("",) * b)
    begin = time.process_time()
    clap.features(wave, 16000)
    front = b / (time.process_time() - begin)
    parameters = sum(p.numel() for p in clap.model.parameters())
    print(f"{parameters:,} parameters; front end {front:.1f} clips per CPU second")
    rates = []
    for step in range(options.steps + 1):
        begin = time.process_time()
        stage.networks.zero_grad()
        stage.loss(batch, step, Draws(range(b))).value.backward()
        stage.turns[0].optimizer.step()
        if step:
            rates.append(b / (time.process_time() - begin))
            print(f"step {step}: {rates[-1]:.1f} clips per CPU second")
    row = {"preset": options.preset, "parameters": parameters, "batch": b, "steps": options.steps,
           "front_end_clips_per_cpu_s": round(front, 2), "clips_per_cpu_s": round(statistics.median(rates), 2)}  # fmt: skip
    save_speed("bench_clap_training", [row])


if __name__ == "__main__":
    main()
