"""The GPU's figures as Markdown, from the JSON files that run_gpu.sh leaves in a folder.

    python benchmarks/gpu_table.py [FOLDER]

What was not measured, or was cut off, is a dash; what a machine could not run says so. FOLDER is benchmarks/results/gpu
unless given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

FOLDER = Path(__file__).parent / "results" / "gpu"
NOTHING = "-"  # not measured
CLIP = 10.24  # seconds, for which the targets are
DTYPES = ("bfloat16", "float16", "float32")
STEPS = (4, 20, 50, 200)
BATCHES = (1, 2, 4, 8, 16)
MODULES = ("U-Net guided step", "VAE decode", "vocoder")
TARGET_S = {20: 0.1, 200: 0.5}  # whole call, by steps
TARGET_RATIO = 8.0  # to Diffusers' eager call in the same precision
WAYS = {  # in the JSON -> in the table
    "eager": "eager",
    "graph": "one CUDA graph",
    "graph-channels-last": "one CUDA graph, channels-last",
    "graph-compiled": "compiled, one CUDA graph",
    "step-graph": "a CUDA graph per step",
    "diffusers": "Diffusers 0.33.1, eager",
}
# files of the whole call: the first that has a cell gives it, and what ran in turn with Diffusers comes first there
WHOLE = ("bench_graph", "bench_graph_compiled", "bench_graph_diffusers", "bench_graph_steps")
TWIN = ("bench_graph_diffusers", "bench_graph", "bench_graph_compiled")


class Results:
    """A folder of results; files that are not there have no rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

    def rows(self, *names: str) -> Rows:
        """Those of the files, in the order of the names."""
        return [row for name in names if name in self.files for row in self.files[name]["rows"]]

    @property
    def machine(self) -> dict[str, Any]:
        """That of any file. Raises FileNotFoundError if there is none."""
        if not self.files:
            raise FileNotFoundError(f"no *.json in {self.folder}: run benchmarks/run_gpu.sh")
        found: dict[str, Any] = next(iter(self.files.values()))["machine"]
        return found


def find(rows: Rows, **wanted: Any) -> dict[str, Any]:
    """The first row with these fields, or an empty one."""
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), {})


def show(row: dict[str, Any], field: str, text: Callable[[Any], str]) -> str:
    """One cell."""
    if row.get(field) is None:
        return "failed" if "error" in row else NOTHING
    return text(row[field])


def table(title: str, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Markdown; nothing if no cell of any line was measured."""
    kept = [line for line in lines if any(cell != NOTHING for cell in line[1:])]
    if not kept:
        return []
    made = [f"| {' | '.join([title, *columns])} |", "|---" * (len(columns) + 1) + "|"]
    return [*made, *(f"| {' | '.join(line)} |" for line in kept), ""]


def whole(results: Results, dtype: str) -> list[str]:
    """Prompt to waveform, by way and number of steps, with the targets beside."""
    rows = results.rows(*WHOLE)
    steps = steps_of(rows)
    length = next((row["seconds_of_audio"] for row in rows), CLIP)

    def cells(field: str, way: str, text: Callable[[Any], str]) -> list[str]:
        return [show(find(rows, way=way, dtype=dtype, steps=each), field, text) for each in steps]

    lines = [[shown, *cells("median_s", way, "{:.4g} s".format)] for way, shown in WAYS.items()]
    if any(cell != NOTHING for line in lines for cell in line[1:]):
        targets = [f"under {TARGET_S[each]} s" if each in TARGET_S else NOTHING for each in steps]
        lines.append(["target" if length == CLIP else f"target for {CLIP} s", *targets])
    title = f"{length} s of audio, {dtype}, prompt to waveform"
    made = table(title, [f"{each} steps" for each in steps], lines)
    shown = ["graph", "graph-channels-last", "graph-compiled"]
    lines = [[WAYS[way], *cells("difference", way, "{:.2g}".format)] for way in shown]
    made += table(f"{dtype}, difference to eager", [f"{each} steps" for each in steps], lines)
    return made


def against_diffusers(results: Results) -> list[str]:
    """How many times as fast as Diffusers' eager call in the same precision each way is, and the target."""
    rows = results.rows(*TWIN)
    steps = steps_of(rows)

    def cell(way: str, dtype: str, each: int) -> str:
        theirs = find(rows, way="diffusers", dtype=dtype, steps=each).get("median_s")
        ours = find(rows, way=way, dtype=dtype, steps=each).get("median_s")
        return f"{theirs / ours:.3g}x" if theirs and ours else NOTHING

    lines = [
        [f"{WAYS[way]}, {dtype}", *(cell(way, dtype, each) for each in steps)]
        for dtype in DTYPES
        for way in ("eager", "graph", "graph-channels-last", "graph-compiled")
    ]
    if any(cell != NOTHING for line in lines for cell in line[1:]):
        lines.append(["target", *[f"at least {TARGET_RATIO:g}x"] * len(steps)])
    return table("times as fast as Diffusers 0.33.1, eager", [f"{each} steps" for each in steps], lines)


def steps_of(rows: Rows) -> list[int]:
    """The columns of the whole call: those that are wanted, and what else was measured."""
    return sorted({*STEPS, *(row["steps"] for row in rows)})


def modules(results: Results) -> list[str]:
    """The three networks alone, in milliseconds."""
    made: list[str] = []
    for title, files, name in (
        ("networks", ("bench_modules", "bench_modules_graphs", "bench_modules_compiled"), "variant"),
        ("networks, beside Diffusers", ("vs_diffusers_modules", "vs_diffusers_modules_bfloat16"), "who"),
    ):
        rows = results.rows(*files)
        lines = []
        for each in dict.fromkeys(row[name] for row in rows):
            cells = [
                show(find(rows, what=what, **{name: each}), "median_s", milliseconds) for what in MODULES
            ]
            lines.append([each, *cells])
        made += table(title, MODULES, lines)
    return made


def milliseconds(value: float) -> str:
    """Of seconds."""
    return f"{1e3 * value:.3g} ms"


def roofline(results: Results) -> list[str]:
    """The machine's ceilings, and each network's share of them."""
    rows = results.rows("roofline")
    ceilings = [row for row in rows if "gflop_per_s" in row and "ceiling" in row]
    dtypes = list(dict.fromkeys(row["dtype"] for row in ceilings))
    lines = [
        [what, *(show(find(ceilings, ceiling=what, dtype=each), "gflop_per_s", tera) for each in dtypes)]
        for what in ("matrix product", "convolution")
    ]
    made = table("ceiling, TFLOP/s", dtypes, lines)
    lines = [
        [
            row["what"], milliseconds(row["median_s"]), f"{row['gflop']:.4g}", tera(row["gflop_per_s"]),
            f"{100 * row['share_of_ceiling']:.0f} %",
        ]
        for row in rows if "what" in row
    ]  # fmt: skip
    return made + table("eager network", ["time", "GFLOP", "TFLOP/s", "share of the ceiling"], lines)


def tera(value: float) -> str:
    """Of GFLOP/s."""
    return f"{value / 1e3:.4g}"


def precision(results: Results) -> list[str]:
    """What each precision costs, by network and by ear."""
    rows = results.rows("precision")
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows if "what" in row))
    lines = [
        [each, *(show(find(rows, what=what, dtype=each), "difference", "{:.2g}".format) for what in MODULES)]
        for each in dtypes
    ]
    made = table("relative difference to float32", MODULES, lines)
    lines = [
        [row["clip"], f"{row['latents_difference']:.2g}", f"{row['spectral_distance_db']:.2g} dB"]
        for row in rows if "clip" in row
    ]  # fmt: skip
    return made + table("clip, against float32", ["latents", "spectrum"], lines)


def memory(results: Results) -> list[str]:
    """Of batches."""
    rows = results.rows("bench_memory")
    batches = sorted({*BATCHES, *(row["batch"] for row in rows)})
    fields = (
        ("peak allocated, MB", "peak_mb", "{:,}".format),
        ("reserved, MB", "reserved_mb", "{:,}".format),
        ("seconds per clip at 2 steps", "seconds_per_clip", "{:.3g}".format),
    )
    lines = [
        [title, *(show(find(rows, batch=b), field, text) for b in batches)] for title, field, text in fields
    ]
    return table("batch", [str(b) for b in batches], lines)


def document(results: Results) -> str:
    """All tables there is anything for, and where they come from."""
    machine = results.machine
    where = machine["gpu"] or f"NO GPU: {machine['threads']} threads of {machine['processor']}"
    about = f"{where}; torch {machine['torch']}, Python {machine['python']}. Weights are random. Medians."
    parts = [whole(results, dtype) for dtype in DTYPES]
    parts += [part(results) for part in (against_diffusers, modules, roofline, precision, memory)]
    return "\n".join([about, "", *(line for part in parts for line in part)]).rstrip() + "\n"


def main() -> None:
    """Print it. Exit status 2 if there is nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    try:
        print(document(Results(parser.parse_args().folder)), end="")
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
