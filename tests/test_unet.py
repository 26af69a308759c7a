from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import draw

from musicldm.unet import UNet, UNetConfig, sinusoid

SMALL = UNetConfig(
    in_channels=4, out_channels=4, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1, cond_dim=12,
    norm_num_groups=4, norm_eps=1e-5, sample_size=16,
)  # fmt: skip
EQUAL = 1e-6  # same operations on the same numbers, summed in another order


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(SMALL).eval()


@pytest.mark.parametrize(("rows", "columns"), [(16, 4), (13, 4), (5, 3), (1, 1)])
def test_output_has_the_shape_of_the_latents(unet, rows, columns):
    assert unet(draw(2, 4, rows, columns), 10, draw(2, 12)).shape == (2, 4, rows, columns)


def test_items_of_a_batch_do_not_mix(unet):
    x, cond = draw(3, 4, 8, 4), draw(3, 12, seed=1)
    together = unet(x, torch.tensor([1, 500, 999]), cond)
    alone = torch.cat([unet(x[k : k + 1], t, cond[k : k + 1]) for k, t in enumerate([1, 500, 999])])
    assert (together - alone).abs().max() < EQUAL


@pytest.mark.parametrize("timestep", [7, 7.0, torch.tensor(7), torch.tensor([7]), torch.tensor([7.0, 7.0])])
def test_a_timestep_is_a_number_or_a_tensor(unet, timestep):
    x, cond = draw(2, 4, 8, 4), draw(2, 12)
    assert torch.equal(unet(x, timestep, cond), unet(x, 7, cond))


def test_timestep_and_condition_both_matter(unet):
    x, cond = draw(1, 4, 8, 4), draw(1, 12)
    base = unet(x, 500, cond)
    assert (unet(x, 501, cond) - base).abs().max() > EQUAL
    assert (unet(x, 500, -cond) - base).abs().max() > EQUAL


def test_gradients_reach_latents_condition_and_every_parameter(unet):
    x, cond = draw(1, 4, 8, 4).requires_grad_(), draw(1, 12).requires_grad_()
    unet(x, 500, cond).square().sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in [x, cond, *unet.parameters()])
    unet.zero_grad()


def test_sinusoid_has_cosines_first():
    embedding = sinusoid(torch.tensor([0, 3]), 8)
    assert embedding[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    angles = 3 * 10000 ** (-torch.arange(4) / 4)
    assert torch.allclose(embedding[1], torch.cat([angles.cos(), angles.sin()]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_follows_the_weights(dtype):
    unet = UNet(SMALL).to(dtype)
    assert unet(draw(1, 4, 8, 4).to(dtype), 3, draw(1, 12).to(dtype)).dtype == dtype


def test_runs_on_meta_tensors():
    with torch.device("meta"):
        unet = UNet(SMALL)
        assert unet(torch.empty(1, 4, 8, 4), torch.tensor(3), torch.empty(1, 12)).shape == (1, 4, 8, 4)


def test_wrong_shapes_are_named(unet):
    with pytest.raises(ValueError, match=r"got latents of shape \(1, 1, 64, 64\), expected \(b, 4, t, f\)"):
        unet(draw(1, 1, 64, 64), 3, draw(1, 12))
    with pytest.raises(ValueError, match=r"got a condition of shape \(1, 12\), expected \(2, 12\)"):
        unet(draw(2, 4, 8, 4), 3, draw(1, 12))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": (0, 3)}, "16 channels do not split into 3 heads"),
        ({"heads": (0, 2, 2)}, "3 head counts for 2 levels"),
        ({"norm_num_groups": 16}, "8 channels do not split into 16 norm groups"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
