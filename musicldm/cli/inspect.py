"""`musicldm inspect`: what a checkpoint holds."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    inspect = commands.add_parser(
        "inspect",
        help="say what a checkpoint holds",
        description="Say what a checkpoint holds: parts, sizes, hashes, head counts, what is ignored.",
    )
    inspect.set_defaults(run=run)
    inspect.add_argument("model", metavar="ID_OR_FOLDER", help="checkpoint in the hub's layout")
    inspect.add_argument("--revision", help="of a hub id")
    inspect.add_argument("--variant", help="read *.VARIANT.safetensors, such as fp16")
    inspect.add_argument("--no-hashes", action="store_true", help="leave the SHA-256 of the files out")


def run(options: argparse.Namespace) -> int:
    """Print what was found; 1 if something is wrong with it."""
    from musicldm.inspection import inspect

    inspection = inspect(
        options.model, revision=options.revision, variant=options.variant, hashes=not options.no_hashes
    )
    print(inspection)
    return 1 if inspection.problems else 0
