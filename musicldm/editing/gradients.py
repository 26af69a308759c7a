"""Gradients through long computations, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.checkpoint import checkpoint

from musicldm.approximations import DeepReuse

__all__ = ["checkpointed"]

F = TypeVar("F", bound=Callable[..., Any])


def checkpointed(function: F) -> F:
    """The same function, which keeps its inputs for the way back and computes the rest of it a second time.

    For a sampling step, `iterate(..., step=checkpointed(denoise_step))`, k steps keep k states instead of k
    U-Nets' activations; for `checkpointed(vae.decode)` or a vocoder, one input instead of all feature maps.
    Values and gradients are the same. The function must be pure: the second time must repeat the first.

    Raises TypeError for a `DeepReuse` step, which is not.

    Source: Chen et al. 2016 (arXiv 1604.06174), section 3, as torch.utils.checkpoint has it.
    """
    if isinstance(function, DeepReuse):
        raise TypeError(
            "checkpointed: got a DeepReuse step, which remembers features from row to row and would remember "
            "others the second time; use denoise_step (feature_reuse=1)"
        )

    def run(*arguments: Any) -> Any:
        return checkpoint(function, *arguments, use_reentrant=False)

    return run  # type: ignore[return-value]
