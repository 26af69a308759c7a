"""torch.compile on a GPU, by itself and inside a graph: minutes. Without a GPU skipped, and says so."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import TINY, draw, relative

from musicldm import MusicLDMPipeline
from musicldm.compilation import Captured

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: NOT TESTED on CUDA")

AUDIO_ATOL = 2e-3  # fused kernels sum in another order, through three steps and the vocoder
SHORT = {"audio_length_in_s": 0.64, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def eager() -> MusicLDMPipeline:
    return MusicLDMPipeline.from_pretrained(TINY).to("cuda")


def of_its_own(pipe: MusicLDMPipeline) -> MusicLDMPipeline:
    return MusicLDMPipeline(**{name: copy.deepcopy(part) for name, part in pipe.components.items()})


def test_reduce_overhead_is_the_eager_clip_when_recorded_and_when_replayed(eager):
    fast = of_its_own(eager).compile(mode="reduce-overhead")
    for seed in (1, 2, 3):  # warm-up, recording, replay
        expected = eager("a waltz", seed=seed, **SHORT).audios
        assert np.abs(fast("a waltz", seed=seed, **SHORT).audios - expected).max() < AUDIO_ATOL


@torch.no_grad()
def test_compiled_functions_in_one_graph_are_the_eager_clip(eager, bench):
    fast, clip = of_its_own(eager).compile(), bench("bench_graph").clip
    cond, uncond = eager.embed_text(["a waltz", ""]).chunk(2)
    given = draw(1, 8, 16, 16).cuda(), cond, uncond, torch.tensor(2.0, device="cuda")
    assert relative(Captured(clip(fast, 3), *given)(*given), clip(eager, 3)(*given)) < AUDIO_ATOL
