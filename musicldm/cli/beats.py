"""`musicldm beats`: find the beats of every track of a manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    beats = commands.add_parser(
        "beats",
        help="find the beats of a manifest's tracks",
        description="Write a manifest with beats and downbeats, which beat-synchronous mixup needs. What was "
        "heard is kept in F.jsonl.journal: run again, it goes on where it stopped. "
        "The exit status is 1 if a track stays without.",
    )
    beats.set_defaults(run=run)
    beats.add_argument("manifest", type=Path, metavar="MANIFEST", help=".jsonl or .csv")
    beats.add_argument("-o", "--output", type=Path, metavar="F.jsonl",
                       help="default: MANIFEST's name with .beats.jsonl, beside it")  # fmt: skip
    beats.add_argument("--backend", default="beat_this", metavar="NAME",
                       help="beat_this (default), madmom or librosa; to be installed by you")  # fmt: skip
    beats.add_argument("--annotations", type=Path, metavar="DIR",
                       help="first look here for STEM.beats, or STEM_beat_pred.npy and "
                       "STEM_downbeat_pred.npy")  # fmt: skip
    beats.add_argument("--device", default="cpu", help="for beat_this (default: %(default)s)")
    beats.add_argument("--again", action="store_true", help="also for tracks that have beats already")
    beats.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Find what is missing; 1 if some tracks stay without beats."""
    from dataclasses import replace

    from tqdm import tqdm

    from musicldm.data.beat_backends import BACKENDS, load_backend
    from musicldm.data.beats import Failure, Journal, annotated, backend_version, find_beats
    from musicldm.data.manifest import read_manifest, write_manifest

    if options.backend not in BACKENDS:
        load_backend(options.backend)  # says which ones there are
    tracks = read_manifest(options.manifest)
    output = options.output or options.manifest.with_suffix(".beats.jsonl")
    again = options.again
    if options.annotations is not None:
        if not options.annotations.is_dir():
            raise ValueError(f"--annotations {options.annotations}: there is no such folder")
        found = [annotated(track, options.annotations) for track in tracks]
        tracks = [
            track if times is None else replace(track, beats=times.beats, downbeats=times.downbeats)
            for track, times in zip(tracks, found, strict=True)
        ]
    missing = sum(again or track.beats is None or track.downbeats is None for track in tracks)
    journal = Journal(output.with_name(output.name + ".journal"), backend_version(options.backend))
    failures: list[Failure] = []
    if missing:
        hear = load_backend(options.backend, options.device)

        def bar(todo: Any) -> Any:
            return tqdm(todo, unit="track", disable=options.quiet)

        tracks, failures = find_beats(tracks, hear, journal, again=again, progress=bar)
    write_manifest(output, tracks)
    beaten = sum(track.beats is not None and track.downbeats is not None for track in tracks)
    print(f"{output}: {len(tracks)} tracks, {beaten} with beats and downbeats", file=sys.stderr)
    for failure in failures:
        print(f"  {failure.path}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0
