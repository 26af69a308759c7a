"""Fine-tuning by an adapter: a folder of clips, one command, a file that generation reads."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import TINY, draw
from training_toys import write_clips
from training_waves import NAMES, Waves, check_resumes_exactly, check_two_are_one, config, losses, train

from musicldm import MusicLDMPipeline, lora
from musicldm.cli import main
from musicldm.io.distributed import Group
from musicldm.lora import LoRAConfig
from musicldm.training.adapter import AdapterStage, LoRASettings
from musicldm.training.command import run_stage
from musicldm.training.config import ConfigError
from musicldm.training.ldm import LDMSettings, LDMStage
from musicldm.training.targets import ClipLatents
from musicldm.unet import UNet, UNetConfig

DATA = Waves(5120)


SMALL = UNetConfig(
    in_channels=8, out_channels=8, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1, cond_dim=512,
    norm_num_groups=4, norm_eps=1e-5, sample_size=8,
)  # fmt: skip


def small_unet() -> UNet:
    """Always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(SMALL).eval()


def attentive_unet() -> UNet:
    """With attention, and so with adapters, at every size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(replace(SMALL, block_out_channels=(16, 16), heads=(2, 2))).eval()


def make(tiny, group=None, lr=1e-2, unet=small_unet) -> AdapterStage:
    """A stage over a U-Net of its own."""
    own = {name: copy.deepcopy(tiny.components[name]) for name in ("vae", "vocoder", "text_encoder")}
    pipe = MusicLDMPipeline(**{**tiny.components, **own, "unet": unet()})
    settings = LDMSettings(warmup=0, null_share=0.0)
    ldm = LDMStage(pipe, ClipLatents(pipe.vae), settings, group or Group(), scratch=False)
    adam = partial(torch.optim.AdamW, lr=lr)
    return AdapterStage(ldm, pipe.unet, LoRASettings(rank=4), adam, base_model="small", seed=0)


def taught(stage: AdapterStage) -> None:
    """Something that an adapter can learn: what the same U-Net says with another adapter on it."""
    teacher = small_unet()
    generator = torch.Generator().manual_seed(5)
    for part in lora.attach(teacher, LoRAConfig(rank=2, alpha=2.0, targets=("qkv", "out")), generator):
        part.up.data.normal_(0, 0.5, generator=generator)
    cond, ldm = draw(1, 512) / 512**0.5, stage.ldm
    assert isinstance(ldm, LDMStage)

    def aim(latents, noise, timesteps):
        with torch.no_grad():
            return teacher(
                ldm.schedule.add_noise(latents, noise, timesteps), timesteps, cond.expand(len(noise), -1)
            )

    ldm.aim = aim
    ldm.condition = lambda target, captions, draws: cond.expand(len(captions), -1)


def test_the_adapter_alone_learns_and_its_file_brings_it_back(tiny, tmp_path):
    stage = make(tiny)
    taught(stage)
    before = {
        name: tensor.clone() for name, tensor in stage.unet.state_dict().items() if "adapters" not in name
    }
    assert len(list(stage.networks.parameters())) == 2 * len(lora.targeted(stage.unet, ("qkv", "out")))
    train(stage, config(tmp_path, 60, batch=8, every=100), DATA)
    loss = losses(tmp_path, "denoise/loss")
    assert sum(loss[-5:]) < sum(loss[:5]) / 5
    after = stage.unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    state = torch.load(next((tmp_path / "checkpoints").rglob("*.pt")), weights_only=False)
    assert all(name.startswith("adapter.") for name in state["networks"])  # and not the U-Net
    own = MusicLDMPipeline(**{**tiny.components, "unet": small_unet()})
    own.load_lora(tmp_path / "adapter.safetensors")
    x, cond = draw(1, 8, 8, 16), draw(1, 512)
    with torch.no_grad():
        assert torch.equal(own.unet(x, 5, cond), stage.unet(x, 5, cond))
        assert not torch.equal(own.unet(x, 5, cond), small_unet()(x, 5, cond))


def told_apart(stage: AdapterStage, pattern: torch.Tensor, *, told: bool) -> None:
    """To learn: the base's own answer plus `pattern` for one half of the captions, minus it for the other.

    At first the error is the pattern's mean square, and an adapter that is not told which half stays there.
    """
    base, ldm, now = attentive_unet(), stage.ldm, {}
    assert isinstance(ldm, LDMStage)
    directions = 10 * torch.nn.functional.normalize(draw(2, 512), dim=1)

    def condition(target, captions, draws):
        halves = torch.tensor([NAMES.index(caption) % 2 for caption in captions])
        now["sign"], now["cond"] = 1.0 - 2.0 * halves, directions[halves if told else 0 * halves]
        return now["cond"]

    def aim(latents, noise, timesteps):
        with torch.no_grad():
            plain = base(ldm.schedule.add_noise(latents, noise, timesteps), timesteps, now["cond"])
        return plain + now["sign"][:, None, None, None] * pattern

    ldm.condition, ldm.aim = condition, aim


@pytest.mark.parametrize("told", [True, False])
def test_an_adapter_learns_what_a_condition_means_and_leaves_the_base_alone(tiny, tmp_path, told):
    stage, pattern = make(tiny, lr=2e-2, unet=attentive_unet), 0.3 * draw(8, 1, 1).sign()
    told_apart(stage, pattern, told=told)
    train(stage, config(tmp_path, 40 if told else 20, batch=8, every=100), DATA)
    loss, chance = losses(tmp_path, "denoise/loss"), pattern.square().mean().item()
    assert loss[0] == pytest.approx(chance, rel=1e-4)  # an adapter begins as nothing
    last = sum(loss[-10:]) / 10 / chance
    assert last < 0.75 if told else last > 0.95  # 0.58 and 1.00 when this was written
    after, base = stage.unet.state_dict(), attentive_unet().state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in base.items())


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
