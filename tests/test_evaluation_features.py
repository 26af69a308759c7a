"""CLAP and users' functions as features; the batches' glue; copies found with a real embedding."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from helpers import TINY

from musicldm.evaluation.clap_feature import ClapFeature
from musicldm.evaluation.features import CallableFeature, Features, TextFeature, merge
from musicldm.evaluation.weights import state_sha256

UNIT = 1e-6  # float32 numbers of at most 1


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def clap() -> ClapFeature:
    return ClapFeature.load(TINY)


def test_clap_gives_the_pipelines_own_embeddings(clap, tiny):
    clips = [noise(480000), noise(30000, 1)]
    found = clap(clips)
    assert found.embeddings.shape == (2, clap.dim)
    for i, clip in enumerate(clips):
        np.testing.assert_allclose(
            found.embeddings[i], tiny.clap.embed_audio(clip, 48000)[0].numpy(), rtol=0, atol=UNIT
        )
        assert clap([clip]).embeddings.tobytes() == found.embeddings[i : i + 1].tobytes()
    text = clap.text(["a song", "another, longer song"])
    np.testing.assert_allclose(
        text, tiny.clap.embed_text(["a song", "another, longer song"]).numpy(), rtol=0, atol=UNIT
    )
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, rtol=UNIT)
    assert isinstance(clap, TextFeature)
    assert (clap.rate, clap.classes) == (48000, 0)
    assert clap([]).embeddings.shape == (0, clap.dim)
    assert clap.text([]).shape == (0, clap.dim)


def test_clap_of_a_pipeline_and_of_its_folder_are_one_feature(clap, tiny):
    of_pipeline = ClapFeature(tiny.clap, TINY.name)
    assert of_pipeline.id == clap.id
    assert len(clap.id.sha256) == 64
    assert str(clap.id) == f"clap:{TINY.name}@{clap.id.sha256[:12]}"
    assert "middle 10 s" in clap.id.settings
    assert "float32" in clap.id.settings


def test_other_weights_are_another_feature(clap):
    state = clap.clap.model.state_dict()
    name = next(n for n, t in state.items() if t.is_floating_point())
    changed = state | {name: state[name] + 1e-7}
    assert state_sha256(state) == clap.id.sha256 != state_sha256(changed)
    assert state_sha256(state) != state_sha256({k + "x": v for k, v in state.items()})
    assert state_sha256(state) != state_sha256({k: v.reshape(-1) for k, v in state.items()})


def test_a_clap_alone_in_a_folder(tmp_path, tiny, clap):
    """As transformers saves one: model, tokenizer and preprocessor side by side."""
    folder = tmp_path / "my-clap"
    for part in ("text_encoder", "tokenizer", "feature_extractor"):
        shutil.copytree(TINY / part, folder, dirs_exist_ok=True)
    found = ClapFeature.load(folder)
    assert found.id.name == "clap:my-clap"
    assert found.id.sha256 == clap.id.sha256
    clip = noise(48000)
    assert found([clip]).embeddings.tobytes() == clap([clip]).embeddings.tobytes()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights of text_encoder"):
        ClapFeature.load(folder)


def test_a_users_function_is_a_feature():
    feature = CallableFeature(
        lambda waves: [[w.mean(), w.std()] for w in waves], name="level", version="1", rate=8000, dim=2
    )
    found = feature([noise(100), noise(50, 1)])
    assert found.embeddings.shape == (2, 2)
    assert found.embeddings.dtype == np.float64
    assert feature.id != CallableFeature(len, name="level", version="2", rate=8000, dim=2).id
    for wrong, message in (
        (lambda waves: np.zeros((len(waves), 3)), r"shape \(2, 3\) with 0 .*expected \(2, 2\)"),
        (lambda waves: np.zeros(2), r"shape \(2,\)"),
        (lambda waves: np.full((len(waves), 2), np.nan), "4 values that are not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            CallableFeature(wrong, name="level", version="1", rate=8000, dim=2)([noise(100), noise(50, 1)])
    with pytest.raises(ValueError, match="clip 0 has samples that are NaN"):
        feature([np.full(3, np.inf, np.float32)])


def test_batches_merge():
    def batch(n, seed):
        g = np.random.default_rng(seed)
        frames = tuple(g.random((1 + i, 3)) for i in range(n))
        return Features(g.random((n, 3)), frames, g.random((n, 4)))

    a, b = batch(2, 0), batch(3, 1)
    whole = merge([a, b])
    assert len(whole) == 5
    assert whole.rows.shape == (1 + 2 + 1 + 2 + 3, 3)
    np.testing.assert_array_equal(whole.logits, np.vstack([a.logits, b.logits]))
    assert whole.frames[2] is b.frames[0]
    assert merge([Features(np.zeros((2, 3)))]).rows.shape == (2, 3)
    with pytest.raises(ValueError, match="of one feature"):
        merge([a, Features(np.zeros((1, 3)))])
    with pytest.raises(ValueError, match="at least one batch"):
        merge([])
    with pytest.raises(ValueError, match="frames of 1 clips, and 2 embeddings"):
        Features(np.zeros((2, 3)), (np.zeros((1, 3)),))
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        Features(np.zeros(2))


def test_nothing_is_computed_with_gradients(clap):
    assert torch.is_grad_enabled()
    clap([noise(4800)])
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in clap.clap.model.parameters())
