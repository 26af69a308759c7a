"""What an import costs on top of torch's own: each in a fresh process that has imported torch already.

python benchmarks/bench_import.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

RUNS = 9
MODULES = ("torch", "musicldm.unet", "musicldm.vae", "musicldm.schedulers", "musicldm.sampling", "musicldm.cli",
           "musicldm.pipeline")  # fmt: skip
TIMER = "{}import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module: str) -> float:
    """Wall time of one import in a process of its own; torch's is counted for torch alone."""
    code = TIMER.format("" if module == "torch" else "import torch; ", module)
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(shown.stdout)


def main() -> None:
    """Interleave the runs, so that a slow moment hits every row; print and store medians."""
    rounds = [{module: seconds(module) for module in MODULES} for _ in range(RUNS + 1)]
    rows = [
        {
            "import": module,
            "median_s": round(statistics.median(r[module] for r in rounds[1:]), 4),
            "runs": RUNS,
        }
        for module in MODULES  # the first round warms the file cache
    ]
    Path(__file__).with_name("results").joinpath("import.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
