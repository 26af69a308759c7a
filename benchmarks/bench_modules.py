"""The three networks alone, in every way to run them: time, and the difference to eager float32.

    python benchmarks/bench_modules.py [--folder DIR] [--variants float32,compiled-bfloat16] [--rounds 5]

Variants: float32, float32-channels-last, bfloat16, compiled-float32, compiled-bfloat16; on a GPU also float16,
compiled-float16, graphs-bfloat16 and graphs-float16 (mode="reduce-overhead": CUDA graphs). All of them are
in memory at once, since they run in turn. float32 is exact: no TF32. Ratios are against eager float32 of the
same round. Compiling takes a minute or more per variant on a CPU, and is not in the times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import command_line, figures, in_turn, peak_mb, relative, save
from published import make
from torch import Tensor
from workload import DEVICE, DTYPES, MODULES, SECONDS, calls, exact_float32, load

from musicldm.compilation import compile_in_place

BASE = "float32"
CPU_VARIANTS = (BASE, "float32-channels-last", "bfloat16", "compiled-float32", "compiled-bfloat16")
GPU_VARIANTS = ("float16", "compiled-float16", "graphs-bfloat16", "graphs-float16")


def variant(name: str, options: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """Calls of the networks of a pipeline of its own, made as the variant's name says."""
    dtype = next(value for key, value in DTYPES.items() if key in name)
    pipe = load(options.folder, dtype)
    if name.endswith("channels-last"):
        pipe.to(memory_format=torch.channels_last)
    if name.startswith(("compiled", "graphs")):
        mode = "reduce-overhead" if name.startswith("graphs") else None
        pipe.compile(mode=mode, backend=options.backend)
        compile_in_place(
            pipe.unet, mode=mode, backend=options.backend
        )  # without the solver: the network alone
    return calls(pipe, dtype, options.seconds)


def attempt(name: str, function: Callable[[], Tensor], expected: Tensor) -> float | str:
    """The difference to eager float32 after a first call, which compiles; or what went wrong."""
    try:
        with torch.no_grad():
            return relative(function(), expected)
    except Exception as error:  # one variant that a machine cannot run must not cost the others
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return f"{type(error).__name__}: {error}"[:300]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per network and variant; saved after each network."""
    names = [BASE, *(name for name in options.variants if name != BASE)]
    made = {name: variant(name, options) for name in names}
    rows: list[dict[str, Any]] = []
    for what in MODULES:
        with torch.no_grad():
            expected = made[BASE][what]().clone()
        functions = {name: made[name][what] for name in names}
        differences = {name: attempt(name, functions[name], expected) for name in names}
        running = {
            name: function for name, function in functions.items() if not isinstance(differences[name], str)
        }
        times = in_turn(running, options.rounds, warmup=2)  # CUDA graphs are recorded at the second call
        for name in names:
            row = {"what": what, "variant": name, "seconds_of_audio": options.seconds}
            if name in running:
                row |= {**figures(times[name], times[BASE]), "difference": differences[name]}
            else:
                row["error"] = differences[name]
            print(row, flush=True)
            rows.append(row)
        save(
            options.name,
            rows,
            command=command_line(),
            peak_mb=round(peak_mb()),
            backend=options.backend,
        )
    return rows


def main() -> int:
    """Exit status 1 if a variant failed; the rest is measured and saved all the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = CPU_VARIANTS + (GPU_VARIANTS if DEVICE == "cuda" else ())
    parser.add_argument(
        "--folder", type=Path, help="a checkpoint; default: one of the published size is made"
    )
    parser.add_argument("--variants", default=",".join(known), help="separated by commas; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of audio")
    parser.add_argument(
        "--backend", default="inductor", help="torch.compile's; aot_eager to test this program"
    )
    parser.add_argument("--name", default="bench_modules", help="of the JSON file")
    options = parser.parse_args()
    options.variants = options.variants.split(",")
    unknown = [name for name in options.variants if name not in CPU_VARIANTS + GPU_VARIANTS]
    if unknown:
        parser.error(f"--variants: got {', '.join(unknown)}, expected some of {', '.join(known)}")
    exact_float32()
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = make(options.folder or Path(temporary))
        rows = measure(options)
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
