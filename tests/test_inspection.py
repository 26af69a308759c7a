"""The report on a checkpoint: what it holds, what would be ignored, what it settles, what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from damage import UNET, tensors
from helpers import TINY
from originals import flags, unpack

from musicldm.checkpoint import CheckpointError
from musicldm.cli.convert import main
from musicldm.inspection import inspect


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "tiny", copy_function=shutil.copyfile)


def network(found, name):
    return next(part for part in found.networks if part.name == name)


def test_networks_are_counted_hashed_and_explained():
    found = inspect(TINY)
    unet, clap = network(found, "unet"), network(found, "text_encoder")
    assert (unet.tensors, unet.dtypes) == (690, {"float32": 690})
    digest = hashlib.sha256((TINY / UNET).read_bytes()).hexdigest()
    assert unet.files == {"diffusion_pytorch_model.safetensors": ((TINY / UNET).stat().st_size, digest)}
    assert "text_model.embeddings.position_ids" in clap.ignored
    assert found.problems == []


def test_open_facts_stay_open_where_the_files_do_not_settle_them():
    facts = inspect(TINY, hashes=False).facts
    assert facts["heads"].startswith("8/8/8 by the config, open")
    assert facts["EMA or raw"].startswith("open")
    assert facts["text epsilon"].startswith("1e-12, the class default")
    assert facts["latent scale"].startswith("0.9137406")


def test_a_converted_checkpoint_settles_them(tmp_path):
    full = unpack("musicldm-ckpt.ckpt", tmp_path)
    assert main([str(full), str(tmp_path / "out"), *flags()]) == 0
    facts = inspect(tmp_path / "out", hashes=False).facts
    assert facts["heads"] == "2/4/4, settled: converted with 16 channels each"
    assert facts["EMA or raw"].startswith("ema, settled")
    assert facts["text epsilon"].startswith("1e-05, the authors'")


def test_the_report_is_text_that_says_whether_it_would_load(folder):
    said = str(inspect(folder))
    for fragment in (
        "690 tensors",
        "752,312 parameters",
        "sha256",
        "ignored: mean",
        "open facts:",
        "would load",
    ):
        assert fragment in said


def test_all_problems_are_reported_not_only_the_first(folder):
    tensors(UNET, lambda held: held.pop("conv_in.weight"))(folder)
    (folder / "vae" / "config.json").write_text("{")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    found = inspect(folder)
    assert len(found.problems) == 3
    said = str(inspect(folder))
    assert "missing      conv_in.weight" in said
    assert "would load" not in said


def test_a_second_file_of_weights_is_named_as_ignored(folder):
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    assert "preferred" in network(inspect(folder), "unet").ignored["diffusion_pytorch_model.bin"]


def test_heads_as_trained_are_recognised(folder):
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    config["block_out_channels"] = config["cross_attention_dim"] = [32, 32, 64, 96]
    config["attention_head_dim"] = [1, 1, 2, 3]
    path.write_text(json.dumps(config))
    assert inspect(folder, hashes=False).facts["heads"] == "1/2/3, as the authors trained (32 channels each)"


def test_what_is_no_checkpoint_is_an_error(folder):
    with pytest.raises(CheckpointError, match="is a file"):
        inspect(folder / UNET)
