from __future__ import annotations

import copy
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import TINY, draw

from musicldm.clap import CLAP, Tokenizer

SAME = 1e-6  # batch size and fused products change the order of summation
SAME_DB = 1e-3  # transformers' feature extractor keeps its spectra in complex64
HEARD = 1e-5  # what that difference is worth in an embedding


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


@pytest.fixture(scope="module")
def theirs():
    """transformers' model, tokenizer and feature extractor of the same folder."""
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    return (
        ClapModel.from_pretrained(TINY / "text_encoder").eval(),
        AutoTokenizer.from_pretrained(TINY / "tokenizer"),
        ClapFeatureExtractor.from_pretrained(TINY / "feature_extractor"),
    )


def unit(features):
    """transformers 4 returns the embedding, transformers 5 an object that holds it."""
    embedding = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(embedding, dim=-1)


TEXTS = [
    "",
    "a slow piano ballad in a minor key, 72 bpm",
    "AC/DC\n\ttab",
    " 日本語 café",
    "a <mask> and </s> b <pad> c",
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_transformers(tiny, theirs, text):
    assert tiny.tokenizer([text]) == theirs[1]([text])["input_ids"]


@torch.no_grad()
def test_text_embeddings_are_transformers(tiny, theirs):
    model, tokenizer, _ = theirs
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = unit(model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"]))
    got = tiny.clap.embed_text(TEXTS)
    assert (got - expected).abs().max() < SAME
    assert (got.roll(1, 0) - expected).abs().max() > 100 * SAME


@torch.no_grad()
@pytest.mark.parametrize("seconds", [0.3, 3.0, 10.0])
def test_audio_embeddings_are_transformers(tiny, theirs, seconds):
    model, _, extractor = theirs
    waves = 0.3 * draw(2, round(48000 * seconds))
    features = extractor(list(waves.numpy()), sampling_rate=48000, return_tensors="pt")
    assert (tiny.clap.features(waves, 48000) - features["input_features"]).abs().max() < SAME_DB
    expected = unit(model.get_audio_features(**features))
    got = tiny.clap.embed_audio(waves, 48000)
    assert (got - expected).abs().max() < HEARD
    assert (got.flip(0) - expected).abs().max() > 10 * HEARD


def test_a_tokenizer_is_the_same_from_its_json_and_from_its_pairs(tiny, tmp_path):
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(TINY / "tokenizer" / name, tmp_path)
    pairs = Tokenizer.load(tmp_path)
    assert pairs.core.get_vocab() == tiny.tokenizer.core.get_vocab()
    assert (pairs(TEXTS), pairs.max_length) == (tiny.tokenizer(TEXTS), tiny.tokenizer.max_length)
    pairs.save_pretrained(tmp_path / "saved")
    saved = Tokenizer.load(tmp_path / "saved")
    assert (saved(TEXTS), saved.max_length) == (pairs(TEXTS), pairs.max_length)


def test_another_tokenizer_than_roberta_s_is_refused(tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (TINY / "tokenizer" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("<pad>", "[PAD]"), encoding="utf-8")
    with pytest.raises(ValueError, match="another tokenizer than RoBERTa's"):
        Tokenizer.load(tmp_path)


def test_of_a_tokenizer_json_only_its_words_count(tiny, tmp_path):
    """A normaliser, a limit and an id far off: the first two are overruled, the third is counted."""
    shutil.copy(TINY / "tokenizer" / "tokenizer_config.json", tmp_path)
    content = json.loads((TINY / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    other = Tokenizer.load(tmp_path)
    texts = [*TEXTS, "C# Minor"]
    assert (other(texts), len(other)) == (tiny.tokenizer(texts), len(tiny.tokenizer))
    content["model"]["vocab"]["zzzz"] = 1 << 20
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert len(Tokenizer.load(tmp_path)) == (1 << 20) + 1


def test_text_to_music_imports_neither_transformers_nor_the_compiler():
    """Each takes seconds. transformers is imported when a clip is heard."""
    code = f"""
import sys
from musicldm import MusicLDMPipeline
pipe = MusicLDMPipeline.from_pretrained({str(TINY)!r})
pipe("a waltz", audio_length_in_s=0.64, num_inference_steps=2)
assert not {{"transformers", "torch._dynamo"}} & set(sys.modules)
pipe.clap.embed_audio([0.0, 0.1, 0.2] * 1000, 16000)
assert "transformers" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_drops_out_and_keeps_the_statistics_of_the_bins(tiny):
    model = copy.deepcopy(tiny.text_encoder)
    clap, wave = CLAP(model, tiny.tokenizer, tiny.feature_extractor), 0.3 * draw(1, 8000)
    assert model.config.audio.hidden_dropout_prob > 0 < model.config.text.hidden_dropout_prob
    held = [statistic.clone() for statistic in model.audio.statistics]
    for embed in (lambda: clap.embed_text(["a waltz"]), lambda: clap.embed_audio(wave, 16000)):
        model.eval()
        assert torch.equal(embed(), embed())
        model.train()
        assert (embed() - embed()).abs().max() > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(held, model.audio.statistics, strict=True))


def test_too_much_is_named(tiny):
    with pytest.raises(ValueError, match="got 513 tokens, expected at most 512"):
        tiny.text_encoder.text(torch.zeros(1, 513, dtype=torch.long), torch.ones(1, 513, dtype=torch.bool))
    with pytest.raises(ValueError, match="got 1025 frames, expected at most 1024"):
        tiny.text_encoder.audio(torch.zeros(1, 1, 1025, 64))


def test_empty_audio_is_named(tiny):
    with pytest.raises(ValueError, match="expected"):
        tiny.clap.embed_audio(torch.zeros(1, 0), 16000)
    with pytest.raises(ValueError, match="expected"):
        tiny.clap.embed_audio(torch.zeros(1, 2, 100), 16000)


def test_gradients_of_the_audio_side_are_its_slopes(tiny):
    """Batch norm's weight among them, whose gradient torch's CPU kernel got wrong (see `clap.audio`)."""
    model = copy.deepcopy(tiny.text_encoder).double()
    clap = CLAP(model, tiny.tokenizer, tiny.feature_extractor)
    features = clap.features(0.3 * draw(1, 8000), 16000)
    features = features.double().requires_grad_()
    norm = model.audio.get_submodule("audio_model.audio_encoder.batch_norm")
    target = draw(512, seed=1).double()

    def value():
        return clap.encode_audio(features)[0] @ target

    for leaf in (features, norm.weight, norm.bias):
        (gradient,) = torch.autograd.grad(value(), leaf)
        direction = draw(*leaf.shape, seed=2).double()
        slopes = []
        for sign in (1, -1):
            with torch.no_grad():
                leaf += sign * 1e-6 * direction
                slopes.append(value().item())
                leaf -= sign * 1e-6 * direction
        assert (gradient * direction).sum().item() == pytest.approx((slopes[0] - slopes[1]) / 2e-6, rel=1e-4)
