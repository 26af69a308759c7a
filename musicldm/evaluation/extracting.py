"""Excerpts -> features: shared among processes, kept on the disk, gone on with after an interruption.

Each clip is computed alone, so that neither the number of processes nor what was kept before changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musicldm.io.cache import Cache
from musicldm.io.distributed import Group

from .features import Feature, Features, TextFeature, merge
from .handling import Excerpt, Handling

__all__ = ["extract", "extract_text"]

SHOWN = 10  # clips in an error

Progress = Callable[[Iterable[int]], Iterable[int]]


def extract(
    feature: Feature,
    excerpts: Sequence[Excerpt],
    handling: Handling,
    cache: Cache,
    group: Group,
    progress: Progress = iter,
) -> Features | None:
    """Of all excerpts, in their order, for the group's first process; None for the others.

    Raises ValueError, on every process, naming the clips that the feature could not be computed of.
    """
    keys = [_key(feature, group, handling.key(excerpt)) for excerpt in excerpts]
    failed: dict[str, str] = {}
    for k in progress(range(group.rank, len(excerpts), group.world)):
        if cache.load(keys[k]) is not None:
            continue
        try:
            found = feature([handling.wave(excerpts[k], feature.rate)])
            if len(found) != 1 or not np.isfinite(found.embeddings).all():
                raise ValueError(f"got {found.embeddings} for one clip, expected one finite row")
        except Exception as error:  # a user's own callable may raise anything
            failed[excerpts[k].name] = f"{type(error).__name__}: {error}"
            continue
        cache.store(keys[k], _tensors(found))
    _all_or_none(group, failed, f"{feature.id.name}: could not be computed of")
    if not group.first:
        return None
    return merge([_features(_held(cache, key)) for key in keys])


def extract_text(
    feature: TextFeature, prompts: Sequence[str], cache: Cache, group: Group
) -> np.ndarray[Any, Any] | None:
    """Prompts -> (n, d) for the first process, each prompt alone; None for the others."""
    different = list(dict.fromkeys(prompts))
    keys = {prompt: _key(feature, group, f"text {prompt}") for prompt in different}
    failed: dict[str, str] = {}
    for prompt in different[group.rank :: group.world]:
        if cache.load(keys[prompt]) is not None:
            continue
        try:
            row = np.array(feature.text([prompt])[0], np.float64)
        except Exception as error:  # a user's own callable may raise anything
            failed[repr(prompt)[:80]] = f"{type(error).__name__}: {error}"
            continue
        cache.store(keys[prompt], {"text": torch.from_numpy(row)})
    _all_or_none(group, failed, f"{feature.id.name}: could not be computed of", "prompts")
    if not group.first:
        return None
    return np.stack([_held(cache, keys[prompt])["text"].numpy() for prompt in prompts])


def _key(feature: Feature, group: Group, of: str) -> dict[str, Any]:
    return {
        "what": "feature of one clip",
        "feature": asdict(feature.id),
        "rate": feature.rate,
        "computed_on": group.device.type,
        "of": of,
    }


def _tensors(found: Features) -> dict[str, Tensor]:
    parts = {"embedding": found.embeddings[0]}
    if found.frames is not None:
        parts["frames"] = found.frames[0]
    if found.logits is not None:
        parts["logits"] = found.logits[0]
    return {name: torch.from_numpy(np.ascontiguousarray(part, np.float64)) for name, part in parts.items()}


def _features(tensors: Mapping[str, Tensor]) -> Features:
    frames, logits = tensors.get("frames"), tensors.get("logits")
    return Features(
        tensors["embedding"].numpy()[None],
        None if frames is None else (frames.numpy(),),
        None if logits is None else logits.numpy()[None],
    )


def _held(cache: Cache, key: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = cache.load(key)
    if tensors is None:
        raise ValueError(
            f"{cache.folder}: an entry that was written a moment ago is not there; processes on several "
            "machines need one --cache that all of them see"
        )
    return tensors


def _all_or_none(group: Group, failed: Mapping[str, str], what: str, of: str = "clips") -> None:
    """Raises ValueError on every process if one has failures: nobody waits for somebody who is gone."""
    everybodys = {name: why for part in group.gather_objects(dict(failed)) for name, why in part.items()}
    if everybodys:
        lines = [f"  {name}: {why}" for name, why in list(everybodys.items())[:SHOWN]]
        more = [f"  and {len(everybodys) - SHOWN} more"] if len(everybodys) > SHOWN else []
        raise ValueError("\n".join([f"{what} {len(everybodys)} {of}", *lines, *more]))
