"""What a batch costs besides the model: time a row, and memory from row 100 to row 10,000.

The tiny checkpoint makes the shortest clips it can (0.04 s, one step), so that what is measured is the
batch's own work: reading, naming, encoding, hashing, writing to the disk (with fsync), and, at the end, the
manifest. Time inside the pipeline's call is taken off. Then the finished folder is resumed, where nothing
is to be made, and a file of many more rows is read as every run reads it first.

    python benchmarks/bench_batch.py [--rows 10000] [--surveyed 1000000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from harness import save_speed

from musicldm import MusicLDMPipeline, cli
from musicldm.batch.command import run_batch
from musicldm.batch.rows import PromptFile

TINY = Path(__file__).parents[1] / "tests" / "goldens" / "tiny-hub"


def resident_mb() -> float:
    """This process's memory now, in MB of 10^6 bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watched(MusicLDMPipeline):
    """A pipeline that notes the time in its call, and the memory before it, by rows so far."""

    def __call__(self, prompt: Any, *arguments: Any, **named: Any) -> Any:
        """The pipeline's own."""
        if self.rows >= self.next_look:
            self.memory.append((self.rows, round(resident_mb(), 1)))
            self.next_look = self.rows + 1000 if self.rows >= 1000 else 10 * self.next_look
        start = time.perf_counter()
        try:
            return super().__call__(prompt, *arguments, **named)
        finally:
            self.seconds += time.perf_counter() - start
            self.rows += len(prompt)

    def watch(self) -> Watched:
        """Begin."""
        self.rows, self.next_look, self.seconds = 0, 100, 0.0
        self.memory: list[tuple[int, float]] = []
        return self


def batch(prompts: Path, folder: Path, size: int) -> tuple[float, Watched]:
    """Run the command; seconds in all, and the pipeline that was watched."""
    words = [
        "batch",
        str(prompts),
        "-o",
        str(folder),
        "--model",
        str(TINY),
        "--seconds",
        "0.04",
        "--steps",
        "1",
        "--guidance",
        "1",
        "--batch-size",
        str(size),
        "--quiet",
    ]
    pipe = Watched(**MusicLDMPipeline.from_pretrained(TINY).components).watch()
    start = time.perf_counter()
    assert run_batch(cli.parser().parse_args(words), lambda options: pipe, {}) == 0
    return time.perf_counter() - start, pipe


def made(rows: int, size: int, root: Path) -> dict[str, Any]:
    """A whole run, and its resumption."""
    prompts = root / "prompts.txt"
    prompts.write_text("".join(f"prompt number {k}, a song in C# minor\n" for k in range(rows)))
    wall, pipe = batch(prompts, root / "out", size)
    pipe.memory.append((rows, round(resident_mb(), 1)))
    again, _ = batch(prompts, root / "out", size)
    first = next((mb for row, mb in pipe.memory if row >= 100), pipe.memory[0][1])
    return {
        "what": "tiny checkpoint, clips of 0.04 s, 1 step", "rows": rows, "batch_size": size,
        "wall_s": round(wall, 1), "model_ms_per_row": round(1e3 * pipe.seconds / rows, 2),
        "overhead_ms_per_row": round(1e3 * (wall - pipe.seconds) / rows, 2),
        "resume_ms_per_row": round(1e3 * again / rows, 2),
        "memory_mb_by_row": pipe.memory, "memory_growth_mb": round(pipe.memory[-1][1] - first, 1),
    }  # fmt: skip


def surveyed(rows: int, root: Path) -> dict[str, Any]:
    """The first pass over many rows with ids."""
    prompts = root / "many.jsonl"
    with prompts.open("w") as file:
        for k in range(rows):
            file.write(json.dumps({"id": f"clip-{k}", "prompt": f"prompt number {k}"}) + "\n")
    before, start = resident_mb(), time.perf_counter()
    assert PromptFile(prompts).survey().rows == rows
    return {
        "what": "first pass over a .jsonl file with ids", "rows": rows,
        "wall_s": round(time.perf_counter() - start, 1), "memory_growth_mb": round(resident_mb() - before, 1),
    }  # fmt: skip


def main() -> None:
    """Print and store the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--surveyed", type=int, default=1_000_000, help="rows of the file that is only read")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to put the clips; default: a temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more only get in each other's way on clips this short
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        root = Path(name)
        rows = [made(options.rows, options.batch_size, root), surveyed(options.surveyed, root)]
    for row in rows:
        print(row)
    save_speed("bench_batch", rows, load=[round(x, 1) for x in os.getloadavg()])


if __name__ == "__main__":
    main()
