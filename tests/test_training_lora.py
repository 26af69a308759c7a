"""Fine-tuning by an adapter: a folder of clips, one command, a file that generation reads."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import TINY
from training_toys import write_clips
from training_waves import Waves, check_resumes_exactly, check_two_are_one, config, losses, train

from musicldm import MusicLDMPipeline, lora
from musicldm.cli import main
from musicldm.training.adapter import AdapterStage, LoRASettings
from musicldm.training.command import run_stage
from musicldm.training.config import ConfigError
from musicldm.training.distributed import Group
from musicldm.training.ldm import LDMSettings, LDMStage
from musicldm.training.targets import ClipLatents

DATA = Waves(5120)


def make(tiny, group=None, lr=1e-2) -> AdapterStage:
    """A stage over a U-Net of its own."""
    shared = {
        name: part
        for name, part in tiny.components.items()
        if name not in ("unet", "vae", "vocoder", "text_encoder")
    }
    own = {name: copy.deepcopy(tiny.components[name]) for name in ("unet", "vae", "vocoder", "text_encoder")}
    settings = LDMSettings(warmup=0, null_share=0.0)
    pipe = MusicLDMPipeline(**shared, **own)
    ldm = LDMStage(pipe, ClipLatents(pipe.vae), settings, group or Group(), scratch=False)
    adam = lambda parameters: torch.optim.AdamW(parameters, lr=lr)  # noqa: E731
    return AdapterStage(ldm, pipe.unet, LoRASettings(rank=4), adam, base_model="tiny", seed=0)


def test_the_adapter_alone_learns_and_its_file_brings_it_back(tiny, tmp_path):
    stage = make(tiny)
    before = {
        name: tensor.clone() for name, tensor in stage.unet.state_dict().items() if "adapters" not in name
    }
    assert len(list(stage.networks.parameters())) == 2 * len(lora.targeted(stage.unet, ("qkv", "out")))
    train(stage, config(tmp_path, 80, batch=8, every=100), DATA)
    loss = losses(tmp_path, "denoise/loss")
    assert sum(loss[-10:]) < 0.8 * sum(loss[:10])
    after = stage.unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    state = torch.load(next((tmp_path / "checkpoints").rglob("*.pt")), weights_only=False)
    assert all(name.startswith("adapter.") for name in state["networks"])  # and not the U-Net
    own = MusicLDMPipeline(**{**tiny.components, "unet": copy.deepcopy(tiny.unet)})
    own.load_lora(tmp_path / "adapter.safetensors")
    x, cond = torch.randn(1, 8, 8, 16), torch.randn(1, 512)
    with torch.no_grad():
        assert torch.equal(own.unet(x, 5, cond), stage.unet(x, 5, cond))
        assert not torch.equal(own.unet(x, 5, cond), tiny.unet(x, 5, cond))


def test_it_resumes_exactly(tiny, tmp_path):
    check_resumes_exactly(lambda group: make(tiny, group), tmp_path, DATA)


def test_two_processes_are_one(tiny, tmp_path):
    check_two_are_one(lambda group: make(tiny, group), tmp_path, DATA, 1e-6, lr=10.0)


@pytest.fixture
def toml(tmp_path):
    clips = write_clips(tmp_path / "clips")

    def written(lora_table: str = "rank = 2") -> object:
        path = tmp_path / "lora.toml"
        path.write_text(
            f"""output = "{tmp_path / "run"}"
device = "cpu"
[data]
manifest = "{clips}"
seconds = 0.64
[parts]
init = "{TINY}"
[loop]
steps = 2
batch_size = 4
[ldm]
lr = 1e-2
warmup = 0
[lora]
{lora_table}
"""
        )
        return path

    return written


def test_one_command_trains_and_one_generates(toml, tmp_path, capsys):
    assert main(["train", "ldm", str(toml()), "--quiet"]) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"adapter.safetensors", "log.jsonl"}
    assert not (tmp_path / "run" / "unet").exists()
    words = [
        "generate",
        "a song",
        "--model",
        str(TINY),
        "--seconds",
        "0.32",
        "--steps",
        "2",
        "--seed",
        "1",
        "--device",
        "cpu",
    ]
    adapter = tmp_path / "run" / "adapter.safetensors"
    clips = {}
    for name, extra in {"without": [], "with": ["--lora", str(adapter)], "off": ["--lora", f"{adapter}:0"],
                        "and back": ["--lora", f"{adapter}:2", "--lora", f"{adapter}:-2"]}.items():  # fmt: skip
        assert main([*words, "-o", str(tmp_path / f"{name}.wav"), *extra]) == 0
        clips[name] = (tmp_path / f"{name}.wav").read_bytes()
    assert clips["with"] != clips["without"]
    assert clips["off"] == clips["without"]
    assert len(clips["and back"]) == len(clips["without"])
    assert main([*words, "-o", str(tmp_path / "x.wav"), "--lora", str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err


def test_a_batch_with_another_adapter_is_another_run(toml, tmp_path, capsys):
    run_stage("ldm", toml(), bar=False)
    adapter = tmp_path / "run" / "adapter.safetensors"
    (tmp_path / "p.txt").write_text("a song\n")
    words = ["batch", str(tmp_path / "p.txt"), "-o", str(tmp_path / "out"), "--model", str(TINY), "--seconds", "0.32",
             "--steps", "2", "--device", "cpu", "--quiet"]  # fmt: skip
    assert main([*words, "--lora", f"{adapter}:0.5"]) == 0
    record = (tmp_path / "out" / "run.json").read_text()
    assert '"scale": 0.5' in record
    assert '"scale": 0.5' in next((tmp_path / "out").glob("0*.json")).read_text()
    assert main([*words, "--lora", f"{adapter}:0.5"]) == 0  # the same again: nothing to do
    for other in (["--lora", str(adapter)], []):
        assert main([*words, *other]) == 1
        assert "lora: [{" in capsys.readouterr().err


def test_what_the_config_may_not_ask_for(toml):
    with pytest.raises(ConfigError, match="needs a trained U-Net"):
        run_stage("ldm", toml(), overrides=["parts.unet=preset:16k", "lora.rank=4"], bar=False)
    with pytest.raises(ValueError, match="targets"):
        run_stage("ldm", toml('rank = 2\ntargets = ["ff"]'), bar=False)
