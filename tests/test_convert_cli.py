"""python -m weights_convert: what it says, what it writes, and that it writes nothing when it fails."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
import torch
from damage import Exploit, as_nobody, let_all_in
from helpers import TINY
from originals import TINY_ORIGINAL, flags, unpack
from safetensors.torch import load_file, save_file

from musicldm.checkpoint import load_components
from musicldm.cli import convert as command

FULL = "musicldm-ckpt.ckpt"


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authors")
    for name in (FULL, "vae-ckpt.ckpt", "hifigan-ckpt.ckpt"):
        unpack(name, folder)
    return folder


@pytest.fixture(scope="module")
def state(authors):
    return torch.load(authors / FULL, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def converted(authors):
    assert command.main([str(authors / FULL), str(authors / "out"), *flags()]) == 0
    return authors / "out"


def run(capsys, *arguments):
    status = command.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert status in (0, 1)
    assert bool(said.err) == bool(status)
    return said.out if status == 0 else said.err


def only(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_moving_averages_are_the_default_and_it_says_so(capsys, authors, tmp_path):
    said = run(capsys, authors / FULL, tmp_path / "out", *flags())
    assert "U-Net: moving averages (EMA), by default" in said
    assert "heads: 16 channels each (musicldm.yaml)" in said
    assert "--raw takes them" in said


def test_the_raw_weights_are_taken_when_asked_for(capsys, authors, tmp_path):
    said = run(capsys, authors / FULL, tmp_path / "out", "--raw", *flags())
    assert "U-Net: raw weights" in said
    assert "--ema takes them" in said


def test_raw_weights_go_where_there_are_no_averages(capsys, state, tmp_path):
    torch.save({k: t for k, t in state.items() if not k.startswith("model_ema.")}, tmp_path / "raw.ckpt")
    assert "raw weights, not their moving averages, there are no others" in run(
        capsys, tmp_path / "raw.ckpt", tmp_path / "out", *flags()
    )
    assert "leave out --ema" in run(capsys, tmp_path / "raw.ckpt", tmp_path / "no", "--ema", *flags())


def test_safetensors_are_a_source_too(capsys, state, converted, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "full.safetensors")
    run(capsys, tmp_path / "full.safetensors", tmp_path / "out", *flags())
    for path in converted.rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(converted)).read_bytes()


def test_the_provenance_says_what_was_done(authors, converted):
    told = json.loads((converted / "provenance.json").read_text())
    source = told["sources"]["full checkpoint"]
    assert source["name"] == FULL
    assert source["sha256"] == hashlib.sha256((authors / FULL).read_bytes()).hexdigest()
    assert told["unet_weights"] == "ema"
    assert (told["channels_per_head"], told["channels_per_head_from"]) == (16, "musicldm.yaml")
    assert all(dropped["why"] and dropped["tensors"] == len(dropped["names"]) for dropped in told["dropped"])
    assert str(authors) not in json.dumps(told)  # names, no paths of this machine


def test_every_tensor_of_the_source_is_written_or_dropped_for_a_reason(state, converted):
    told = json.loads((converted / "provenance.json").read_text())
    dropped = [name for entry in told["dropped"] for name in entry["names"]]
    assert len(set(dropped)) == len(dropped)
    from_table = set(state) - set(dropped)
    prefixes = ("model_ema.", "first_stage_model.", "cond_stage_model.model.")
    assert all(name.startswith(prefixes) for name in from_table)
    assert sum(name.startswith("model_ema.") for name in from_table) == 686


def test_a_dry_run_reports_and_writes_nothing(capsys, authors, tmp_path):
    said = run(capsys, authors / FULL, tmp_path / "out", "--dry-run", *flags())
    assert "686 tensors" in said
    assert "nothing is written" in said
    assert only(tmp_path) == []


def test_the_converted_config_says_what_the_authors_code_fixes(converted):
    unet, clap = (json.loads((converted / n / "config.json").read_text()) for n in ("unet", "text_encoder"))
    vae = json.loads((converted / "vae" / "config.json").read_text())
    assert unet["attention_head_dim"] == [2, 2, 4, 4]
    assert vae["scaling_factor"] == 0.8317000269889832  # the checkpoint's float32, exactly
    assert clap["text_config"]["layer_norm_eps"] == 1e-5
    assert (
        json.loads((converted / "tokenizer" / "tokenizer_config.json").read_text())["model_max_length"] == 512
    )
    index = json.loads((converted / "model_index.json").read_text())
    assert index == json.loads((TINY / "model_index.json").read_text())


# -- a hub folder as source


def test_a_hub_folder_is_rewritten_to_the_byte(capsys, tmp_path):
    run(capsys, TINY, tmp_path / "out")
    for path in (path for path in TINY.rglob("*") if path.is_file()):
        again = tmp_path / "out" / path.relative_to(TINY)
        if path.name in ("config.json", "model_index.json"):
            assert json.loads(again.read_text()) == json.loads(path.read_text())
        else:
            assert again.read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(("flag", "dtype"), [("fp16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_a_half_precision_copy_loads_as_such(capsys, tmp_path, flag, dtype):
    run(capsys, TINY, tmp_path / "half", "--dtype", flag)
    parts = load_components(tmp_path / "half")
    for name in ("unet", "vae", "vocoder", "text_encoder"):
        assert {t.dtype for t in parts[name].parameters()} == {dtype}, name


def test_a_value_that_half_precision_cannot_hold_is_an_error(capsys, tmp_path):
    source = shutil.copytree(TINY, tmp_path / "tiny", copy_function=shutil.copyfile)
    held = load_file(source / "vocoder" / "model.safetensors")
    held["conv_post.weight"] *= 1e9
    save_file(held, source / "vocoder" / "model.safetensors")
    said = run(capsys, source, tmp_path / "half", "--dtype", "fp16")
    assert "vocoder" in said
    assert "conv_post.weight" in said
    assert "bfloat16" in said
    assert only(tmp_path) == ["tiny"]


def test_the_provenance_of_a_source_is_handed_on(capsys, converted, tmp_path):
    run(capsys, converted, tmp_path / "half", "--dtype", "bf16")
    told = json.loads((tmp_path / "half" / "provenance.json").read_text())
    assert told["source_provenance"]["unet_weights"] == "ema"
    assert told["dtype"] == "bf16"


# -- errors: one line, and nothing on the disk


def spoilt(state, **changes):
    return {name: tensor for name, tensor in (state | changes).items() if tensor is not None}


KEY = "model.diffusion_model.input_blocks.0.0.weight"
EMA = "model_ema.diffusion_modelinput_blocks00weight"
CLAP = "cond_stage_model.model.text_branch.pooler.dense.bias"

WRONG_STATES = {
    "a missing average": ({EMA: None}, "missing      diffusion_modelinput_blocks00weight"),
    "an extra average": ({"model_ema.extra": torch.zeros(1)}, "unexpected   extra"),
    "an average of another shape": ({EMA: torch.zeros(1)}, "wrong shape  diffusion_modelinput_blocks00weight"),
    "an average that is not a number": ({EMA: torch.full((32, 8, 3, 3), float("nan"))}, "NaN or infinity in conv_in.weight"),
    "an average of integers": ({EMA: torch.zeros(32, 8, 3, 3, dtype=torch.int64)}, "wrong type"),
    "no U-Net at all": ({KEY: None}, "input_blocks.0.0.weight"),
    "an unknown network": ({"discriminator.w": torch.zeros(1)}, "unexpected   discriminator.w"),
    "no scale": ({"scale_factor": None}, "scale_factor"),
    "a scale of NaN": ({"scale_factor": torch.tensor(float("nan"))}, "scaling_factor"),
    "a scale of zero": ({"scale_factor": torch.tensor(0.0)}, "scaling_factor"),
    "two scales": ({"scale_factor": torch.ones(2)}, "scale_factor"),
    "another noise schedule": ({"betas": torch.linspace(0.1, 0.2, 1000)}, "betas"),
    "a missing bias of CLAP": ({CLAP: None}, "missing      text_branch.pooler.dense.bias"),
    "a fused CLAP": ({"cond_stage_model.model.audio_branch.patch_embed.mel_conv2d.weight": torch.zeros(1)}, "unexpected   audio_branch.patch_embed.mel_conv2d.weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_STATES)
def test_a_wrong_checkpoint_is_one_clear_error_and_leaves_nothing(capsys, state, tmp_path, case):
    changes, said = WRONG_STATES[case]
    torch.save({"state_dict": spoilt(state, **changes)}, tmp_path / "full.ckpt")
    error = run(capsys, tmp_path / "full.ckpt", tmp_path / "out", *flags())
    assert said in error
    assert "full.ckpt" in error
    assert only(tmp_path) == ["full.ckpt"]


@pytest.mark.parametrize(
    ("prefix", "flag"),
    [
        ("first_stage_model.encoder.", "--vae"),
        ("first_stage_model.vocoder.", "--vocoder"),
        ("cond_stage_model.", "--clap"),
    ],
)
def test_a_network_that_no_file_holds_names_its_flag(capsys, state, tmp_path, prefix, flag):
    torch.save({n: t for n, t in state.items() if not n.startswith(prefix)}, tmp_path / "lean.ckpt")
    assert flag in run(capsys, tmp_path / "lean.ckpt", tmp_path / "out", *flags())
    assert only(tmp_path) == ["lean.ckpt"]


def test_a_side_file_in_the_place_of_the_full_one_is_named_as_such(capsys, authors, tmp_path):
    said = run(capsys, authors / "vae-ckpt.ckpt", tmp_path / "out", *flags())
    assert "expected the authors' musicldm-ckpt.ckpt" in said


def test_code_in_a_checkpoint_is_not_run_and_named(capsys, state, tmp_path):
    torch.save({"state_dict": state, "callbacks": [Exploit(tmp_path / "marker")]}, tmp_path / "evil.ckpt")
    assert "not loaded, not run: posix.system" in run(
        capsys, tmp_path / "evil.ckpt", tmp_path / "out", *flags()
    )
    assert only(tmp_path) == ["evil.ckpt", "out"]


def test_code_among_the_weights_is_refused(capsys, state, tmp_path):
    torch.save({"state_dict": state | {"x": Exploit(tmp_path / "marker")}}, tmp_path / "evil.ckpt")
    assert "'x'" in run(capsys, tmp_path / "evil.ckpt", tmp_path / "out", *flags())
    assert only(tmp_path) == ["evil.ckpt"]


def test_without_the_yaml_a_foreign_width_is_noticed_or_the_assumption_said(capsys, authors, tmp_path):
    said = run(capsys, authors / FULL, tmp_path / "out", "--dry-run")
    assert "heads: 32 channels each (the release's YAML, not given here)" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("        num_head_channels: 16", "num_head_channels"),
        ("        model_channels: 32", "model_channels"),
        ("    linear_end: 0.0195", "betas"),
    ],
)
def test_a_config_of_another_model_is_refused(capsys, authors, tmp_path, line, said):
    text = (TINY_ORIGINAL / "musicldm.yaml").read_text()
    assert line in text
    (tmp_path / "other.yaml").write_text(text.replace(line, line.rsplit(":", 1)[0] + ": 7"))
    error = run(capsys, authors / FULL, tmp_path / "out", "--config", tmp_path / "other.yaml", *flags()[2:])
    assert said in error or "heads of 7" in error
    assert only(tmp_path) == ["other.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1",
        "!!python/object/apply:os.system ['touch marker']",
        "\x00",
        "model: {params: {timesteps: many}}",
    ],
)
def test_a_broken_yaml_is_refused_and_runs_nothing(capsys, authors, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    assert "bad.yaml" in run(capsys, authors / FULL, tmp_path / "out", "--config", tmp_path / "bad.yaml")
    assert only(tmp_path) == ["bad.yaml"]


def test_flags_that_mean_nothing_are_refused(capsys, authors, tmp_path):
    assert "--ema, --vae" in run(capsys, TINY, tmp_path / "out", "--ema", "--vae", authors / FULL)
    assert "--inverse wants a hub folder" in run(capsys, authors / FULL, tmp_path / "out", "--inverse")
    assert "no --dtype" in run(capsys, TINY, tmp_path / "out", "--inverse", "--dtype", "fp16")
    assert "there is no" in run(capsys, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(SystemExit):
        command.main([str(TINY), str(tmp_path / "out"), "--ema", "--raw"])
    assert only(tmp_path) == []


def test_nothing_is_overwritten(capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "exists already" in run(capsys, TINY, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_without_a_network_the_missing_tokenizer_is_one_clear_error(capsys, authors, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", offline)
    said = run(capsys, authors / FULL, tmp_path / "out", *flags()[:4])
    assert "--tokenizer" in said
    assert only(tmp_path) == []


def test_a_tokenizer_with_more_words_than_the_model_is_refused(capsys, state, tmp_path):
    name = "cond_stage_model.model.text_branch.embeddings.word_embeddings.weight"
    torch.save(state | {name: state[name][:400].clone()}, tmp_path / "full.ckpt")
    assert "460 tokens" in run(capsys, tmp_path / "full.ckpt", tmp_path / "out", *flags())
    assert only(tmp_path) == ["full.ckpt"]


def test_a_place_that_may_not_be_written_is_one_clear_error(capsys, tmp_path):
    let_all_in(tmp_path)
    (tmp_path / "closed").mkdir(mode=0o555)
    with as_nobody():
        assert "could not be written" in run(capsys, TINY, tmp_path / "closed" / "out")
        assert "could not be written" in run(capsys, TINY, tmp_path / "closed" / "out.ckpt", "--inverse")
    os.chmod(tmp_path / "closed", 0o755)
    assert only(tmp_path / "closed") == []
