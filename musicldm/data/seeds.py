"""Randomness by name: what an item draws depends on what it is called, never on who drew before."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["generator", "permutation"]


def generator(seed: int, purpose: str, epoch: int, index: int) -> np.random.Generator:
    """A generator of its own for one purpose of one item of one epoch.

    Counter-based (Philox, Salmon et al. 2011), keyed by BLAKE2b of the four: workers, processes and resumed
    runs need not hand any state on to draw the same numbers.
    """
    name = f"musicldm training {seed} {purpose} {epoch} {index}"
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))


def permutation(seed: int, epoch: int, n: int) -> list[int]:
    """The order of n items in an epoch."""
    return [int(index) for index in generator(seed, "order", epoch, 0).permutation(n)]
