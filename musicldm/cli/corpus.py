"""`musicldm corpus`: compose and render a corpus to train on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    corpus = commands.add_parser(
        "corpus",
        help="compose and render a corpus to train on",
        description="Compose clips of 10.24 s by rule, render them with fluidsynth, write a manifest with"
        " captions, beats and splits. Same seed, same corpus. Goes on with what an interrupted run left.",
    )
    corpus.set_defaults(run=run)
    corpus.add_argument(
        "-o", "--out", required=True, type=Path, metavar="DIR", help="folder to make or to go on with"
    )
    corpus.add_argument("--clips", type=int, default=4000, help="how many (default %(default)s)")
    corpus.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    corpus.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    corpus.add_argument(
        "--soundfont", metavar="FILE", help="General MIDI .sf2 (default: FluidR3_GM.sf2, where found)"
    )
    corpus.add_argument(
        "--format", choices=("flac", "wav"), default="flac", help="of the clips (default %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Make it, with a progress bar; say what was made."""
    from tqdm import tqdm

    from musicldm.corpus.build import build

    info = build(
        options.out,
        options.clips,
        options.seed,
        jobs=options.jobs,
        soundfont=options.soundfont,
        suffix="." + options.format,
        progress=lambda numbers: tqdm(numbers, total=options.clips, unit="clip"),
    )
    print(
        f"{options.out}: {info['clips']} clips, manifest.jsonl, facts.jsonl, info.json ({info['fluidsynth']})"
    )
    return 0
