"""`musicldm train`: a stage's name and a TOML file -> a run folder."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from musicldm.io.distributed import Group
from musicldm.io.files import atomic, write_json

from .config import as_toml, differences, keys_of, parse, read_toml
from .loop import Outcome, Trainer
from .parts import refuse_unheard_init
from .settings import RunConfig

__all__ = ["STAGES", "describe", "example", "open_folder", "run_stage"]

log = logging.getLogger(__name__)

STAGES = {
    "vae": "vae",
    "vocoder": "vocoder",
    "clap": "clap",
    "ldm": "ldm",
}  # command -> module beside this one
WRITTEN = ("torch", "numpy", "transformers", "safetensors", "soundfile", "soxr")


def run_stage(
    stage: str,
    path: Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    bar: bool = True,
    environment: Mapping[str, str] = os.environ,
) -> Outcome:
    """Train one stage as a file says, or an example by its name (`ldm-bam`).

    Raises ValueError, before any work, for what cannot be honoured.
    """
    module = _module(stage)
    path = example(path)
    table = read_toml(path, overrides)
    refuse_unheard_init(table, overrides, path.name)
    config: RunConfig = parse(module.Config, table, str(path))
    with Group.opened(config.device, environment) as group:
        # one after the others: they find what it has downloaded, and measured of every file
        made, train, held_out = group.first_alone(lambda: module.build(config, group))
        trainer = Trainer(made, config, group, train, held_out)
        if not resume:
            trainer.refuse_if_begun()
        if group.first:
            open_folder(config, stage, group, resume=resume)
        return trainer.run(resume=resume, bar=bar and group.first)


def example(path: Path) -> Path:
    """The file, or the example config of that name. Raises ValueError if there is neither."""
    known = {file.stem: file for file in sorted((Path(__file__).parent / "configs").glob("*.toml"))}
    if path.exists() or path.suffix:
        return path
    if str(path) not in known:
        raise ValueError(f"{path}: neither a file nor an example config; there are {', '.join(known)}")
    return known[str(path)]


def open_folder(config: RunConfig, stage: str, group: Group, *, resume: bool) -> None:
    """Write the config as used and the versions; of a resumed run, say which keys have changed.

    Raises ValueError if the folder holds another stage's run.
    """
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / "run.json"
    if about.exists():
        before = json.loads(about.read_bytes())
        if before["stage"] != stage and resume:
            raise ValueError(f"{folder} holds a run of stage {before['stage']!r}, not {stage!r}")
        used = folder / "config.toml"
        if resume and used.exists():
            old = parse(type(config), read_toml(used), str(used))
            for line in differences(old, config):
                log.warning("since the run was started: %s", line)
    with atomic(folder / "config.toml") as file:
        file.write(as_toml(config).encode())
    write_json(about, {"stage": stage, "world_size": group.world, "device": str(group.device), **_versions()})


def describe(stage: str) -> str:
    """Every key of a stage's config: its name, its default, its meaning."""
    return "\n".join(
        f"{name} = {default or '(must be given)'}\n    {meaning}"
        for name, default, meaning in keys_of(_module(stage).Config)
    )


def _module(stage: str) -> Any:
    if stage not in STAGES:
        raise ValueError(f"stage: got {stage!r}, expected one of {', '.join(STAGES)}")
    return import_module(f"{__package__}.{STAGES[stage]}")


def _versions() -> dict[str, Any]:
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or ""}
    return {"versions": {**found, **{package: _version(package) for package in ("musicldm", *WRITTEN)}}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "not installed"
