"""The CLAP stage: its loss by hand, its tokenizer, a small CLAP that learns eight pairs and is read back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import TINY, draw
from training_waves import NAMES, Waves, check_resumes_exactly, check_two_are_one, config, losses, train, wave

from musicldm.audio import write
from musicldm.checkpoint import load_clap, load_front_end, load_network
from musicldm.clap import CLAP
from musicldm.io.distributed import Group
from musicldm.training.clap import CLAPSettings, CLAPStage, Config, save_front_end
from musicldm.training.clap_parts import CLAP_SMALL, start_clap
from musicldm.training.command import example, run_stage
from musicldm.training.config import ConfigError, keys_of, parse, read_toml
from musicldm.training.contrastive import contrastive, retrieval
from musicldm.training.stage import Draws, collate
from musicldm.training.tokenizer import train_tokenizer
from weights_convert.hub_config import ConfigError as HubConfigError

MINI = {  # two stages of windows of 8 on a picture of 64 x 64: 64 frames at most
    "text_config": {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
    "audio_config": {
        "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 4], "spec_size": 64,
        "enable_fusion": False, "hidden_dropout_prob": 0.0,
    },
    "projection_dim": 32,
}  # fmt: skip
FRONT = {"hop_length": 960, "max_length_s": 1}
DATA = Waves(9600)


def mini() -> CLAP:
    return start_clap(MINI, FRONT, NAMES, vocab_size=300, seed=0, begun=None)


def make(group=None) -> CLAPStage:
    settings = CLAPSettings(lr=3e-3, warmup=0)
    return CLAPStage(mini(), settings, group or Group(), scratch=True)


# ---- loss --------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    audio, text = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    scale = 2.0
    rows = [[2.0, 1.2], [0.0, 1.6]]  # 2 x cosines
    columns = [[2.0, 0.0], [1.2, 1.6]]
    expected = sum(
        math.log(sum(math.exp(x) for x in logits)) - logits[k]
        for table in (rows, columns)
        for k, logits in enumerate(table)
    )
    got = contrastive(audio, text, torch.tensor(math.log(scale)))
    assert got.item() == pytest.approx(expected / 4, rel=1e-6)
    assert torch.equal(
        contrastive(text, audio, torch.tensor(0.3)), contrastive(audio, text, torch.tensor(0.3))
    )
    assert retrieval(audio, text).item() == 1.0
    assert retrieval(audio, text.flip(0)).item() == 0.0


def test_the_temperature_is_held_below_100():
    stage = make()
    with torch.no_grad():
        stage.model.logit_scale_a.fill_(9.0)
    batch = collate([DATA.item(0, k) for k in range(2)])
    figures = stage.loss(batch, 0, Draws([0, 1])).figures
    assert figures["scale"].item() == pytest.approx(100.0, rel=1e-5)


def test_features_of_clips_that_come_again_are_made_once(monkeypatch):
    class Kept(dict):
        def load(self, key):
            return self.get(json.dumps(key, sort_keys=True))

        def store(self, key, tensors):
            self[json.dumps(key, sort_keys=True)] = tensors

    store = Kept()
    stage = CLAPStage(mini(), CLAPSettings(), Group(), scratch=True, store=store)
    plain = make()
    batch = collate([{**DATA.item(0, k), "key": f"clip {k}"} for k in range(3)])
    first = stage.evaluate(batch, Draws([0, 1, 2]))["loss"]
    assert len(store) == 3
    assert all("hop_length" in key for key in store)  # the front end's settings are part of the name
    monkeypatch.setattr(CLAP, "features", None)  # would be called for a clip that is not known
    assert torch.equal(stage.evaluate(batch, Draws([0, 1, 2]))["loss"], first)
    with pytest.raises(TypeError):
        plain.evaluate(batch, Draws([0, 1, 2]))


# ---- parts -------------------------------------------------------------------------------------------


def test_the_tokenizer_writes_everything_and_is_the_same_for_the_same_captions(tmp_path):
    captions = [*NAMES, "a bright bell, café ♪"] * 3
    made = train_tokenizer(captions, 320, 64)
    assert len(made) <= 320
    (ids,) = made(["<s> ünseen 音楽 words"])
    assert made.text(ids).strip() == "ünseen 音楽 words"
    assert (ids[0], ids[-1]) == (0, 2)
    assert made.core.token_to_id("<mask>") == len(made) - 1
    assert len(made(["a bright bell"])[0]) < len("a bright bell")  # it has learnt words
    assert made.max_length == 64
    again = train_tokenizer(captions[::-1], 320, 64)
    assert again.core.get_vocab() == made.core.get_vocab()
    with pytest.raises(ValueError, match="vocabulary of 200, expected at least 261"):
        train_tokenizer(captions, 200, 64)


def test_the_small_preset_has_a_few_million_parameters_and_hears_ten_seconds():
    clap = start_clap("preset:small", {}, NAMES, vocab_size=4096, seed=0, begun=None)
    words = clap.model.config.text.hidden_size
    full = sum(p.numel() for p in clap.model.parameters()) + (4096 - len(clap.tokenizer)) * words
    assert 3_000_000 < full < 6_000_000
    for seconds in (0.5, 10.24):  # repeated, and cut
        features = clap.features(draw(1, round(16000 * seconds)), 16000)
        assert features.shape == (1, 1, 251, 64)
    with torch.no_grad():
        assert clap.encode_audio(features).shape == clap.encode_text(["x"]).shape == (1, 512)


def test_the_same_seed_starts_the_same_model_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    a, b = mini().model.state_dict(), mini().model.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("source", "front", "message"),
    [
        ("preset:none", {}, "expected preset:16k or small"),
        (CLAP_SMALL, {"hop_length": 480}, "takes 256; make hop_length larger"),
        ({"audio_config": {"spec_size": 100}}, {}, "does not split into windows"),
        ({"text_config": {"hidden_size": 30, "num_attention_heads": 4}}, {}, "30 channels in 4 heads"),
        (MINI, {"hop_length": 0}, "hop_length"),
        (MINI, {"max_length_s": 0.6}, "max_length_s = 0.6: expected whole seconds"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(source, front, message):
    with pytest.raises((ConfigError, HubConfigError), match=message):
        start_clap(source, front, NAMES, vocab_size=300, seed=0, begun=None)


def test_gradients_flow_where_embed_has_none():
    clap = mini()
    features = clap.features(draw(2, 9600), 16000)
    assert clap.encode_audio(features).requires_grad
    assert clap.encode_text(["a"]).requires_grad
    assert not clap.embed_audio(draw(2, 9600), 16000).requires_grad
    assert torch.equal(clap.embed_audio(draw(2, 9600), 16000), clap.encode_audio(features).detach())


# ---- the stage ---------------------------------------------------------------------------------------


def test_the_first_batch_s_statistics_are_kept():
    stage = make()
    batch = collate([DATA.item(0, k) for k in range(4)])
    stage.prepare([(batch, Draws(range(4)))])
    mean, var = stage.model.audio.statistics[0].clone(), stage.model.audio.statistics[1].clone()
    frames = stage.clap.features(batch["wave"], 16000).flatten(0, 2)
    torch.testing.assert_close(mean, frames.mean(0))
    torch.testing.assert_close(var, frames.var(0, unbiased=False))
    stage.networks.train()
    stage.loss(batch, 0, Draws(range(4)))
    assert torch.equal(stage.model.audio.statistics[0], mean)
    trained = CLAPStage(mini(), CLAPSettings(), Group(), scratch=False)
    trained.prepare([(batch, Draws(range(4)))])
    assert torch.equal(trained.model.audio.statistics[0], torch.zeros_like(mean))


def test_eight_pairs_are_learnt_and_the_folder_is_a_checkpoint_s(tmp_path):
    stage = make()
    train(stage, config(tmp_path, 70, batch=8, every=100), DATA)
    loss = losses(tmp_path, "contrast/loss")
    # it knew nothing; random towers are not indifferent either (2.1 to 3.0 over a dozen seeds)
    assert loss[0] == pytest.approx(math.log(8), abs=1)
    assert loss[-1] < loss[0] / 4
    assert losses(tmp_path, "contrast/retrieval")[-1] == 1.0
    read = load_clap(tmp_path)
    waves = torch.stack([wave(k, 9600) for k in range(8)])
    stage.model.eval()
    assert torch.equal(read.embed_text(NAMES), stage.clap.embed_text(NAMES))
    assert torch.equal(read.embed_audio(waves, 16000), stage.clap.embed_audio(waves, 16000))
    assert (read.embed_audio(waves, 16000) @ read.embed_text(NAMES).T).argmax(1).tolist() == list(range(8))
    assert torch.equal(read.model.logit_scale_t, read.model.logit_scale_a)


def test_it_resumes_exactly(tmp_path):
    check_resumes_exactly(make, tmp_path, DATA)


def test_two_processes_are_one(tmp_path):
    check_two_are_one(make, tmp_path, DATA, 1e-6)


# ---- the command -------------------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path):
    """Four files with captions, and a config that trains on them."""
    lines = []
    for k in range(4):
        write(tmp_path / f"{k}.wav", wave(k, 16000).numpy(), 16000)
        lines.append(json.dumps({"path": f"{k}.wav", "caption": NAMES[k]}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))

    def written(parts: str) -> object:
        path = tmp_path / "clap.toml"
        path.write_text(
            f"""output = "{tmp_path / "run"}"
device = "cpu"
[data]
manifest = "{tmp_path / "train.jsonl"}"
seconds = 0.6
shortest = 0.2
[loop]
steps = 2
batch_size = 4
[parts]
{parts}
"""
        )
        return path

    return written


def test_from_scratch_by_a_config_then_on_and_resumed(toml, tmp_path):
    text = ", ".join(f"{k} = {json.dumps(v)}" for k, v in MINI["text_config"].items())
    audio = ", ".join(f"{k} = {json.dumps(v)}" for k, v in MINI["audio_config"].items())
    table = f"clap = {{ text_config = {{ {text} }}, audio_config = {{ {audio} }}, projection_dim = 32 }}"
    path = toml(f"{table}\nfeature_extractor = {{ hop_length = 960, max_length_s = 1 }}\nvocab_size = 300")
    assert run_stage("clap", path, bar=False).step == 2
    vocab = load_front_end(tmp_path / "run")["tokenizer"].core.get_vocab()
    # other captions now: the words of the run are kept
    manifest = tmp_path / "train.jsonl"
    manifest.write_text(manifest.read_text().replace("a low drone", "zzzz zzzz zzzz zzzz"))
    assert run_stage("clap", path, overrides=["loop.steps=3"], resume=True, bar=False).step == 3
    assert load_front_end(tmp_path / "run")["tokenizer"].core.get_vocab() == vocab
    on = toml(f'init = "{tmp_path / "run"}"')
    assert run_stage("clap", on, overrides=[f"output={tmp_path / 'on'}"], bar=False).step == 2
    assert load_network(tmp_path / "on", "text_encoder").dim == 32


def test_what_the_config_may_not_ask_for(toml, tmp_path):
    with pytest.raises(ConfigError, match="got neither init nor clap"):
        run_stage("clap", toml(""), bar=False)
    with pytest.raises(ConfigError, match="a mix has no caption"):
        run_stage("clap", toml(f'init = "{TINY}"'), overrides=["mixup.strategy=plain"], bar=False)
    manifest = tmp_path / "train.jsonl"
    manifest.write_text(manifest.read_text().replace(', "caption": "a low drone"', ""))
    with pytest.raises(ConfigError, match=r"1 tracks have no caption, .*0\.wav first"):
        run_stage("clap", toml(f'init = "{TINY}"'), bar=False)


def test_the_example_config_is_understood():
    path = example(Path("clap"))
    parsed = parse(Config, read_toml(path), str(path))
    assert parsed.parts.clap == "preset:small"
    assert all(meaning for _, _, meaning in keys_of(Config))


def test_the_front_end_is_written_whole(tmp_path):
    clap = mini()
    save_front_end(tmp_path, clap)
    assert {path.name for path in (tmp_path / "tokenizer").iterdir()} >= {"tokenizer_config.json"}
    assert np.allclose(F.normalize(clap.embed_text(["x"])).norm(), 1)
