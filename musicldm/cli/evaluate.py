"""`musicldm evaluate`: how good, how relevant and how new a set of clips is."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]

# of the libraries that numpy computes with: their sums depend on how many threads share them
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure the quality, relevance and novelty of clips",
        description="Compare clips with real ones, with their prompts and with the training clips. What the "
        "inputs allow is measured, and what is left out is named. Clips that cannot be used are an error, "
        "unless --skip leaves them out. Run again, it goes on where it stopped and gives the same numbers. "
        "With torchrun --nproc-per-node N -m musicldm evaluate ..., N processes share the clips.",
    )
    evaluate.set_defaults(run=run)
    sets = evaluate.add_argument_group(
        "clips", "each a folder of sound files, a manifest (.jsonl or .csv), or what `musicldm batch` wrote"
    )
    sets.add_argument("generated", type=Path, metavar="GENERATED", help="the clips that are judged")
    sets.add_argument("--reference", type=Path, metavar="DIR", help="real clips that were not trained on")
    sets.add_argument("--train", type=Path, metavar="DIR", help="the clips that the model was trained on")
    for role in ("generated", "reference", "train"):
        sets.add_argument(f"--{role}-split", metavar="NAME", default="train" if role == "train" else None,
                          help=f"of a manifest{' (default: train)' * (role == 'train')}")  # fmt: skip
    sets.add_argument("--prompts", type=Path, metavar="FILE",
                      help=".jsonl or .csv with the prompt of each generated clip: path, file or id; and "
                      "caption, prompt or text. A batch's folder and captions need none")  # fmt: skip
    sets.add_argument("--skip", default="", metavar="KIND,...",
                      help="leave out clips with these problems, or all; default: refuse them")  # fmt: skip
    heard = evaluate.add_argument_group("what is heard of them")
    heard.add_argument("--features", default="clap", metavar="NAME,...",
                       help="clap, clap=ID_OR_FOLDER, logmel, panns=FILE, vggish=FILE, or module:name of a "
                       "Feature of your own (default: clap)")  # fmt: skip
    heard.add_argument("--model", default="ucsd-reach/musicldm", metavar="ID_OR_FOLDER",
                       help="whose CLAP `clap` is (default: %(default)s)")  # fmt: skip
    heard.add_argument("--resample", type=int, metavar="HZ",
                       help="bring clips to this rate first; default: all must have one rate")  # fmt: skip
    heard.add_argument("--downmix", action="store_true", help="average the channels of stereo clips")
    heard.add_argument("--loudness", choices=("as-is", "peak", "rms"), default="as-is",
                       help="as-is (default); peak: peak 0.5, as in training; rms: -20 dB")  # fmt: skip
    heard.add_argument("--seconds", type=float, metavar="S",
                       help="middle S seconds of generated and reference clips; default: all")  # fmt: skip
    heard.add_argument("--window", type=float, default=10.24, metavar="S",
                       help="a training clip of over 1.5 S seconds is compared window by window (default: "
                       "%(default)s); 0: only as a whole")  # fmt: skip
    heard.add_argument("--shortest", type=float, default=1.0, metavar="S",
                       help="a shorter clip cannot be used (default: %(default)s)")  # fmt: skip
    numbers = evaluate.add_argument_group("numbers")
    numbers.add_argument("--thresholds", default="0.90,0.95", metavar="T,...",
                         help="of SIM_AA: cosines of the nearest clip (default: %(default)s)")  # fmt: skip
    numbers.add_argument("--bootstrap", type=int, default=1000, metavar="N",
                         help="resamplings of an interval; 0: none (default: %(default)s)")  # fmt: skip
    numbers.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    out = evaluate.add_argument_group("output")
    out.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                     help="folder for report.json, report.md, index.html")  # fmt: skip
    out.add_argument("--cache", type=Path, metavar="DIR",
                     help="what was computed of each file (default: cache in the output)")  # fmt: skip
    out.add_argument("--examples", type=int, default=12, metavar="N",
                     help="clips of each list on the page (default: %(default)s)")  # fmt: skip
    out.add_argument("--embed", action="store_true", help="put these clips into the page")
    out.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one"
    )
    out.add_argument("--quiet", action="store_true", help="no progress bars, no table")


def run(options: argparse.Namespace) -> int:
    """Measure, write the report."""
    if "numpy" not in sys.modules:  # else it is too late, as in a program that calls this one
        os.environ.update(dict.fromkeys(THREADS, "1"))
    from musicldm.evaluation.command import run_evaluation

    status, table = run_evaluation(options)
    if table and not options.quiet:
        print(table)
    return status
