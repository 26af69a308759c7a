"""Memory and time of batches: one call per size, two steps, since memory does not depend on them.

    python benchmarks/bench_memory.py [--folder DIR] [--dtype bfloat16] [--batches 1,2,4,8,16] [--seconds 10.24]

On a GPU: what torch had allocated at most while the call ran, and what it had reserved of the device. On a CPU:
the process's highest resident memory so far, which only grows, so that the sizes go up. weights_mb is what the
networks take. A size that does not fit ends the series, and its row says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from harness import peak_mb, save_speed, seconds
from published import make
from workload import DEVICE, DTYPES, SECONDS, exact_float32, load

from musicldm import MusicLDMPipeline

PROMPT = "melodic techno with a fast beat and synths"
STEPS = 2


def weights_mb(pipe: MusicLDMPipeline) -> float:
    """Of the four networks, in MB of 10^6 bytes."""
    networks = (pipe.unet, pipe.vae, pipe.vocoder, pipe.text_encoder)
    return sum(p.numel() * p.element_size() for network in networks for p in network.parameters()) / 1e6


def row_of(pipe: MusicLDMPipeline, batch: int, length: float) -> dict[str, Any]:
    """One size: a first call, then the one that is measured."""

    def call() -> None:
        made = pipe([PROMPT] * batch, length, STEPS, seed=0)
        assert len(made.audios) == batch

    row: dict[str, Any] = {"batch": batch, "seconds_of_audio": length, "steps": STEPS}
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        call()
        row["seconds_per_clip"] = round(seconds(call) / batch, 5)
    except torch.cuda.OutOfMemoryError as error:
        row["error"] = str(error)[:300]
    row["peak_mb"] = round(peak_mb())
    if DEVICE == "cuda":
        row["reserved_mb"] = round(torch.cuda.max_memory_reserved() / 1e6)
    return row


def main() -> None:
    """Print and save a row at a time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folder", type=Path, help="a checkpoint; default: one of the published size is made")
    add("--dtype", choices=list(DTYPES), default="bfloat16")
    add("--batches", default="1,2,4,8,16", help="separated by commas (default: %(default)s)")
    add("--seconds", type=float, default=SECONDS, help="of audio")
    options = parser.parse_args()
    exact_float32()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        pipe = load(make(options.folder or Path(temporary)), DTYPES[options.dtype])
        about = {"dtype": options.dtype, "weights_mb": round(weights_mb(pipe))}
        for batch in sorted(int(word) for word in options.batches.split(",")):
            rows.append(row_of(pipe, batch, options.seconds))
            print(rows[-1], flush=True)
            save_speed("bench_memory", rows, **about)
            if "error" in rows[-1]:
                break


if __name__ == "__main__":
    sys.exit(main())
