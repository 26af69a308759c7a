"""`musicldm manifest`: a training manifest from a folder of sound files, checked."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    manifest = commands.add_parser(
        "manifest",
        help="list a folder of music for training",
        description="Write a training manifest from a folder of sound files, or from another manifest, and "
        "look at every file. Captions come from song.txt or song.json beside song.wav, or from its name.",
    )
    manifest.set_defaults(run=run)
    manifest.add_argument("source", type=Path, metavar="FOLDER", help="or a manifest, .jsonl or .csv")
    manifest.add_argument("-o", "--output", type=Path, required=True, metavar="F.jsonl")
    manifest.add_argument(
        "--columns", metavar="OURS=THEIRS,...", help="of a manifest, read these alone: caption=text,path=file"
    )
    manifest.add_argument("--validation", type=float, default=0.0, metavar="SHARE",
                          help="of the files of a folder (default: none)")  # fmt: skip
    manifest.add_argument("--test", type=float, default=0.0, metavar="SHARE",
                          help="the same for the split test (default: none)")  # fmt: skip
    manifest.add_argument(
        "--seed", type=int, default=0, help="for --validation and --test (default: %(default)s)"
    )
    manifest.add_argument("--check", choices=("samples", "headers", "none"), default="samples",
                          help="decode every file (default), or look at headers alone, or trust")  # fmt: skip
    manifest.add_argument("--seconds", type=float, default=1.0, metavar="S",
                          help="a shorter file cannot be used (default: %(default)s)")  # fmt: skip
    manifest.add_argument(
        "--skip-bad", action="store_true", help="leave out what cannot be used; default: write nothing then"
    )
    manifest.add_argument("--cache", type=Path, metavar="DIR",
                          help="keep what decoding found for training (its data.cache)")  # fmt: skip
    manifest.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Write the manifest; an error, with all that is wrong, if files cannot be used."""
    from tqdm import tqdm

    from musicldm.data.folders import tracks_from_folder
    from musicldm.data.manifest import read_manifest, write_manifest
    from musicldm.data.track_checks import check_tracks
    from musicldm.data.track_stats import Measures

    if options.source.is_dir():
        found = tracks_from_folder(options.source, options.validation, options.seed, test=options.test)
        tracks = found.tracks
        for path in found.left:
            print(f"  left out, convert it to .flac: {path}", file=sys.stderr)
        if found.named:
            print(f"  {found.named} captions are file names; put a song.txt beside song.wav", file=sys.stderr)
    else:
        if options.validation or options.test:
            raise ValueError(
                f"{options.source}: --validation and --test split a folder; a manifest says its splits "
                "itself, in the field `split`"
            )
        tracks = read_manifest(options.source, columns=_columns(options.columns))
    if options.check != "none":
        folder = options.cache / "sound" if options.cache else None

        def bar(results: Any) -> Any:
            return tqdm(results, total=len(tracks), unit="file", disable=options.quiet)

        tracks = check_tracks(
            tracks,
            options.seconds,
            policy="skip" if options.skip_bad else "refuse",
            measures=Measures(16000, folder) if options.check == "samples" else None,
            workers=os.cpu_count() or 1,
            progress=bar,
        )
    write_manifest(options.output, tracks)
    splits = sorted({track.split for track in tracks})
    counts = ", ".join(f"{sum(track.split == split for track in tracks)} {split}" for split in splits)
    print(f"{options.output}: {len(tracks)} tracks ({counts})", file=sys.stderr)
    return 0


def _columns(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if any(not (ours.strip() and theirs.strip()) for ours, _, theirs in pairs):
        raise ValueError(f"--columns: got {text!r}, expected OURS=THEIRS,... as in caption=text,path=file")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
