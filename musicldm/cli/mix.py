"""`musicldm mix`: hear what beat-synchronous mixup makes of two tracks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    mix = commands.add_parser(
        "mix",
        help="write one mixed pair to listen to",
        description="Write a.wav, b.wav, mix.wav and mix.json, which says what was aligned and how far the "
        "beats of the two lie apart. The manifest needs beats: see `musicldm beats`.",
    )
    mix.set_defaults(run=run)
    mix.add_argument("manifest", type=Path, metavar="MANIFEST", help=".jsonl or .csv, with beats")
    mix.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    mix.add_argument("--strategy", choices=("bam", "plain"), default="bam",
                     help="beat-synchronous (default), or any two cut anywhere")  # fmt: skip
    mix.add_argument("--anchor", metavar="TEXT", help="a track whose path contains this; default: any")
    mix.add_argument("--seconds", type=float, default=10.24, help="(default: %(default)s)")
    mix.add_argument("--rate", type=int, default=16000, help="of the files, in Hz (default: %(default)s)")
    mix.add_argument("--pairs", choices=("neighbours", "bins"), default="neighbours",
                     help="tempi within --max-bpm (default), or the authors' bins of 3")  # fmt: skip
    mix.add_argument("--max-bpm", type=float, default=1.0, help="(default: %(default)s)")
    mix.add_argument("--fold", action="store_true", help="half and double tempo match too")
    mix.add_argument("--max-offset", type=float, default=0.06, metavar="S",
                     help="draw again if the beats lie further apart (default: %(default)s)")  # fmt: skip
    mix.add_argument(
        "--clicks", action="store_true", help="a's beats on the left, b's on the right of the mix"
    )
    mix.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Write the pair and say how well it fits."""
    from musicldm.data.manifest import read_manifest
    from musicldm.data.mixer import Mixer
    from musicldm.data.mixup_preview import find_pair, write_example
    from musicldm.data.track_stats import Measures

    if not options.seconds > 0 or options.rate < 1:
        raise ValueError(f"mix: got {options.seconds} s at {options.rate} Hz, expected more than nothing")
    mixer = Mixer(
        read_manifest(options.manifest), options.strategy, probability=1.0,
        pairs=options.pairs, max_bpm=options.max_bpm, fold=options.fold,
        max_offset=options.max_offset,
    )  # fmt: skip
    measures = Measures(options.rate)
    index, pair = find_pair(mixer, measures, options.seconds, options.seed, options.anchor)
    made = write_example(options.output, mixer, measures, index, pair, options.seconds, clicks=options.clicks)
    for side in "ab":
        about = made.about[side]
        print(
            f"  {side}: {about['path']}, from {about['cut_at']:.2f} s, {about['tempo']} BPM", file=sys.stderr
        )
    median, largest = made.about.get("median_offset_ms"), made.about.get("largest_offset_ms")
    print(f"  lambda {made.about['lambda']:.3f}", file=sys.stderr)
    print(f"  beats apart: median {median} ms, at most {largest} ms", file=sys.stderr)
    print(options.output, file=sys.stderr)
    return 0
