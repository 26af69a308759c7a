"""Frozen networks' outputs, made once for clips that come again: posteriors and embeddings on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["NOTHING", "Remembered", "Store"]


class Store(Protocol):
    """What `cache.Cache` is."""

    def load(self, key: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The tensors under a key, None if there are none."""

    def store(self, key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Put tensors under a key."""


class _Nothing:
    """Remembers nothing: where crops are random, no clip comes twice."""

    def load(self, key: Mapping[str, Any]) -> dict[str, Tensor] | None:
        return None

    def store(self, key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        return None


NOTHING: Store = _Nothing()


class Remembered:
    """One kind of output of one network. about: what it depends on besides the clip, as JSON."""

    def __init__(self, store: Store, about: Mapping[str, Any]) -> None:
        self._store = store
        self._about = dict(about)

    def __call__(
        self, keys: Sequence[str], make: Callable[[list[int]], Tensor], device: torch.device
    ) -> Tensor:
        """keys: b names of clips, "" for one that must not be kept; make(places) -> outputs for these places.

        -> (b, ...) in the keys' order. All that is not found is made in one call.
        """
        found = [self._store.load(self._key(key)) if key else None for key in keys]
        missing = [place for place, held in enumerate(found) if held is None]
        rows = {place: held["x"].to(device) for place, held in enumerate(found) if held is not None}
        if missing:
            made = make(missing)
            for place, row in zip(missing, made, strict=True):
                rows[place] = row
                if keys[place]:
                    self._store.store(self._key(keys[place]), {"x": row.float()})
        return torch.stack([rows[place].float() for place in range(len(keys))])

    def _key(self, key: str) -> dict[str, Any]:
        return {**self._about, "clip": key}
