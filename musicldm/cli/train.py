"""`musicldm train`: train or fine-tune one of the four networks."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]

INTERRUPTED = 130


def add(commands: Any) -> None:
    """Add the command to the parser."""
    train = commands.add_parser(
        "train",
        help="train or fine-tune a network",
        description="Train or fine-tune one of the four networks as a TOML file says. Ctrl-C or SIGTERM "
        "saves and ends; --resume goes on. With torchrun --nproc-per-node N -m musicldm train ..., N "
        "processes share each step. Examples: musicldm/training/configs.",
    )
    train.set_defaults(run=run)
    train.add_argument("stage", choices=("vae", "vocoder", "clap", "ldm"), metavar="STAGE",
                       help="vae, vocoder, clap or ldm")  # fmt: skip
    train.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml",
                       help="or the name of an example, such as ldm-finetune; see --keys")  # fmt: skip
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the output")
    train.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                       help="change a key of the config, such as loop.steps=1000")  # fmt: skip
    train.add_argument("--keys", action="store_true", help="list every key of the stage's config, and end")
    train.add_argument("--quiet", action="store_true", help="no progress, warnings alone")


def run(options: argparse.Namespace) -> int:
    """Train; 130 if the run was stopped before its last step."""
    from musicldm.training.command import describe, run_stage

    if options.keys:
        print(describe(options.stage))
        return 0
    if options.config is None:
        raise ValueError(
            f"musicldm train {options.stage}: give a CONFIG.toml (--keys lists what goes into it)"
        )
    speaks = os.environ.get("RANK", "0") == "0"  # one process of many
    if speaks and not options.quiet:
        logging.getLogger("musicldm.training").setLevel(logging.INFO)
    outcome = run_stage(
        options.stage,
        options.config,
        overrides=options.overrides,
        resume=options.resume,
        bar=not options.quiet,
    )
    what = "stopped after" if outcome.stopped else "done:"
    if speaks:
        print(f"{what} step {outcome.step}; checkpoint {outcome.checkpoint}", file=sys.stderr)
    if speaks and outcome.stopped:
        print("go on with the same command and --resume", file=sys.stderr)
    return INTERRUPTED if outcome.stopped else 0
