"""Which files of a hub folder hold a component's weights, single or sharded, and how they are read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .reading import CheckpointError, read_json, read_shapes, read_tensors

__all__ = ["NETWORKS", "STEMS", "WeightFiles", "find_weights"]

log = logging.getLogger(__name__)

STEMS = {  # file names: Diffusers' models, then transformers'
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "vocoder": "model",
    "text_encoder": "model",
}
NETWORKS = tuple(STEMS)


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold one component's weights.

    shards: file -> the tensor names that an index promises in it; None where one file holds all.
    ignored: other files of weights in the folder -> why they are not read.
    """

    folder: Path
    shards: dict[Path, set[str] | None]
    ignored: dict[Path, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The file for an error, or the folder if the weights are in several."""
        return str(next(iter(self.shards)) if len(self.shards) == 1 else self.folder)

    def read(self) -> dict[str, Tensor]:
        """All tensors, in one floating dtype: the widest that the files hold.

        Raises CheckpointError if a file is broken or holds other tensors than the index says.
        """
        tensors: dict[str, Tensor] = {}
        for path, promised in self.shards.items():
            tensors |= self._kept_promise(path, promised, read_tensors(path))
        widest = _widest(tensors)
        return {name: t.to(widest) if t.is_floating_point() else t for name, t in tensors.items()}

    def shapes(self) -> dict[str, Tensor]:
        """All tensors on the meta device. Raises CheckpointError as `read` does, but for values."""
        tensors: dict[str, Tensor] = {}
        for path, promised in self.shards.items():
            tensors |= self._kept_promise(path, promised, read_shapes(path))
        return tensors

    @staticmethod
    def _kept_promise(path: Path, promised: set[str] | None, held: dict[str, Tensor]) -> dict[str, Tensor]:
        if promised is not None and promised != held.keys():
            wrong = sorted(promised ^ held.keys())
            raise CheckpointError(
                f"{path} and the index beside it disagree on {len(wrong)} tensors, among them {wrong[:5]}"
            )
        return held


def _widest(tensors: dict[str, Tensor]) -> torch.dtype:
    dtypes = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if len(dtypes) > 1:  # float16 and bfloat16 hold different numbers: only float32 holds both
        return torch.float32
    return next(iter(dtypes), torch.float32)


def find_weights(folder: Path, component: str, variant: str | None = None) -> WeightFiles:
    """The weight files of a component's folder; safetensors are preferred to pickles, with a word in the log.

    Raises CheckpointError if there are none, or an index names a file outside the folder.
    """
    stem, suffix = STEMS[component], f".{variant}" if variant else ""
    single = folder / f"{stem}{suffix}.safetensors"
    index = ".safetensors.index"
    indices = [folder / f"{stem}{index}{suffix}.json", folder / f"{stem}{suffix}{index}.json"]
    pickles = [folder / f"{stem}{suffix}.bin", folder / f"pytorch_model{suffix}.bin"]
    present = [path for path in dict.fromkeys([single, *indices, *pickles]) if path.is_file()]
    if not present:
        raise CheckpointError(_nothing_found(folder, component, [single, indices[0], *pickles]))
    chosen, *others = present
    why = f"{chosen.name} holds the weights, and is preferred"
    for path in others:
        log.warning("%s is ignored: %s", path, why)
    shards: dict[Path, set[str] | None] = {chosen: None}
    if chosen in indices:
        shards = _shards(chosen)
    return WeightFiles(folder, shards, dict.fromkeys(others, why))


def _shards(index: Path) -> dict[Path, set[str] | None]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: expected a weight_map from tensor to file, got {weight_map!r:.80}")
    shards: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: tensor {tensor!r:.80} is said to be in {name!r:.80}; expected the bare name of a "
                ".safetensors file beside the index"
            )
        shards.setdefault(name, set()).add(tensor)
    absent = [name for name in shards if not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(f"{index} names {', '.join(absent[:5])}, which {index.parent} does not hold")
    return {index.parent / name: tensors for name, tensors in shards.items()}


def _nothing_found(folder: Path, component: str, looked_for: list[Path]) -> str:
    names = ", ".join(path.name for path in looked_for)
    broken = [path for path in (folder, *looked_for) if path.is_symlink() and not path.exists()]
    if broken:
        return f"no weights of {component}: {broken[0]} is a symbolic link that leads nowhere, or in a circle"
    if not folder.is_dir():
        return f"no weights of {component}: there is no folder {folder}"
    try:
        held = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"no weights of {component}: {folder} cannot be read: {error}"
    return f"no weights of {component}: looked in {folder} for {names}; it holds {held[:20]}"
