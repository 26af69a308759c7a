"""What starting costs: imports on top of torch's own, and whole commands, each in a fresh process.

python benchmarks/bench_import.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 9
MODULES = ("torch", "musicldm.unet", "musicldm.vae", "musicldm.schedulers", "musicldm.sampling", "musicldm.cli",
           "musicldm.pipeline", "transformers.models.clap.modeling_clap")  # fmt: skip
COMMANDS = {  # the demo model's, at its defaults
    "musicldm --help": ["--help"],
    "musicldm generate PROMPT -o FILE": ["generate", "techno, 130 bpm", "-o", "clip.wav"],
}
TIMER = "{}import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module: str) -> float:
    """Wall time of one import in a process of its own; torch's is counted for torch alone."""
    code = TIMER.format("" if module == "torch" else "import torch; ", module)
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(shown.stdout)


def command(arguments: list[str]) -> float:
    """Wall time of a command, from nothing to its end."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "musicldm", *arguments], cwd=folder, check=True, capture_output=True
        )
        return time.perf_counter() - start


def main() -> None:
    """Interleave the runs, so that a slow moment hits every row; print and store medians."""
    rounds = [
        {
            **{("import", module): seconds(module) for module in MODULES},
            **{("command", name): command(arguments) for name, arguments in COMMANDS.items()},
        }
        for _ in range(RUNS + 1)
    ][1:]  # the first round warms the file cache
    rows = []
    for kind, name in rounds[0]:
        taken = sorted(r[kind, name] for r in rounds)
        median = round(statistics.median(taken), 4)
        rows.append(
            {
                kind: name,
                "median_s": median,
                "from_s": round(taken[0], 4),
                "to_s": round(taken[-1], 4),
                "runs": RUNS,
            }
        )
    Path(__file__).with_name("results").joinpath("import.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
