"""`musicldm report`: a page to hear a batch on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    report = commands.add_parser(
        "report",
        help="make a page to hear a batch on",
        description="Make one HTML file that plays each clip of a batch beside its prompt, its picture, "
        "its scores and its settings.",
    )
    report.set_defaults(run=run)
    report.add_argument("folder", type=Path, metavar="DIR", help="what `musicldm batch` wrote")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page (default: DIR/report.html)"
    )
    report.add_argument(
        "--embed", action="store_true", help="put the sound into the page, so that it can be sent alone"
    )


def run(options: argparse.Namespace) -> int:
    """Write the page."""
    from musicldm.batch.report import write_report

    path, clips = write_report(options.folder, options.output, embed=options.embed)
    print(f"{path}: {clips} clips, {path.stat().st_size / 1e6:.1f} MB")
    return 0
