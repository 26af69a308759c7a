"""The fast path: one graph per shape, nothing read back, the same clip, and what changes is seen."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from helpers import TINY, draw, relative
from torch._dynamo.testing import CompileCounterWithBackend

from musicldm import MusicLDMPipeline
from musicldm.compilation import Compiled, compile_in_place
from musicldm.sampling import Guided, denoise_step, sample
from musicldm.schedulers import DDIM, DPMSolver
from musicldm.unet import UNet, UNetConfig

CALL = {"prompt": "a", "audio_length_in_s": 0.64, "num_inference_steps": 3, "seed": 1}
SAME = 1e-5  # the traced graph has the same operations; only fusion may reorder a sum


@pytest.fixture(scope="module", autouse=True)
def forget_graphs():
    """torch counts graphs per function over the whole process: leave none to other tests."""
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def loaded() -> MusicLDMPipeline:
    return MusicLDMPipeline.from_pretrained(TINY)


@pytest.fixture(scope="module")
def counted(loaded) -> tuple[MusicLDMPipeline, CompileCounterWithBackend]:
    graphs = CompileCounterWithBackend("aot_eager")
    fast = MusicLDMPipeline(
        **{**loaded.components, **{k: copy.deepcopy(getattr(loaded, k)) for k in ("unet", "vae", "vocoder")}}
    )
    return fast.compile(backend=graphs), graphs


def test_compiled_equals_eager_with_one_graph_per_network_and_length(loaded, counted, caplog):
    fast, graphs = counted
    eager = loaded(**CALL).audios
    with caplog.at_level(logging.WARNING):
        assert np.abs(fast(**CALL).audios - eager).max() < SAME
    assert graphs.frame_count == 3  # step, decoder, vocoder
    assert [r.getMessage().split(" for ")[0] for r in caplog.records] == [
        "compiling denoise_step", "compiling Decoder", "compiling HiFiGAN"
    ]  # fmt: skip

    caplog.clear()
    for change in (
        {"seed": 2},
        {"guidance_scale": 3.5},
        {"num_inference_steps": 5},
        {"prompt": "b", "negative_prompt": "c"},
    ):
        fast(**{**CALL, **change})
    fast.scheduler = DPMSolver.from_config(loaded.scheduler)
    fast(**CALL)
    fast.scheduler = loaded.scheduler
    assert graphs.frame_count == 3, "a second clip of the same length compiled something"
    assert not caplog.records

    fast(**{**CALL, "audio_length_in_s": 1.28})
    assert graphs.frame_count == 6
    assert "(1, 8, 32, 16)" in caplog.text


def test_keys_do_not_change_and_the_compiled_pipeline_saves(counted, loaded, tmp_path):
    fast, _ = counted
    for name in ("unet", "vae", "vocoder"):
        assert list(getattr(fast, name).state_dict()) == list(getattr(loaded, name).state_dict())
    fast.save_pretrained(tmp_path / "saved")
    again = MusicLDMPipeline.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again(**CALL).audios, loaded(**CALL).audios)


@pytest.mark.parametrize("part", ["unet.mid.attn.attn1.qkv", "vae.decoder.conv_out", "vocoder.conv_post"])
def test_a_changed_weight_is_heard(counted, loaded, part):
    """An adapter merged in place, a training step: nothing of a parameter may be baked into the graph."""
    fast, graphs = counted
    before, frames = fast(**CALL).audios, graphs.frame_count
    weight = fast
    for name in [*part.split("."), "weight"]:
        weight = getattr(weight, name)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(3.0)
    heard = fast(**CALL).audios
    with torch.no_grad():
        weight.copy_(kept)
    assert np.abs(heard - before).max() > 100 * SAME
    assert np.abs(fast(**CALL).audios - before).max() < SAME
    assert graphs.frame_count == frames


def test_a_changed_dtype_compiles_again(loaded):
    fast = MusicLDMPipeline(**{k: copy.deepcopy(v) for k, v in loaded.components.items()}).compile(
        backend="aot_eager"
    )
    latents = draw(1, 8, 16, 16)
    with torch.no_grad():
        assert relative(fast.decode(latents), loaded.decode(latents)) < SAME
        fast.to(torch.bfloat16)
        assert fast.decode(latents).dtype == torch.bfloat16
        assert (
            relative(fast.decode(latents).float(), loaded.decode(latents)) < 0.1
        )  # bfloat16, random weights


def test_channels_last_is_the_same_clip(loaded, tmp_path):
    moved = MusicLDMPipeline(**{k: copy.deepcopy(v) for k, v in loaded.components.items()})
    moved.to(memory_format=torch.channels_last)
    assert moved.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(moved(**CALL).audios - loaded(**CALL).audios).max() < SAME
    moved.save_pretrained(tmp_path / "saved")
    assert np.array_equal(
        MusicLDMPipeline.from_pretrained(tmp_path / "saved")(**CALL).audios, loaded(**CALL).audios
    )


def test_more_shapes_than_torch_allows(loaded):
    step = Compiled(denoise_step, "denoise_step", backend="aot_eager")
    for length in range(1, 12):  # torch's own limit is 8
        noise = draw(1, 2, length, 2)
        assert sample(Toy(), DDIM().plan(1), noise, step=step).shape == noise.shape


class Toy:
    conds = torch.zeros(1, 1)

    def __call__(self, x, timestep):
        return x.tanh()


def test_dynamic_lengths_share_a_graph(caplog):
    torch.manual_seed(0)
    config = UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(8, 8), heads=(0, 2), layers_per_block=1, cond_dim=4,
        norm_num_groups=4, norm_eps=1e-5, sample_size=8,
    )  # fmt: skip
    unet, cond, plan = UNet(config).eval(), draw(1, 4), DDIM().plan(2)
    graphs = CompileCounterWithBackend("aot_eager")
    step = Compiled(denoise_step, "denoise_step", dynamic=True, backend=graphs)
    for rows in (16, 24, 39):
        noise, denoiser = draw(1, 4, rows, 4), Guided(unet, cond, -cond, 2.0)
        assert relative(sample(denoiser, plan, noise, step=step), sample(denoiser, plan, noise)) < SAME
    assert graphs.frame_count == 1
    assert sum(record.name == "musicldm.compilation" for record in caplog.records) == 1


def test_outputs_survive_the_next_call():
    """A stand-in for CUDA graphs, whose replays write to one memory."""
    memory = torch.zeros(3)
    replay = Compiled(lambda x: memory.copy_(x), "replay", backend="eager")
    first = replay(torch.ones(3))
    replay(torch.full((3,), 2.0))
    assert first.tolist() == [1, 1, 1]


def test_compiling_in_place_keeps_methods_and_training_modes(loaded):
    vocoder = copy.deepcopy(loaded.vocoder)
    compile_in_place(vocoder, backend="aot_eager")
    mel = draw(1, 8, 64).requires_grad_()
    vocoder(mel).sum().backward()
    assert mel.grad.abs().sum() > 0


READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero")


@pytest.mark.parametrize(
    "extra", [{}, {"guidance_interval": (300, 800)}, {"feature_reuse": 2}], ids=["exact", "interval", "reuse"]
)
def test_nothing_is_read_back_from_the_device_while_sampling(loaded, monkeypatch, extra):
    """On a GPU each of these waits for the queue. Watched from the first evaluation to the last."""
    pipe, reads = MusicLDMPipeline(**loaded.components), []

    def watch(step, timestep, latents):
        if step == 0:
            for name in READS:
                original = getattr(torch.Tensor, name)
                monkeypatch.setattr(
                    torch.Tensor, name, lambda *a, n=name, o=original, **k: reads.append(n) or o(*a, **k)
                )
        if step == 5:
            monkeypatch.undo()

    pipe("a", audio_length_in_s=0.64, num_inference_steps=6, seed=0, callback=watch, **extra)
    assert reads == []


def test_the_watch_above_would_see_a_read(loaded, monkeypatch):
    reads = []
    original = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda x: reads.append("item") or original(x))
    loaded(
        "a", audio_length_in_s=0.64, num_inference_steps=2, seed=0, callback=lambda k, t, x: x.mean().item()
    )
    assert reads == ["item", "item"]
