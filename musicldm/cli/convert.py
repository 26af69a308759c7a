"""`musicldm convert`, and `python -m weights_convert`: checkpoints from one layout to another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["add", "main", "run"]

DESCRIPTION = "The authors' checkpoints, or a hub folder, to a checked hub folder."
DTYPES = ("float32", "float16", "bfloat16", "fp32", "fp16", "bf16")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    convert = commands.add_parser(
        "convert", help="bring a checkpoint into the hub's layout, or back", description=DESCRIPTION
    )
    convert.set_defaults(run=run)
    _add_options(convert)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command by itself; 0, or 1 after one clear error."""
    parser = argparse.ArgumentParser(prog="python -m weights_convert", description=DESCRIPTION)
    _add_options(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except (ValueError, OSError) as error:  # said in full, without a traceback
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was done; 0."""
    from musicldm.conversion import ConversionConfig, convert_checkpoint

    named = {name: value for name, value in vars(options).items() if name not in ("run", "ema", "raw")}
    convert_checkpoint(
        ConversionConfig(**named, weights="ema" if options.ema else "raw" if options.raw else None), print
    )
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("src", type=Path, help="the authors' musicldm-ckpt.ckpt (.ckpt, .pt, .safetensors), or a hub folder")
    add("out", type=Path, help="folder to make (with --inverse: .ckpt to make); must not exist")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ema", action="store_true", help="the U-Net's moving averages (default if present)")
    which.add_argument("--raw", action="store_true", help="the U-Net's own weights")
    add("--vae", type=Path, metavar="F", help="vae-ckpt.ckpt, where SRC has no VAE")
    add("--vocoder", type=Path, metavar="F", help="hifigan-ckpt.ckpt, where SRC has no vocoder")
    add("--clap", type=Path, metavar="F", help="clap-ckpt.pt, where SRC has no CLAP")
    add("--config", type=Path, metavar="YAML", help="musicldm.yaml (default: the release's facts)")
    add("--vocoder-config", type=Path, metavar="JSON", help="config_16k_64.json (default: the release's)")
    add("--tokenizer", type=Path, metavar="FOLDER",
        help="tokenizer files (default: roberta-base from the hub)")  # fmt: skip
    add("--dtype", choices=DTYPES, help="of the weights written (default: as they are)")
    add("--dry-run", action="store_true", help="print the report, write nothing")
    add("--inverse", action="store_true", help="SRC is a hub folder; write a .ckpt with the authors' names")
