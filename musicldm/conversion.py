"""The authors' checkpoints, or a hub folder, to a checked hub folder; and a hub folder back.

`weights_convert` knows the names and shapes of both sides; here they are put together with what this package
knows of a checkpoint, and every folder is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from weights_convert.hub_folder import NETWORKS, find_weights
from weights_convert.mapping import convert, invert
from weights_convert.original_facts import read_facts
from weights_convert.package import FEATURE_EXTRACTOR, Job, cast, copy_files, describe, write_networks
from weights_convert.reading import Checkpoint, CheckpointError, read_checkpoint, read_json
from weights_convert.release import Network, Weights, convert_release, to_original
from weights_convert.writing import folder_in_one_piece, write_checkpoint, write_json

from . import __version__
from .checkpoint import check_index, empty_network, hub_tensors, load_front_end, model_index

__all__ = ["TOKENIZER", "ConversionConfig", "convert_checkpoint"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES |= {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOKENIZER = "roberta-base"  # what the authors load by name; cut to 512 tokens
MAX_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """What to convert, and how.

    src: the authors' full checkpoint, or a hub folder. out: the folder to make (with `inverse`: the
    .ckpt); it must not exist. weights: of the U-Net, "ema" or "raw"; None takes the moving averages if
    they are there. vae, vocoder, clap: the authors' side files, where src lacks the part. config,
    vocoder_config: the authors' YAML and JSON; None stands for the release's. tokenizer: a folder; None
    asks the hub for `TOKENIZER`. dtype: a key of `DTYPES`, of the weights that are written; None leaves
    them as they are. dry_run: say what would be written. inverse: from a hub folder to one .ckpt with
    the authors' names.
    """

    src: Path
    out: Path
    weights: Weights | None = None
    vae: Path | None = None
    vocoder: Path | None = None
    clap: Path | None = None
    config: Path | None = None
    vocoder_config: Path | None = None
    tokenizer: Path | None = None
    dtype: str | None = None
    dry_run: bool = False
    inverse: bool = False

    def check(self) -> None:
        """Raises CheckpointError, before anything is read, for what does not go together."""
        if self.out.exists() or self.out.is_symlink():
            raise CheckpointError(f"{self.out} exists already; give a new name, or delete it first")
        if not self.src.exists():
            raise CheckpointError(f"there is no {self.src}")
        for_release = ("vae", "vocoder", "clap", "config", "vocoder_config", "tokenizer")
        given = [f"--{self.weights}"] if self.weights else []
        given += [f"--{name.replace('_', '-')}" for name in for_release if getattr(self, name) is not None]
        if self.src.is_dir() and given:
            raise CheckpointError(f"{self.src} is a hub folder, for which {', '.join(given)} mean nothing")
        if self.inverse and not self.src.is_dir():
            raise CheckpointError(f"--inverse wants a hub folder, {self.src} is a file")
        if self.inverse and (self.dtype or self.dry_run):
            raise CheckpointError("--inverse writes the weights as they are: no --dtype, no --dry-run")


def convert_checkpoint(config: ConversionConfig, say: Callable[[str], None]) -> None:
    """Convert, and `say` line by line what was found, dropped and written.

    Raises CheckpointError, with everything that does not fit, and OSError where the disk does; nothing is
    left behind then.
    """
    config.check()
    if config.inverse:
        _write_original(config, say)
    elif config.src.is_dir():
        _convert_hub(config, say)
    else:
        _convert_original(config, say)


def _convert_original(config: ConversionConfig, say: Callable[[str], None]) -> None:
    def side(path: Path | None) -> Checkpoint | None:
        return None if path is None else read_checkpoint(path)

    facts = read_facts(config.config, config.vocoder_config)
    full = read_checkpoint(config.src)
    sides = {"vae": side(config.vae), "vocoder": side(config.vocoder), "clap": side(config.clap)}
    release = convert_release(full, hub_tensors, facts, weights=config.weights, **sides)
    read = {"full checkpoint": full} | {name: held for name, held in sides.items() if held is not None}
    configs = {"config": config.config, "vocoder config": config.vocoder_config}
    job = Job(
        sources={role: held.path for role, held in read.items()} | {k: v for k, v in configs.items() if v},
        networks=release.networks,
        facts={
            "unet_weights": release.weights,
            "unet_weights_chosen": "by default: they are present" if config.weights is None else "by flag",
            "channels_per_head": facts.num_head_channels,
            "channels_per_head_from": config.config.name
            if config.config
            else "the release's YAML, not given here",
            "foreign_objects": sorted({name for held in read.values() for name in held.foreign}),
        },
        notes=release.notes,
        dropped=release.dropped,
    )
    if config.weights is None and release.weights == "raw":
        job.facts["unet_weights_chosen"] = "there are no others"

    def front_end(root: Path) -> None:
        write_json(root / "feature_extractor" / "preprocessor_config.json", FEATURE_EXTRACTOR)
        _write_tokenizer(config.tokenizer, root / "tokenizer")
        write_json(root / "scheduler" / "scheduler_config.json", release.scheduler)
        write_json(root / "model_index.json", model_index(release.scheduler["_class_name"]))

    _run(job, config, say, front_end)


def _convert_hub(config: ConversionConfig, say: Callable[[str], None]) -> None:
    check_index(config.src / "model_index.json")
    load_front_end(config.src)
    files = {name: find_weights(config.src / name, name) for name in NETWORKS}
    job = Job(
        sources={f"{name}/{path.name}": path for name, held in files.items() for path in held.shards},
        networks=(_checked(config.src, name) for name in NETWORKS),
        notes=[
            f"{name}/{path.name} is ignored: {why}"
            for name, held in files.items()
            for path, why in held.ignored.items()
        ],
    )
    if (config.src / "provenance.json").is_file():
        job.facts["source_provenance"] = read_json(config.src / "provenance.json")

    def front_end(root: Path) -> None:
        for name in ("tokenizer", "feature_extractor", "scheduler"):
            copy_files(config.src / name, root / name)
        write_json(root / "model_index.json", read_json(config.src / "model_index.json"))

    _run(job, config, say, front_end)


def _checked(root: Path, name: str) -> Network:
    """A network of a hub folder, through our own tables and back: every tensor accounted for."""
    path = root / name / "config.json"
    config, files = read_json(path), find_weights(root / name, name)
    module, table = empty_network(name, config, str(path))
    filled = convert(table, files.read(), module.state_dict(), where=files.where)
    tensors: dict[str, Tensor] = invert(table, filled)
    return Network(name, config, tensors, root / name)


def _run(
    job: Job, config: ConversionConfig, say: Callable[[str], None], front_end: Callable[[Path], None]
) -> None:
    dtype = None if config.dtype is None else DTYPES[config.dtype]
    for line in _heading(job):
        say(line)
    if config.dry_run:
        for network in job.networks:
            say("  " + describe(cast(network, dtype)))
        say("dry run: all of this would fit; nothing is written")
        return
    with folder_in_one_piece(config.out) as root:
        front_end(root)  # small, and may fail for want of a network: before the gigabytes
        for line in write_networks(job.networks, root, dtype):
            say("  " + line)
        load_front_end(root)
        written = {"written_by": f"musicldm {__version__}", "dtype": config.dtype or "as in the sources"}
        write_json(root / "provenance.json", job.provenance() | written)
    say(f"wrote {config.out}")


def _heading(job: Job) -> Iterator[str]:
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


def _write_original(config: ConversionConfig, say: Callable[[str], None]) -> None:
    src, out = config.src, config.out
    check_index(src / "model_index.json")
    networks = {name: _checked(src, name) for name in NETWORKS}
    tensors = to_original(
        {name: network.config for name, network in networks.items()},
        {name: network.tensors for name, network in networks.items()},
    )
    write_checkpoint(out, tensors)
    say(f"wrote {out}: {len(tensors)} tensors under the authors' names")
