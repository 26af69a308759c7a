"""The pipeline on a GPU: seeds, precision, offloading, memory. Without one these are skipped, and say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import TINY

from musicldm import MusicLDMPipeline

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: NOT TESTED on CUDA")

AUDIO_ATOL = 1e-3  # other kernels than the CPU's, TF32 off: float32 sums in another order
HALF = {torch.float16: 0.01, torch.bfloat16: 0.05}  # relative; on a CPU these are 0.0014 and 0.0096
LEFT_MB = 1.0  # what a call may leave on the GPU: nothing, but an allocator rounds
WORKSPACE_MB = 64.0  # what kernels that are chosen for another size may take
SHORT = {"audio_length_in_s": 0.64, "num_inference_steps": 3}


@pytest.fixture
def expected(tiny):
    return tiny("a waltz", seed=1, **SHORT).audios


@pytest.fixture
def pipe() -> MusicLDMPipeline:
    """In float32 on the GPU."""
    return MusicLDMPipeline.from_pretrained(TINY).to("cuda")


def test_a_seed_makes_the_same_clip_on_the_gpu(expected, pipe):
    assert np.abs(pipe("a waltz", seed=1, **SHORT).audios - expected).max() < AUDIO_ATOL


def test_a_seed_makes_the_same_clip_in_a_batch_and_with_a_stochastic_solver(tiny, pipe):
    """Noise is drawn on the CPU for each clip, at every step, and moved."""
    batch = pipe(["rain", "a waltz"], seed=[7, 1], eta=1.0, **SHORT).audios
    alone = tiny("a waltz", seed=1, eta=1.0, **SHORT).audios
    assert np.abs(batch[1] - alone[0]).max() < AUDIO_ATOL


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_finite_and_near_float32(expected, dtype):
    half = MusicLDMPipeline.from_pretrained(TINY, torch_dtype=dtype).to("cuda")
    made = half("a waltz", seed=1, **SHORT).audios
    assert np.isfinite(made).all()
    assert np.linalg.norm(made - expected) < HALF[dtype] * np.linalg.norm(expected)


def test_a_generator_of_the_gpu_may_draw_the_noise(pipe):
    first, second, other = (
        pipe("a waltz", generator=torch.Generator("cuda").manual_seed(seed), **SHORT).audios
        for seed in (0, 0, 1)
    )
    assert first.shape == (1, 10240)
    assert np.abs(first - second).max() < AUDIO_ATOL < np.abs(first - other).max()


def test_offloading_makes_the_same_clip_and_leaves_the_gpu_empty(expected):
    pipe = MusicLDMPipeline.from_pretrained(TINY)
    pipe.enable_model_cpu_offload(gpu_id=0)
    assert np.abs(pipe("a waltz", seed=1, **SHORT).audios - expected).max() < AUDIO_ATOL
    for module in (pipe.unet, pipe.vae, pipe.vocoder, pipe.text_encoder):
        assert next(module.parameters()).device.type == "cpu"


def test_candidates_are_ranked_while_offloading(expected):
    pytest.importorskip("soxr", reason="ranking changes the rate, which needs soxr")
    pipe = MusicLDMPipeline.from_pretrained(TINY)
    pipe.enable_model_cpu_offload(gpu_id=0)
    got = pipe("a waltz", seed=1, num_waveforms_per_prompt=2, **SHORT)
    assert np.abs(got.audios[got.order[0].argmin()] - expected[0]).max() < AUDIO_ATOL


def test_a_batch_takes_memory_for_its_clips_and_gives_it_back(pipe):
    def took(batch: int) -> float:
        """MB at the highest, over what was there before."""
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        pipe(["a waltz"] * batch, seed=1, **SHORT)
        assert torch.cuda.memory_allocated() - before < LEFT_MB * 1e6
        return (torch.cuda.max_memory_allocated() - before) / 1e6

    pipe(["a waltz"] * 8, seed=1, **SHORT)  # workspaces of the libraries stay
    one, eight = took(1), took(8)
    assert one < eight < 8 * one + WORKSPACE_MB


def test_a_clip_goes_through_encoder_and_decoder_on_the_gpu(tiny, pipe):
    wave = 0.1 * torch.randn(1, 10240, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        there = tiny.encode(wave, 16000)
        made = pipe.encode(wave.cuda(), 16000)
        assert made.device.type == "cuda"
        assert (made.cpu() - there).abs().max() < AUDIO_ATOL * there.abs().max()
        assert (pipe.decode(made).cpu() - tiny.decode(there)).abs().max() < AUDIO_ATOL
