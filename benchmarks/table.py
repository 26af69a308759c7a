"""The tables of speed in benchmarks/README.md and README.md, from benchmarks/results/MACHINE/*.json.

    python benchmarks/table.py            writes them between the pages' two markers
    python benchmarks/table.py --check    exit status 1 if what stands there is not them
    python benchmarks/table.py --print    shows the long one

Every machine that was measured has rows of its own, side by side. What has not been measured is shown as a dash.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import TRACKED

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
MODULES = ("U-Net guided step", "VAE decode", "vocoder")
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
FRONT = (
    "ours, eager float32",
    "ours, eager bfloat16",
    "ours, compiled bfloat16",
    "ours, compiled bfloat16, interval and reuse",
)
TWINS = ("modules", "compiled", "pipeline")  # vs_diffusers_*.json: the first that has a cell gives it
KINDS = ("convolution", "attention", "linear", "norm, activation, elementwise")


@dataclass(frozen=True)
class Machine:
    """What was measured on one machine: `files` by name, each with "machine" and "rows"."""

    name: str
    files: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Machine:
        """The JSON files of a folder of results."""
        files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
        about = cls("", files).about
        name = about["gpu"] or about["processor"].split(" (")[0].replace("(R)", "").replace(" Processor", "")
        return cls(name, files)

    @property
    def about(self) -> dict[str, Any]:
        """What the twins' file says of the machine; other programs may use fewer threads."""
        return next(file["machine"] for name, file in self.files.items() if name.startswith("vs_diffusers"))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Those of one file; none if it was not measured."""
        return self.files.get(name, {"rows": []})["rows"]

    def twin(self, who: str, what: str) -> dict[str, Any] | None:
        """A contestant's row for what is named, or begins, so."""
        rows = [row for name in TWINS for row in self.rows(f"vs_diffusers_{name}")]
        found = (row for row in rows if row["who"] == who and row["what"].startswith(what))
        return next(found, None)

    def legend(self) -> str:
        """A line that says what stands behind the name."""
        about = self.about
        measured = sorted(
            {file["machine"]["date"] for file in self.files.values() if "date" in file["machine"]}
        )
        where = about["gpu"] or f"{about['threads']} threads of {about['processor']}"
        return f"- **{self.name}**: {where}; torch {about['torch']}" + (
            f"; {measured[-1]}" if measured else ""
        )


def machines(results: Path) -> list[Machine]:
    """All that have at least one of the twins' files. Raises FileNotFoundError if there is none."""
    folders = sorted({path.parent for path in results.glob("*/vs_diffusers_*.json")})
    if not folders:
        raise FileNotFoundError(
            f"no */vs_diffusers_*.json in {results}: run benchmarks/vs_diffusers.py modules, compiled, pipeline, memory"
        )
    return [Machine.read(folder) for folder in folders]


def cell(row: dict[str, Any] | None) -> str:
    """Ratio and seconds."""
    if row is None or "ratio" not in row:
        return NOTHING
    return f"{row['ratio']:.2f} ({row['median_s']:.3g} s)"


def distances(clip: dict[str, Any] | None) -> list[str]:
    """Of a clip to that of this package in eager float32."""
    if clip is None:
        return [NOTHING, NOTHING]
    return [f"{100 * clip['latents_difference']:.2g} %", f"{clip['spectral_distance_db']:.2g} dB"]


def line(*cells: str) -> str:
    """A row of a table."""
    return "| " + " | ".join(cells) + " |"


def head(*cells: str) -> list[str]:
    """A table's first two lines."""
    return [line(*cells), "|---" * len(cells) + "|"]


def speed(found: list[Machine]) -> list[str]:
    """Every contestant on every machine."""
    whole = next((row["what"] for each in found if (row := each.twin("ours, eager float32", WHOLE))), WHOLE)
    lines = head(
        "ratio to Diffusers eager float32 (seconds)",
        "machine",
        *MODULES,
        whole,
        "latents differ",
        "audio differs",
    )
    for who, shown in NAMES.items():
        for each in found:
            rows = [each.twin(who, what) for what in (*MODULES, WHOLE)]
            if any(rows):
                lines.append(line(shown, each.name, *map(cell, rows), *distances(rows[-1])))
    return lines


def memory(found: list[Machine]) -> list[str]:
    """Peaks in MB, a column for each machine."""
    by_machine = [{row["who"]: row for row in each.rows("vs_diffusers_memory")} for each in found]
    names = list(dict.fromkeys(name for rows in by_machine for name in rows))
    if not names:
        return []
    lines = ["", *head("peak memory in MB, eager float32", *(each.name for each in found))]
    for name in names:
        peaks = (f"{rows[name]['peak_mb']:,}" if name in rows else NOTHING for rows in by_machine)
        lines += [line(name, *peaks)]
    return lines


def roofline(found: list[Machine]) -> list[str]:
    """How far each network is from what its machine can do, and what it can do."""
    shown = [each for each in found if any("what" in row for row in each.rows("roofline"))]
    if not shown:
        return []
    lines = [
        "",
        *head(
            "eager",
            "machine",
            "time",
            "of the ceiling",
            "floor",
            "convolutions",
            "attention",
            "linear",
            "norms, activations",
        ),
    ]
    for what in MODULES:
        for each in shown:
            row = next(row for row in each.rows("roofline") if row.get("what") == what)
            shares = (f"{100 * row['profiled_share'][kind]:.0f} %" for kind in KINDS)
            lines.append(line(
                f"{what}, {row['gflop']:,.0f} GFLOP, {row['dtype']}", each.name, f"{row['median_s']:.3g} s",
                f"{100 * row['share_of_ceiling']:.0f} %", f"{row['floor_s'][row['dtype']]:.3g} s", *shares))  # fmt: skip
    ceilings = [
        f"{row['ceiling']} {row['dtype']}"
        for row in shown[0].rows("roofline")
        if "gflop_per_s" in row and "ceiling" in row
    ]
    lines += ["", *head("ceiling in GFLOP/s", *(each.name for each in shown))]
    for name in ceilings:
        rates = (
            {
                f"{row['ceiling']} {row['dtype']}": row.get("gflop_per_s")
                for row in each.rows("roofline")
                if "ceiling" in row
            }
            for each in shown
        )
        lines.append(line(name, *(f"{each[name]:,.0f}" if each.get(name) else NOTHING for each in rates)))
    return lines


def precision(found: list[Machine]) -> list[str]:
    """What half precision and the approximations move: one call of each network, then whole clips."""
    shown = [each for each in found if each.rows("precision")]
    if not shown:
        return []
    seconds = {each.files["precision"]["seconds_of_audio"] for each in shown}
    clip = f"error beside exact float32, clips of {' and '.join(f'{each:g}' for each in sorted(seconds))} s"
    by_machine = [
        {name: cell for row in each.rows("precision") for name, cell in moved(row)} for each in shown
    ]
    names = dict.fromkeys(name for cells in by_machine for name in cells)
    return [
        "",
        *head(clip, *(each.name for each in shown)),
        *(line(name, *(cells.get(name, NOTHING) for cells in by_machine)) for name in names),
    ]


def moved(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The name and the cell of a row of precision.json; none for float32, which moves nothing."""
    if "clip" in row:
        cell = f"{100 * row['latents_difference']:.2g} %, {row['spectral_distance_db']:.2g} dB"
        return [(f"{row['steps']} steps: latents, audio; {row['clip']}", cell)]
    if row["dtype"] == "float32":
        return []
    cell = NOTHING if row["difference"] is None else f"{100 * row['difference']:.2g} %"
    return [(f"one call: {row['what']}, {row['dtype']}", cell)]


def long_table(found: list[Machine]) -> str:
    """All tables and how they were made."""
    named = dict.fromkeys(
        file["command"]
        for each in found
        for name, file in each.files.items()
        if name.startswith(("vs_", "roofline", "precision"))
    )
    about = [
        "",
        *(each.legend() for each in found),
        "",
        "Published size, random weights, one clip of 10.24 s. A ratio is the median over rounds in which all contestants "
        "run in turn, on one machine: compare ratios between machines, seconds within one. Differences are to this package "
        "in eager float32. Commands: " + ", ".join(f"`python {command}`" for command in sorted(named)) + ".",
    ]
    return "\n".join([*speed(found), *memory(found), *roofline(found), *precision(found), *about])


def short_table(found: list[Machine]) -> str:
    """Prompt to waveform alone, a column for each machine."""
    lines = head("prompt to waveform, ratio to Diffusers eager float32", *(each.name for each in found))
    for who in FRONT:
        rows = [each.twin(who, WHOLE) for each in found]
        if any(rows):
            lines.append(line(NAMES[who], *map(cell, rows)))
    return "\n".join(lines)


def replaced(page: Path, made: str) -> str:
    """The page's text with `made` between its markers. Raises ValueError if it has not one of each, in order."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{page}: expected one line {BEGIN} and, below it, one {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Exit status 0: written, or as it should be; 1: a page differs; 2: no markers, or nothing measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--print", action="store_true", dest="show")
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="folder of README.md and benchmarks/README.md"
    )
    parser.add_argument("--results", type=Path, default=TRACKED)
    options = parser.parse_args()
    pages = {options.root / "README.md": short_table, options.root / "benchmarks" / "README.md": long_table}
    try:
        found = machines(options.results)
        wanted = {page: replaced(page, make(found)) for page, make in pages.items()}
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if options.show:
        print(long_table(found))
        return
    differing = [page for page, text in wanted.items() if page.read_text() != text]
    if options.check:
        for page in differing:
            print(f"{page}: not the table of {options.results}; run benchmarks/table.py", file=sys.stderr)
        sys.exit(bool(differing))
    for page in differing:
        page.write_text(wanted[page])


if __name__ == "__main__":
    main()
