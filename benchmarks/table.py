"""The README's table of speed, from benchmarks/results/vs_diffusers_*.json.

    python benchmarks/table.py            writes it between the README's two markers
    python benchmarks/table.py --check    exit status 1 if what stands there is not it
    python benchmarks/table.py --print    shows it

What has not been measured is shown as a dash.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness import RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
COLUMNS = ("U-Net guided step", "VAE decode", "vocoder")
WHOLE = "prompt to waveform"
NOTHING = "-"  # not measured
NAMES = {  # in the JSON -> in the table
    "Diffusers, eager float32": "Diffusers 0.33.1, eager float32",
    "Diffusers, compiled bfloat16": "Diffusers 0.33.1, compiled bfloat16",
    "ours, eager float32": "this package, eager float32",
    "ours, eager bfloat16": "this package, eager bfloat16",
    "ours, compiled bfloat16": "this package, compiled bfloat16",
    "ours, compiled bfloat16, interval and reuse": "the same, guidance interval and feature reuse",
}
FILES = ("modules", "compiled", "pipeline")  # the first that has a cell gives it


def read(folder: Path, name: str) -> dict[str, Any]:
    """One JSON file, or nothing in its shape."""
    path = folder / f"vs_diffusers_{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {"rows": [], "machine": {}}


def cell(row: dict[str, Any] | None) -> str:
    """Ratio and seconds."""
    if row is None or "ratio" not in row:
        return NOTHING
    return f"{row['ratio']:.2f} ({row['median_s']:.3g} s)"


def speed(files: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of the first table."""
    rows = [row for name in FILES for row in files[name]["rows"]]
    whole = next((row["what"] for row in files["pipeline"]["rows"]), WHOLE)
    columns = (*COLUMNS, whole)
    lines = [
        "| ratio to Diffusers eager float32 (seconds) | "
        + " | ".join(columns)
        + " | latents differ | audio differs |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for who, shown in NAMES.items():
        mine = [row for row in rows if row["who"] == who]
        if not mine:
            continue
        cells = [cell(next((row for row in mine if row["what"] == what), None)) for what in columns]
        clip = next((row for row in mine if row["what"] == whole), None)
        lines.append(f"| {shown} | " + " | ".join([*cells, *distances(clip)]) + " |")
    return lines


def distances(clip: dict[str, Any] | None) -> list[str]:
    """Of a clip to that of this package in eager float32."""
    if clip is None:
        return [NOTHING, NOTHING]
    return [f"{100 * clip['latents_difference']:.2g} %", f"{clip['spectral_distance_db']:.2g} dB"]


def memory(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the second table, if it was measured."""
    if not rows:
        return []
    lines = ["", "| peak memory, eager float32 | MB |", "|---|---|"]
    return [*lines, *(f"| {row['who']} | {row['peak_mb']:,} |" for row in rows)]


def table(folder: Path) -> str:
    """Both tables and how they were made."""
    files = {name: read(folder, name) for name in (*FILES, "memory")}
    machine = next((file["machine"] for file in files.values() if file["rows"]), None)
    if machine is None:
        raise FileNotFoundError(
            f"no vs_diffusers_*.json in {folder}: run benchmarks/vs_diffusers.py modules, compiled, pipeline, memory"
        )
    where = machine["gpu"] or f"{machine['threads']} threads of {machine['processor']}"
    commands = [file["command"] for file in files.values() if file["rows"] and "command" in file]
    about = [
        "",
        f"{where}; torch {machine['torch']}; published size, random weights, one clip of 10.24 s. A ratio is the "
        "median over rounds in which all contestants run in turn. Differences are to this package in eager float32.",
        "Commands: " + ", ".join(f"`python {command}`" for command in commands) + ".",
    ]
    return "\n".join([*speed(files), *memory(files["memory"]["rows"]), *about])


def main() -> None:
    """Exit status 0: written, or as it should be; 1: it differs; 2: no markers, or nothing measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--print", action="store_true", dest="show")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        made = table(options.results)
    except FileNotFoundError as error:
        parser.error(str(error))
    if options.show:
        print(made)
        return
    text = options.readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        parser.error(f"{options.readme}: expected one line {BEGIN} and, below it, one {END}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{made}\n{END}{after}"
    if options.check:
        if text != wanted:
            print(
                f"{options.readme}: not the table of {options.results}; run benchmarks/table.py",
                file=sys.stderr,
            )
        sys.exit(text != wanted)
    options.readme.write_text(wanted)


if __name__ == "__main__":
    main()
