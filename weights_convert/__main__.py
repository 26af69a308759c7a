"""python -m weights_convert SRC OUT: the authors' checkpoints, or a hub folder, to a checked hub folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicldm import __version__
from musicldm.checkpoint import check_index, empty_network, hub_tensors, load_front_end, model_index

from .hub_folder import NETWORKS, find_weights
from .mapping import convert, invert
from .original_facts import read_facts
from .package import FEATURE_EXTRACTOR, Job, cast, copy_files, describe, write_networks
from .reading import Checkpoint, CheckpointError, read_checkpoint, read_json
from .release import Network, Weights, convert_release, to_original
from .writing import folder_in_one_piece, write_checkpoint, write_json

__all__ = ["main"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES |= {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOKENIZER = "roberta-base"  # what the authors load by name; cut to 512 tokens
MAX_TOKENS = 512


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 1 after one clear error."""
    args = _parser().parse_args(arguments)
    try:
        _check_arguments(args)
        if args.inverse:
            _write_original(args.src, args.out)
        elif args.src.is_dir():
            _convert_hub(args)
        else:
            _convert_original(args)
    except (ValueError, OSError) as error:  # said in full, without a traceback
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m weights_convert", description=__doc__)
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
    add(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help=f"tokenizer files (default: {TOKENIZER} from the hub)",
    )
    add("--dtype", choices=DTYPES, help="of the weights written (default: as they are)")
    add("--dry-run", action="store_true", help="print the report, write nothing")
    add("--inverse", action="store_true", help="SRC is a hub folder; write a .ckpt with the authors' names")
    return parser


def _check_arguments(args: argparse.Namespace) -> None:
    if args.out.exists() or args.out.is_symlink():
        raise CheckpointError(f"{args.out} exists already; give a new name, or delete it first")
    if not args.src.exists():
        raise CheckpointError(f"there is no {args.src}")
    for_release = ("ema", "raw", "vae", "vocoder", "clap", "config", "vocoder_config", "tokenizer")
    given = [f"--{name.replace('_', '-')}" for name in for_release if getattr(args, name)]
    if args.src.is_dir() and given:
        raise CheckpointError(f"{args.src} is a hub folder, for which {', '.join(given)} mean nothing")
    if args.inverse and not args.src.is_dir():
        raise CheckpointError(f"--inverse wants a hub folder, {args.src} is a file")
    if args.inverse and (args.dtype or args.dry_run):
        raise CheckpointError("--inverse writes the weights as they are: no --dtype, no --dry-run")


def _convert_original(args: argparse.Namespace) -> None:
    def side(path: Path | None) -> Checkpoint | None:
        return None if path is None else read_checkpoint(path)

    facts = read_facts(args.config, args.vocoder_config)
    full = read_checkpoint(args.src)
    sides = {name: side(getattr(args, name)) for name in ("vae", "vocoder", "clap")}
    weights: Weights | None = "ema" if args.ema else "raw" if args.raw else None
    release = convert_release(full, hub_tensors, facts, weights=weights, **sides)
    read = {"full checkpoint": full} | {name: held for name, held in sides.items() if held is not None}
    configs = {"config": args.config, "vocoder config": args.vocoder_config}
    job = Job(
        sources={role: held.path for role, held in read.items()} | {k: v for k, v in configs.items() if v},
        networks=release.networks,
        facts={
            "unet_weights": release.weights,
            "unet_weights_chosen": "by default: they are present" if weights is None else "by flag",
            "channels_per_head": facts.num_head_channels,
            "channels_per_head_from": args.config.name
            if args.config
            else "the release's YAML, not given here",
            "foreign_objects": sorted({name for held in read.values() for name in held.foreign}),
        },
        notes=release.notes,
        dropped=release.dropped,
    )
    if weights is None and release.weights == "raw":
        job.facts["unet_weights_chosen"] = "there are no others"

    def front_end(root: Path) -> None:
        write_json(root / "feature_extractor" / "preprocessor_config.json", FEATURE_EXTRACTOR)
        _write_tokenizer(args.tokenizer, root / "tokenizer")
        write_json(root / "scheduler" / "scheduler_config.json", release.scheduler)
        write_json(root / "model_index.json", model_index(release.scheduler["_class_name"]))

    _run(job, args, front_end)


def _convert_hub(args: argparse.Namespace) -> None:
    check_index(args.src / "model_index.json")
    load_front_end(args.src)
    files = {name: find_weights(args.src / name, name) for name in NETWORKS}
    job = Job(
        sources={f"{name}/{path.name}": path for name, held in files.items() for path in held.shards},
        networks=(_checked(args.src, name) for name in NETWORKS),
        notes=[
            f"{name}/{path.name} is ignored: {why}"
            for name, held in files.items()
            for path, why in held.ignored.items()
        ],
    )
    if (args.src / "provenance.json").is_file():
        job.facts["source_provenance"] = read_json(args.src / "provenance.json")

    def front_end(root: Path) -> None:
        for name in ("tokenizer", "feature_extractor", "scheduler"):
            copy_files(args.src / name, root / name)
        write_json(root / "model_index.json", read_json(args.src / "model_index.json"))

    _run(job, args, front_end)


def _checked(root: Path, name: str) -> Network:
    """A network of a hub folder, through our own tables and back: every tensor accounted for."""
    path = root / name / "config.json"
    config, files = read_json(path), find_weights(root / name, name)
    module, table = empty_network(name, config, str(path))
    filled = convert(table, files.read(), module.state_dict(), where=files.where)
    tensors: dict[str, Tensor] = invert(table, filled)
    return Network(name, config, tensors, root / name)


def _run(job: Job, args: argparse.Namespace, front_end: Any) -> None:
    dtype = None if args.dtype is None else DTYPES[args.dtype]
    for line in _heading(job, args):
        print(line)
    if args.dry_run:
        for network in job.networks:
            print("  " + describe(cast(network, dtype)))
        print("dry run: all of this would fit; nothing is written")
        return
    with folder_in_one_piece(args.out) as root:
        front_end(root)  # small, and may fail for want of a network: before the gigabytes
        for line in write_networks(job.networks, root, dtype):
            print("  " + line)
        load_front_end(root)
        written = {"written_by": f"musicldm {__version__}", "dtype": args.dtype or "as in the sources"}
        write_json(root / "provenance.json", job.provenance() | written)
    print(f"wrote {args.out}")


def _heading(job: Job, args: argparse.Namespace) -> Iterator[str]:
    for role, path in job.sources.items():
        yield f"{role}: {path} ({path.stat().st_size:,} bytes)"
    if "unet_weights" in job.facts:
        names = {"ema": "moving averages (EMA)", "raw": "raw weights, not their moving averages"}
        chosen, how = job.facts["unet_weights"], job.facts["unet_weights_chosen"]
        yield f"U-Net: {names[chosen]}, {how}"
        yield f"heads: {job.facts['channels_per_head']} channels each ({job.facts['channels_per_head_from']})"
    for name in job.facts.get("foreign_objects", ()):
        yield f"not loaded, not run: {name}"
    for note in job.notes:
        yield f"note: {note}"
    for dropped in job.dropped:
        yield f"dropped {len(dropped.names):>4} of {dropped.file} ({dropped.names[0]}, ...): {dropped.why}"


def _write_tokenizer(given: Path | None, folder: Path) -> None:
    if given is not None:
        copy_files(given, folder)
        return
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(TOKENIZER, model_max_length=MAX_TOKENS)
    except Exception as error:  # of the hub client, the network and the disk: all mean the same here
        raise CheckpointError(
            f"the tokenizer {TOKENIZER!r} is not in the release and could not be fetched from the hub "
            f"({type(error).__name__}); without a network give its folder with --tokenizer"
        ) from error
    tokenizer.save_pretrained(folder)


def _write_original(src: Path, out: Path) -> None:
    check_index(src / "model_index.json")
    networks = {name: _checked(src, name) for name in NETWORKS}
    tensors = to_original(
        {name: network.config for name, network in networks.items()},
        {name: network.tensors for name, network in networks.items()},
    )
    write_checkpoint(out, tensors)
    print(f"wrote {out}: {len(tensors)} tensors under the authors' names")


if __name__ == "__main__":
    sys.exit(main())
