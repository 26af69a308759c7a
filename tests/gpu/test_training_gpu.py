"""Steps of training on a GPU. Without one these are skipped, and say so."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import TINY
from training_waves import Waves, config, losses, train

from musicldm import MusicLDMPipeline
from musicldm.io.distributed import Group
from musicldm.training.ldm import LDMSettings, LDMStage
from musicldm.training.targets import ClipLatents

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: NOT TESTED on CUDA")

STEPS = 2
NEAR = 0.02  # relative: a loss of the same draws in bfloat16, which has 8 bits


@pytest.fixture
def group() -> Group:
    """This process, computing on the GPU."""
    return Group(device=torch.device("cuda", 0))


def curve(folder, group: Group, precision: str) -> list[float]:
    """The losses of two steps of the LDM; captions condition, which needs no other rate."""
    parts = MusicLDMPipeline.from_pretrained(TINY)
    target, settings = ClipLatents(parts.vae), LDMSettings(condition="text", lr=1e-3, warmup=0)
    stage = LDMStage(parts, target, settings, group, scratch=False)
    before = stage.unet.conv_in.weight.detach().cpu().clone()
    train(stage, config(folder, STEPS, precision=precision), Waves(10240), group)
    assert (stage.unet.conv_in.weight.detach().cpu() - before).abs().max() > 0, "no weight has moved"
    return losses(folder, "denoise/loss")


def test_the_ldm_learns_in_bfloat16_as_in_float32_and_as_on_the_cpu(tmp_path, group):
    exact = curve(tmp_path / "float32", group, "float32")
    half = curve(tmp_path / "bfloat16", group, "bfloat16")
    cpu = curve(tmp_path / "cpu", Group(), "float32")
    assert len(exact) == len(half) == STEPS
    assert all(map(math.isfinite, half))
    assert half == pytest.approx(exact, rel=NEAR)
    assert exact == pytest.approx(cpu, rel=NEAR / 10)
