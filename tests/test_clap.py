from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from helpers import draw

from musicldm.clap import CLAP

SAME = 1e-6  # batch size changes the order of summation


def test_embeddings_have_unit_norm(tiny):
    for embeds in (tiny.clap.embed_text(["a", "b"]), tiny.clap.embed_audio(0.1 * draw(2, 16000), 16000)):
        assert embeds.shape == (2, 512)
        assert torch.allclose(embeds.norm(dim=1), torch.ones(2))


def test_padding_to_the_longest_changes_nothing(tiny):
    short, long = "piano", "piano and strings, slow, in a minor key, recorded in a church " * 3
    assert (tiny.clap.embed_text([short, long])[0] - tiny.clap.embed_text([short])[0]).abs().max() < SAME


@pytest.mark.parametrize(
    "text", ["", " ", "🎹🎷", "C# minor", "AC/DC\n\ttab", "‮rtl", "\x00nul", "日本語" * 40]
)
def test_any_text_has_an_embedding(tiny, text):
    assert torch.isfinite(tiny.clap.embed_text([text])).all()


def test_a_long_prompt_is_cut_with_one_warning_that_names_the_loss(tiny, caplog):
    text = "drum " * 2000 + "the very end"
    with caplog.at_level(logging.WARNING):
        embeds = tiny.clap.embed_text([text, "short"])
    assert torch.isfinite(embeds).all()
    (record,) = caplog.records
    assert "cut to 512" in record.getMessage()
    assert "drum" in record.getMessage()


def test_what_is_reported_lost_is_what_was_cut(tiny, caplog):
    with caplog.at_level(logging.WARNING):
        tiny.clap.embed_text(["x" * 510 + " zebra"])
    lost = caplog.records[0].getMessage()
    assert "zebra" in lost
    assert "xx" not in lost


def test_a_clip_over_ten_seconds_is_cut_to_its_middle(tiny):
    state = np.random.get_state()  # noqa: NPY002  the very state that must not be touched
    clip = 0.3 * draw(1, 16000 * 12)
    full = tiny.clap.embed_audio(clip, 16000)
    assert torch.equal(full, tiny.clap.embed_audio(clip, 16000))
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))  # noqa: NPY002
    edges = clip.clone()
    edges[:, : 16000 * 9 // 10] = 0
    edges[:, -16000 * 9 // 10 :] = 0
    assert (tiny.clap.embed_audio(edges, 16000) - full).abs().max() < 1e-4  # the resampler's tails reach in
    assert (tiny.clap.embed_audio(clip[:, : 16000 * 10], 16000) - full).abs().max() > 1e-3


def test_arrays_tensors_and_single_clips_are_all_taken(tiny):
    wave = 0.3 * draw(16000)
    expected = tiny.clap.embed_audio(wave[None], 16000)
    assert torch.equal(tiny.clap.embed_audio(wave, 16000), expected)
    assert torch.equal(tiny.clap.embed_audio(wave.numpy(), 16000), expected)


def test_the_rate_matters(tiny):
    wave = 0.3 * draw(1, 16000)
    assert (tiny.clap.embed_audio(wave, 16000) - tiny.clap.embed_audio(wave, 22050)).abs().max() > 1e-3


class ReturnsTensor(torch.nn.Module):
    """transformers 4: the features themselves."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.device, self.dtype = model, model.config, model.device, model.dtype

    def get_text_features(self, *args, **kwargs):
        output = self.model.get_text_features(*args, **kwargs)
        return output if isinstance(output, torch.Tensor) else output.pooler_output


class ReturnsOutput(ReturnsTensor):
    """transformers 5: an object that holds them."""

    def get_text_features(self, *args, **kwargs):
        class Output:
            pooler_output = super(ReturnsOutput, self).get_text_features(*args, **kwargs)

        return Output()


@pytest.mark.parametrize("kind", [ReturnsTensor, ReturnsOutput])
def test_both_generations_of_transformers_are_understood(tiny, kind):
    clap = CLAP(kind(tiny.text_encoder), tiny.tokenizer, tiny.feature_extractor)
    assert torch.equal(clap.embed_text(["a waltz"]), tiny.clap.embed_text(["a waltz"]))


def test_empty_audio_is_named(tiny):
    with pytest.raises(ValueError, match="expected"):
        tiny.clap.embed_audio(torch.zeros(1, 0), 16000)
    with pytest.raises(ValueError, match="expected"):
        tiny.clap.embed_audio(torch.zeros(1, 2, 100), 16000)


def test_gradients_of_the_audio_side_are_its_slopes(tiny):
    """Batch norm's weight among them, whose gradient torch's CPU kernel got wrong (see `clap`)."""
    model = copy.deepcopy(tiny.text_encoder).double()
    clap = CLAP(model, tiny.tokenizer, tiny.feature_extractor)
    features = clap.features(0.3 * draw(1, 8000), 16000)
    features["input_features"] = features["input_features"].double().requires_grad_()
    norm = model.audio_model.audio_encoder.batch_norm
    target = draw(512, seed=1).double()

    def value():
        return clap.encode_audio(features)[0] @ target

    for leaf in (features["input_features"], norm.weight, norm.bias):
        (gradient,) = torch.autograd.grad(value(), leaf)
        direction = draw(*leaf.shape, seed=2).double()
        slopes = []
        for sign in (1, -1):
            with torch.no_grad():
                leaf += sign * 1e-6 * direction
                slopes.append(value().item())
                leaf -= sign * 1e-6 * direction
        assert (gradient * direction).sum().item() == pytest.approx((slopes[0] - slopes[1]) / 2e-6, rel=1e-4)
