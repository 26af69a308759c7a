"""Exponential moving average of weights: what a diffusion model samples with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MovingAverage", "ramped"]


def ramped(decay: float, updates: int) -> float:
    """The decay at update 1, 2, ...: (1 + n) / (10 + n) until that reaches `decay`.

    A young average follows quickly, so that it does not remember the random start.
    Source: RetroCirce/MusicLDM c8100b5, ema.py, LitEma.
    """
    return min(decay, (1 + updates) / (10 + updates))


class MovingAverage:
    """Averaged copies of the floating tensors of a module; other buffers are taken as they are.

    A decay of 0 makes a copy that is always the newest weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverage: got decay {decay}, expected 0 <= decay < 1, such as 0.9999")
        self._module = module
        self.decay = decay
        self.updates = 0
        self._copies = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights that the module has now."""
        self.updates += 1
        share = 1 - ramped(self.decay, self.updates)
        for name, tensor in self._module.state_dict().items():
            copy = self._copies[name]
            if copy.is_floating_point():
                copy.lerp_(tensor.to(copy.dtype), share)
            else:
                copy.copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with averaged weights, for the length of a block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, tensor in self._module.state_dict().items():
            copy = self._copies[name]
            held = tensor.clone()
            tensor.copy_(copy)
            copy.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"updates": self.updates, "copies": self._copies}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the names are not those of the module."""
        copies: Mapping[str, Tensor] = state["copies"]
        if set(copies) != set(self._copies):
            raise ValueError("MovingAverage: the checkpoint averages other tensors than this run does")
        self.updates = state["updates"]
        for name, copy in self._copies.items():
            copy.copy_(copies[name])
