"""The name of a checkpoint -> the folder that holds it: the demo model, a folder, or an id of the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import snapshot_download

from weights_convert.hub_folder import NETWORKS
from weights_convert.reading import CheckpointError

__all__ = ["DEMO", "PUBLISHED", "resolve", "usual_guidance"]

DEMO = "demo"  # ships with this package, see demo/README.md
PUBLISHED = "ucsd-reach/musicldm"  # the authors' weights
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)  # owner/name


def usual_guidance(id_or_folder: str | os.PathLike[str]) -> float:
    """The guidance scale that a command takes when none is given: 4 for the demo model, else the published 2.

    Source: demo/README.md, "What it can do, measured".
    """
    return 4.0 if id_or_folder == DEMO else 2.0


def resolve(
    id_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder of a checkpoint; that of a hub id is downloaded first.

    The string "demo" is the model that ships; a folder of yours of that name is "./demo", or a Path.
    A name of two parts, such as "runs/vae", may be either: the folder comes first, then the hub. Raises
    CheckpointError if there is no such folder, or the download fails.
    """
    if id_or_folder == DEMO:
        return Path(__file__).parent / DEMO
    folder = Path(id_or_folder)
    if folder.is_dir():
        return folder
    name = os.fspath(id_or_folder)
    if folder.exists() or folder.is_symlink() or not HUB_ID.fullmatch(name):
        what = "does not exist"
        if folder.exists():
            what = "is a file (the authors' go through `python -m weights_convert` first)"
        elif folder.is_symlink():
            what = "is a symbolic link that leads nowhere, or in a circle"
        raise CheckpointError(
            f"checkpoint {name!r} {what}; expected a folder with a model_index.json, or a hub id like "
            f"{PUBLISHED!r}, or {DEMO!r}"
        )
    suffix = f".{variant}" if variant else ""

    def download(*patterns: str) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=[*patterns],
            )
        )

    try:
        configs = ("*.json", "*/*.json", "*/*.txt")
        found = download(*configs, f"*/*model{suffix}.safetensors", f"*/*model{suffix}-*-of-*.safetensors")
        if any(not list(found.glob(f"{part}/*.safetensors")) for part in NETWORKS):
            found = download(*configs, f"*/*model{suffix}*.safetensors", f"*/*model{suffix}.bin")
    except Exception as error:  # of the hub client, the network and the disk: all mean the same to the caller
        raise CheckpointError(
            f"checkpoint {name!r}: there is no such folder in {Path.cwd()}, and the hub did not give it "
            f"({type(error).__name__}: {error}). If a folder is meant, make it first, or mend its path; if "
            "the hub is: without a network, copy the checkpoint's folder here from a machine that has it, "
            "and give its path instead of the id"
        ) from error
    return found
