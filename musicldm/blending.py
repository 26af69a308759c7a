"""Embeddings mixed: one condition that lies between several prompts and clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blend"]

ROUNDS = 64  # of the iteration for more than two; it gains a digit or more in each
LEAST_NORM = 1e-3  # of a sum of unit vectors: below, its direction is chance


def blend(parts: Sequence[tuple[Tensor, float]], *, how: Literal["slerp", "linear"] = "slerp") -> Tensor:
    """[((d,) or (b, d) embedding, weight), ...] -> (d,) or (b, d) of unit norm.

    Embeddings are brought to unit norm first; only the ratios of the weights matter. "slerp": the weighted
    mean on the sphere, which for two is the point that far along the arc between them, and which does not
    depend on the order. "linear": the weighted sum, brought to unit norm; there a weight may be negative, to
    lead away from something.

    Raises TypeError or ValueError for what is no embedding or no weight, and if the embeddings cancel out.

    Source: Shoemake 1985, Animating rotation with quaternion curves, for two; Buss and Fillmore 2001,
    Spherical averages and applications to spherical splines and interpolation, algorithm A1, for more.
    """
    if how not in ("slerp", "linear"):
        raise ValueError(f"blend: got how={how!r}, expected 'slerp' or 'linear'")
    points, weights = _checked(parts, how)
    mean = _unit_sum(points, weights)
    if how == "slerp":
        for _ in range(ROUNDS):
            mean = _closer(mean, points, weights)
    return mean.to(parts[0][0].dtype)


def _checked(parts: Sequence[tuple[Tensor, float]], how: str) -> tuple[list[Tensor], list[float]]:
    if not parts:
        raise ValueError("blend: got nothing, expected at least one (embedding, weight)")
    weights = [_weight(weight, how) for _, weight in parts]
    total = math.fsum(abs(weight) for weight in weights)
    if not total:
        raise ValueError("blend: got weights that are all 0, expected one above 0 at least")
    points = []
    for embedding, _ in parts:
        if not isinstance(embedding, Tensor) or not embedding.is_floating_point():
            raise TypeError(f"blend: got {type(embedding).__name__}, expected a tensor (d,) or (b, d)")
        if embedding.ndim not in (1, 2) or embedding.shape[-1] != parts[0][0].shape[-1]:
            shapes = [tuple(part.shape) for part, _ in parts]
            raise ValueError(f"blend: got shapes {shapes}, expected (d,) or (b, d) with one d")
        if not torch.isfinite(embedding).all() or not embedding.any(dim=-1).all():
            raise ValueError("blend: an embedding holds NaN or infinity, or is all 0")
        points.append(F.normalize(embedding.double(), dim=-1))
    return points, [weight / total for weight in weights]


def _weight(weight: float, how: str) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise TypeError(f"blend: got weight {weight!r}, expected a number")
    if not math.isfinite(weight) or (weight < 0 and how == "slerp"):
        raise ValueError(
            f"blend: got weight {weight}, expected a finite number of 0 or more; how='linear' takes negative "
            "ones"
        )
    return float(weight)


def _unit_sum(points: list[Tensor], weights: list[float]) -> Tensor:
    total = sum((weight * point for weight, point in zip(weights, points, strict=True)), torch.zeros(()))
    if (total.norm(dim=-1) < LEAST_NORM).any():
        raise ValueError("blend: the embeddings cancel each other out; give them other weights")
    return F.normalize(total, dim=-1)


def _closer(mean: Tensor, points: list[Tensor], weights: list[float]) -> Tensor:
    """One step of the fixed-point iteration: the mean in the plane that touches the sphere there."""
    shift = torch.zeros_like(mean)
    for point, weight in zip(points, weights, strict=True):
        cosine = (mean * point).sum(dim=-1, keepdim=True).clamp(-1, 1)
        across = point - cosine * mean
        distance = across.norm(dim=-1, keepdim=True)
        shift = shift + weight * torch.atan2(distance, cosine) * F.normalize(across, dim=-1)
    length = shift.norm(dim=-1, keepdim=True)
    return F.normalize(torch.cos(length) * mean + torch.sin(length) * F.normalize(shift, dim=-1), dim=-1)
