"""What starting costs: imports on top of torch's own, and whole commands, each in a fresh process.

python benchmarks/bench_import.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from typing import Any

from harness import figures, save_speed

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


def once() -> dict[tuple[str, str], float]:
    """One round over every row, so that a slow moment hits them all."""
    return {
        **{("import", module): seconds(module) for module in MODULES},
        **{("command", name): command(arguments) for name, arguments in COMMANDS.items()},
    }


def main() -> None:
    """Print and store medians. A round before the others warms the file cache."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rounds = [once() for _ in range(options.rounds + 1)][1:]
    rows: list[dict[str, Any]] = []
    for kind, name in rounds[0]:
        rows.append({kind: name, **figures([each[kind, name] for each in rounds])})
        print(rows[-1])
    save_speed("bench_import", rows)


if __name__ == "__main__":
    main()
