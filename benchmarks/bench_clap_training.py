"""Clips per CPU second of a training step of a CLAP from scratch, on one thread: python benchmarks/bench_clap_training.py.

CPU time, not wall time: it counts this process alone, on a machine that others use too.
"""

from __future__ import annotations

import argparse
import time

import torch

from musicldm.training.clap import CLAPSettings, CLAPStage
from musicldm.training.clap_parts import start_clap
from musicldm.training.distributed import Group
from musicldm.training.stage import Batch, Draws


def main() -> None:
    """Print parameters, and clips per second of the mel front end alone and of whole steps."""
    parser = argparse.ArgumentParser(description=__doc__)
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
    front = time.process_time() - begin
    print(
        f"{sum(p.numel() for p in clap.model.parameters()):,} parameters; front end {b / front:.1f} clips/s"
    )
    for step in range(options.steps + 1):
        begin = time.process_time()
        stage.networks.zero_grad()
        stage.loss(batch, step, Draws(range(b))).value.backward()
        stage.turns[0].optimizer.step()
        if step:
            print(f"step {step}: {b / (time.process_time() - begin):.1f} clips per CPU second")


if __name__ == "__main__":
    main()
