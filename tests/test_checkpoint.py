"""Loading what is odd and right, refusing what cannot be asked, and saving whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import resource
import shutil
from contextlib import contextmanager

import pytest
import torch
from damage import BIN, CONV, UNET, Exploit, as_nobody, let_all_in, sharded, tensors
from helpers import TINY
from safetensors.torch import load_file

from musicldm import hub
from musicldm.checkpoint import CheckpointError, load_components, save_components
from musicldm.hub import resolve


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "tiny", copy_function=shutil.copyfile)


# -- loading


def test_sharded_weights_load(folder):
    sharded()(folder)
    got, whole = load_components(folder)["unet"], load_components(TINY)["unet"]
    assert all(torch.equal(t, whole.state_dict()[name]) for name, t in got.state_dict().items())


def test_safetensors_win_over_a_pickle_and_the_log_says_so(folder, caplog):
    torch.save({"a": Exploit(folder / "marker")}, folder / BIN)
    with caplog.at_level(logging.WARNING):
        load_components(folder)
    assert "diffusion_pytorch_model.bin is ignored" in caplog.text
    assert not (folder / "marker").exists()


def test_a_pickle_of_tensors_is_read_where_there_are_no_safetensors(folder):
    torch.save(load_file(folder / UNET), folder / BIN)
    (folder / UNET).unlink()
    got, whole = load_components(folder)["unet"], load_components(TINY)["unet"]
    assert all(torch.equal(t, whole.state_dict()[name]) for name, t in got.state_dict().items())


def test_links_of_the_hubs_cache_are_followed(folder, tmp_path):
    (folder / UNET).rename(tmp_path / "blob")
    (folder / UNET).symlink_to(tmp_path / "blob")
    assert "unet" in load_components(folder)


VAE, VOCODER, CLAP = (
    "vae/diffusion_pytorch_model.safetensors",
    "vocoder/model.safetensors",
    "text_encoder/model.safetensors",
)
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # of files before 2023


def with_old_attention_names(held):
    for name in [name for name in held if ".attentions." in name]:
        new = next((part for part in OLD_NAMES if part in name), None)
        if new is not None:
            held[name.replace(new, OLD_NAMES[new])] = held.pop(name)


def with_float64_logit_scales(held):
    held.update({name: held[name].double() for name in ("logit_scale_a", "logit_scale_t")})


def without_constants(held):
    for name in ("position_ids", "token_type_ids"):
        held.pop(f"text_model.embeddings.{name}")


def with_weight_norm(held):
    for name in [name for name in held if name.endswith(".weight")]:
        v = held.pop(name)
        held[f"{name}_v"] = 3 * v
        held[f"{name}_g"] = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.ndim - 1))


def with_new_weight_norm(held):
    with_weight_norm(held)
    for old, new in (
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ):
        for name in [name for name in held if name.endswith(old)]:
            held[name.replace(old, new)] = held.pop(name)


@pytest.mark.parametrize(
    ("file", "rewrite", "tolerance"),
    [
        (VAE, with_old_attention_names, 0),
        (CLAP, with_float64_logit_scales, 0),
        (CLAP, without_constants, 0),
        (VOCODER, with_weight_norm, 1e-6),  # the fold rounds
        (VOCODER, with_new_weight_norm, 1e-6),
    ],
)
def test_older_spellings_of_the_same_weights_load(folder, components, file, rewrite, tolerance):
    before = set(load_file(folder / file))
    tensors(file, rewrite)(folder)
    held = load_file(folder / file)
    assert set(held) != before or held["logit_scale_a"].dtype == torch.float64  # the file did change
    name = file.split("/")[0]
    got = load_components(folder)[name].state_dict()
    for key, expected in components[name].state_dict().items():
        assert got[key].dtype == expected.dtype
        assert (got[key] - expected).abs().max() <= tolerance


def test_mixed_precision_in_one_file_becomes_float32(folder):
    tensors(UNET, lambda held: held.update({CONV: held[CONV].half()}))(folder)
    assert {t.dtype for t in load_components(folder)["unet"].parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.int8, "float16", torch.bool])
def test_a_dtype_that_is_no_float_is_refused(dtype):
    with pytest.raises(TypeError, match="torch_dtype"):
        load_components(TINY, torch_dtype=dtype)


@pytest.mark.parametrize(
    "heads", ["as-trainde", (8, 8), (0, 8.0, 8, 8), (0, -8, 8, 8), (0, 7, 8, 8), (8, 8, 8, 8), 8]
)
def test_heads_that_mean_nothing_are_refused(heads):
    with pytest.raises(ValueError, match=r"head|missing"):
        load_components(TINY, heads=heads)


@pytest.mark.parametrize("place", ["no/such/folder", "./nowhere", "nowhere", "", "~/x", "a\0b"])
def test_a_place_that_is_none_is_a_clear_error(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint|null|missing"):
        load_components(place)


def test_a_file_is_no_checkpoint_folder(folder):
    with pytest.raises(CheckpointError, match=r"is a file .*weights_convert"):
        resolve(folder / UNET)


def test_a_link_in_a_circle_is_no_checkpoint_folder(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match="symbolic link"):
        resolve(tmp_path / "loop")


def test_an_id_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(CheckpointError, match="without a network"):
        resolve("no-such-org/no-such-model", cache_dir=tmp_path, local_files_only=True)


def test_a_name_of_two_parts_may_be_a_folder_that_is_missing(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"'runs/vae': there is no such folder in .*If a folder is meant"
    ):
        resolve("runs/vae", cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize(
    "name",
    ["runs/demo/vae", "./runs", "../vae", "~/vae", "my runs/vae", "runs/v\u00e4e", "runs/", "/vae"],
)
def test_what_cannot_be_an_id_is_not_looked_up(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail(f"{name} was looked up"))
    with pytest.raises(CheckpointError, match=r"does not exist; expected a folder"):
        resolve(name)


@pytest.mark.parametrize(
    "path", [UNET, "vae/config.json", "unet", "model_index.json", "tokenizer/tokenizer_config.json"]
)
def test_what_may_not_be_read_is_a_clear_error(tmp_path, path):
    let_all_in(tmp_path)
    folder = shutil.copytree(TINY, tmp_path / "tiny", copy_function=shutil.copyfile)
    (folder / path).chmod(0)
    try:
        with (
            as_nobody(),
            pytest.raises(CheckpointError, match=r"cannot be read.*(denied|Permission)") as error,
        ):
            load_components(folder)
        assert path.split("/")[0] in str(error.value)
    finally:
        (folder / path).chmod(0o755)


# -- writing


@pytest.fixture(scope="module")
def components():
    return load_components(TINY)


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def small_disk(size=100_000):
    """A disk that is full after so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_behind(components, tmp_path):
    with small_disk(), pytest.raises(CheckpointError, match="could not be written"):
        save_components(tmp_path / "out", components)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_last_file_leaves_the_old_checkpoint_as_it_was(
    components, folder, monkeypatch
):
    before = everything(folder)

    def full(path, value):
        if path.name == "model_index.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    monkeypatch.setattr("musicldm.checkpoint.write_json", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_components(folder, components)
    assert everything(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_interrupted_save_leaves_nothing_behind(components, tmp_path, monkeypatch):
    def interrupted(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr("musicldm.checkpoint.write_tensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_components(tmp_path / "out", components)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_may_not_be_written_is_a_clear_error(components, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    with as_nobody(), pytest.raises(CheckpointError, match="could not be written"):
        save_components(tmp_path / "closed" / "out", components)


def test_a_file_in_the_way_is_a_clear_error(components, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_components(tmp_path / "out", components)
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    components = load_components(TINY)
    with torch.no_grad():
        components["vocoder"].conv_pre.weight[0, 0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"vocoder.*NaN.*conv_pre\.weight"):
        save_components(tmp_path / "out", components)
    assert list(tmp_path.iterdir()) == []


def test_what_is_saved_may_be_read_by_others(components, tmp_path):
    save_components(tmp_path / "out", components)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*.safetensors")}
    (tmp_path / "plain").touch()
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}


def test_hub_to_ours_to_hub_is_bit_exact(components, tmp_path):
    save_components(tmp_path / "out", components)
    weights = [path.relative_to(TINY) for path in TINY.rglob("*.safetensors")]
    assert len(weights) == 4
    for path in weights:  # to the byte: names, order, metadata and padding too
        assert (tmp_path / "out" / path).read_bytes() == (TINY / path).read_bytes(), path


def test_a_saved_folder_says_what_the_first_one_said(components, tmp_path):
    save_components(tmp_path / "out", components)
    again = load_components(tmp_path / "out")
    for name in ("unet", "vae", "vocoder", "text_encoder"):
        assert again[name].config == components[name].config
    assert again["scheduler"] == components["scheduler"]
    assert again["text_encoder"].config.text.layer_norm_eps == 1e-12
    texts = ["a", "café ♫", ""]
    assert again["tokenizer"](texts) == components["tokenizer"](texts)
    for path in ("feature_extractor/preprocessor_config.json", "model_index.json"):
        assert (tmp_path / "out" / path).read_bytes() == (TINY / path).read_bytes()
