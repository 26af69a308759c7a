"""What surrounds the networks, against Diffusers 0.33.1 on the tiny checkpoint: files, random streams, the call."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from musicldm import MusicLDMPipeline

TINY = Path(__file__).parents[1] / "goldens" / "tiny-hub"
AUDIO_ATOL = 1e-4  # bound of tests/goldens/README.md for a whole call; correct implementations differ by 1e-6
WEIGHTS = {
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "vocoder/model.safetensors",
    "text_encoder/model.safetensors",
}
CALL = {"num_inference_steps": 3, "audio_length_in_s": 0.64, "output_type": "pt"}
PROMPTS = ["slow ambient pads", "fast drum and bass, 174 bpm"]


def diffusers_pipeline(folder: Path):
    import diffusers

    pipe = diffusers.MusicLDMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def theirs():
    return diffusers_pipeline(TINY)


@pytest.fixture(scope="module")
def ours():
    return MusicLDMPipeline.from_pretrained(TINY)


def test_diffusers_reads_what_we_save(ours, theirs, tmp_path):
    ours.save_pretrained(tmp_path)
    for name in WEIGHTS:
        before, after = load_file(TINY / name), load_file(tmp_path / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    again = diffusers_pipeline(tmp_path)
    for part, meaningless in (
        ("unet", set()),
        ("vae", {"force_upcast", "sample_size"}),
        ("scheduler", set()),
    ):
        said, kept = dict(getattr(theirs, part).config), dict(getattr(again, part).config)
        facts = {key for key in said if not key.startswith("_")} - meaningless
        assert {key: kept[key] for key in facts} == {key: said[key] for key in facts}
    assert again.vocoder.config.to_diff_dict() == theirs.vocoder.config.to_diff_dict()
    generator = torch.Generator().manual_seed(1)
    expected = theirs(PROMPTS[0], generator=generator, **CALL).audios
    assert torch.equal(again(PROMPTS[0], generator=generator.manual_seed(1), **CALL).audios, expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("many", [False, True], ids=["one-generator", "a-generator-each"])
def test_generators_draw_as_diffusers_draws(ours, theirs, eta, many):
    def generator(first):
        both = [torch.Generator().manual_seed(first), torch.Generator().manual_seed(first + 1)]
        return both if many else both[0]

    expected = theirs(PROMPTS, generator=generator(5), eta=eta, **CALL).audios
    got = ours(PROMPTS, generator=generator(5), eta=eta, **CALL).audios
    assert (got - expected).abs().max() < AUDIO_ATOL
    assert (
        ours(PROMPTS, generator=generator(6), eta=eta, **CALL).audios - expected
    ).abs().max() > 100 * AUDIO_ATOL


def test_global_random_state_draws_as_diffusers_draws(ours, theirs):
    torch.manual_seed(11)
    expected = theirs(PROMPTS, **CALL).audios
    torch.manual_seed(11)
    assert (ours(PROMPTS, **CALL).audios - expected).abs().max() < AUDIO_ATOL


def test_the_callback_sees_the_same_latents(ours, theirs):
    seen: dict[str, list] = {"ours": [], "theirs": []}
    for name, pipe in (("ours", ours), ("theirs", theirs)):
        pipe(PROMPTS[0], generator=torch.Generator().manual_seed(2), callback_steps=2, **CALL,
             callback=lambda k, t, x, name=name: seen[name].append((k, int(t), x.clone())))  # fmt: skip
    for (k, t, x), (their_k, their_t, their_x) in zip(seen["ours"], seen["theirs"], strict=True):
        assert (k, t) == (their_k, their_t)
        assert (x - their_x).abs().max() < AUDIO_ATOL
