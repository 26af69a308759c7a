from __future__ import annotations

import math

import pytest
import torch
from helpers import draw

from musicldm.blending import blend

A, B, C = (torch.nn.functional.normalize(draw(3, 64, seed=k), dim=-1) for k in range(3))
CLOSE = 1e-6  # float32 embeddings, computed in float64


@pytest.mark.parametrize("how", ["slerp", "linear"])
def test_the_result_has_unit_norm_and_the_inputs_shape(how):
    for parts in ([(A, 1)], [(A, 1), (B, 2)], [(5 * A, 0.2), (B, 0.3), (C, 0.5)]):
        mixed = blend(parts, how=how)
        assert mixed.shape == (3, 64)
        assert torch.allclose(mixed.norm(dim=-1), torch.ones(3), atol=CLOSE)
    assert blend([(A[0], 1), (B[0], 1)], how=how).shape == (64,)
    assert blend([(A, 1), (B[0], 1)], how=how).shape == (3, 64)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_slerp_of_two_is_the_point_along_the_arc(share):
    angle = torch.acos((A * B).sum(-1))[:, None]
    arc = (torch.sin((1 - share) * angle) * A + torch.sin(share * angle) * B) / torch.sin(angle)
    assert torch.allclose(blend([(A, 3 * (1 - share)), (B, 3 * share)]), arc, atol=CLOSE)


def test_slerp_of_many_does_not_depend_on_their_order_and_minimises_the_distances():
    parts = [(A, 0.5), (B, 0.2), (C, 0.3)]
    mixed = blend(parts)
    assert torch.allclose(mixed, blend(parts[::-1]), atol=CLOSE)

    def cost(point):
        return sum(w * torch.acos((e * point).sum(-1)).square() for e, w in parts)

    for k in range(20):
        near = torch.nn.functional.normalize(mixed + 0.02 * draw(3, 64, seed=k), dim=-1)
        assert (cost(near) > cost(mixed)).all()


def test_slerp_and_linear_differ_and_linear_takes_negative_weights():
    assert (blend([(A, 1), (B, 3)]) - blend([(A, 1), (B, 3)], how="linear")).abs().max() > 0.01
    away = blend([(A, 1), (B, -0.5)], how="linear")
    assert ((away * B).sum(-1) < (A * B).sum(-1)).all()


BAD = {
    "nothing": ([], "slerp", ValueError, "got nothing"),
    "unknown way": ([(A, 1)], "mean", ValueError, "got how='mean', expected 'slerp' or 'linear'"),
    "zero weights": ([(A, 0), (B, 0.0)], "slerp", ValueError, "weights that are all 0"),
    "negative": ([(A, 1), (B, -1)], "slerp", ValueError, "got weight -1, expected a finite number of 0 or more"),
    "NaN weight": ([(A, math.nan)], "linear", ValueError, "got weight nan"),
    "weight as text": ([(A, "1")], "linear", TypeError, "got weight '1', expected a number"),
    "opposites": ([(A, 1), (-A, 1)], "slerp", ValueError, "cancel each other out"),
    "cancelled": ([(A, 1), (A, -1)], "linear", ValueError, "cancel each other out"),
    "widths": ([(A, 1), (draw(3, 32), 1)], "slerp", ValueError, r"shapes \[\(3, 64\), \(3, 32\)\]"),
    "zero": ([(A, 1), (0 * B, 1)], "slerp", ValueError, "is all 0"),
    "NaN": ([(A, 1), (B * math.nan, 1)], "slerp", ValueError, "holds NaN"),
    "array": ([(A.numpy(), 1)], "slerp", TypeError, "got ndarray, expected a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_blended_is_refused(name):
    parts, how, error, message = BAD[name]
    with pytest.raises(error, match=message):
        blend(parts, how=how)
