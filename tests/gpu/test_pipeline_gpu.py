"""What only a GPU can show. Without one these are skipped, and say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import TINY

from musicldm import MusicLDMPipeline

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: NOT TESTED on CUDA")

AUDIO_ATOL = 1e-3  # other kernels than the CPU's, TF32 off: float32 sums in another order
HALF_ATOL = 0.05  # float16 networks have 11 bits
SHORT = {"audio_length_in_s": 0.64, "num_inference_steps": 3}


@pytest.fixture
def expected(tiny):
    return tiny("a waltz", seed=1, **SHORT).audios


def test_a_seed_makes_the_same_clip_on_the_gpu(expected):
    pipe = MusicLDMPipeline.from_pretrained(TINY).to("cuda")
    assert np.abs(pipe("a waltz", seed=1, **SHORT).audios - expected).max() < AUDIO_ATOL


def test_offloading_makes_the_same_clip_and_leaves_the_gpu_empty(expected):
    pipe = MusicLDMPipeline.from_pretrained(TINY)
    pipe.enable_model_cpu_offload(gpu_id=0)
    got = pipe("a waltz", seed=1, num_waveforms_per_prompt=2, **SHORT)
    assert np.abs(got.audios[got.order[0].argmin()] - expected[0]).max() < AUDIO_ATOL
    for module in (pipe.unet, pipe.vae, pipe.vocoder, pipe.text_encoder):
        assert next(module.parameters()).device.type == "cpu"


def test_the_call_of_the_diffusers_documentation_in_half_precision(expected):
    pipe = MusicLDMPipeline.from_pretrained(TINY, torch_dtype=torch.float16).to("cuda")
    assert np.abs(pipe("a waltz", seed=1, **SHORT).audios - expected).max() < HALF_ATOL
    generator = torch.Generator("cuda").manual_seed(0)
    assert pipe("a waltz", generator=generator, **SHORT).audios.shape == (1, 10240)
