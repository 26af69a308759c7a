"""`musicldm batch`: a clip from each row of a prompt file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import (
    add_length_option,
    add_model_options,
    add_sampling_options,
    add_speed_options,
    load_pipeline,
)

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    batch = commands.add_parser(
        "batch",
        help="make a clip from each row of a prompt file",
        description="Make a clip from each row of a prompt file. Run again, it goes on where it stopped. "
        "With torchrun --nproc-per-node N -m musicldm batch ..., N processes share the rows.",
    )
    batch.set_defaults(run=run)
    batch.add_argument(
        "prompts", type=Path, metavar="PROMPTS",
        help=".txt, a prompt a line; or .csv with a header, or .jsonl, with prompt and, for rows that "
        "differ, negative, seconds, steps, guidance, seed, id",
    )  # fmt: skip
    batch.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for clips and sidecars"
    )
    batch.add_argument("--batch-size", type=int, default=1, metavar="N",
                       help="rows made at once (default: %(default)s); changes no clip")  # fmt: skip
    batch.add_argument(
        "--format", choices=("wav", "flac", "ogg"), default="wav", help="of the clips (default: wav)"
    )
    batch.add_argument(
        "--float32", action="store_true", help="write WAVs of 32-bit floats, not 16-bit integers"
    )
    batch.add_argument("--keep-all", action="store_true", help="keep all candidates, not the best alone")
    batch.add_argument(
        "--overwrite", action="store_true", help="remove what other settings made in DIR; default: an error"
    )
    batch.add_argument("--columns", metavar="OURS=THEIRS,...",
                       help="read these columns alone, as in prompt=caption,id=ytid")  # fmt: skip
    batch.add_argument("--encoding", default="utf-8", help="of the prompt file (default: %(default)s)")
    batch.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    add_length_option(batch)
    add_model_options(batch)
    add_sampling_options(batch, seed="a whole number that names the run's noise (default: 0)")
    add_speed_options(batch)


def run(options: argparse.Namespace) -> int:
    """Make the clips that are not there yet."""
    from musicldm.batch.command import run_batch

    return run_batch(options, load_pipeline)
