"""Peak memory and time of loading a checkpoint, in a fresh process.

    python benchmarks/bench_load.py FOLDER

FOLDER: a checkpoint; `python benchmarks/published.py FOLDER` makes one of the published size.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from harness import save_speed

WEIGHTS = (".safetensors", ".bin")


def main() -> None:
    """Load once; print and store time, peak resident memory, and its ratio to the files' size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    from musicldm import MusicLDMPipeline

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    MusicLDMPipeline.from_pretrained(folder)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux; mapped files count
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in WEIGHTS) / 1024
    row = {
        "files_mib": round(size / 1024),
        "peak_mib": round(peak / 1024),
        "imports_mib": round(before / 1024),
        "peak_over_files": round(peak / size, 3),
        "seconds": round(seconds, 2),
    }
    print(row)
    save_speed("bench_load", [row])


if __name__ == "__main__":
    main()
