"""The LDM's stage: what it denoises, what it is told, what it writes."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from helpers import TINY, draw, relative
from training_toys import curve, write_clips

from musicldm import MusicLDMPipeline
from musicldm.checkpoint import load_network
from musicldm.io.distributed import Group
from musicldm.mel import log_mel
from musicldm.training.command import run_stage
from musicldm.training.conditions import with_nulls
from musicldm.training.config import ConfigError, parse
from musicldm.training.ldm import Config, LDMSettings, LDMStage, build, zero_outputs
from musicldm.training.log import read_log
from musicldm.training.stage import Batch, Draws
from musicldm.training.targets import ClipLatents, MixedLatents, latent_scale
from musicldm.unet import UNet, UNetConfig

EXACT = 1e-6  # the same sums in float32, in another grouping
SMALL_UNET = {
    "in_channels": 8, "out_channels": 8, "block_out_channels": [16, 32], "heads": [0, 2], "layers_per_block": 1,
    "cond_dim": 512, "norm_num_groups": 4, "norm_eps": 1e-5, "sample_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    """Networks of our own: a stage freezes what it is given."""
    return MusicLDMPipeline.from_pretrained(TINY)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def stage_of(parts, target=None, **settings) -> LDMStage:
    return LDMStage(parts, target or ClipLatents(parts.vae), LDMSettings(**settings), Group(), scratch=False)


def batch_of(b: int = 4, samples: int = 10240, lam=None) -> Batch:
    lam = torch.ones(b) if lam is None else torch.tensor(lam)
    wave = 0.1 * draw(2, b, samples)
    values = {
        "wave": wave[0], "wave_b": wave[1], "lam": lam, "caption": tuple(f"song {k}" for k in range(b)),
        "key": ("",) * b, "key_b": ("",) * b, "outcome": ("off",) * b,
    }  # fmt: skip
    return Batch(values, tuple(f"{k}.wav" for k in range(b)))


def draws_of(b: int = 4) -> Draws:
    return Draws(list(range(b)))


class Spy(torch.nn.Module):
    """In place of the U-Net: keeps what it is asked, answers with zeros."""

    def forward(self, x, timestep, cond):
        self.asked = (x, timestep, cond)
        return torch.zeros_like(x)


def spied(stage: LDMStage) -> Spy:
    stage.unet = Spy()
    return stage.unet


def settings_toml(tmp_path, clips, **tables) -> object:
    text = f'output = "{tmp_path / "run"}"\n'
    tables = {
        "parts": {"init": str(TINY), "unet": SMALL_UNET},
        "data": {"manifest": str(clips), "seconds": 0.64, "repeat_after": 1, "cache": str(clips.parent / "cache")},
        "loop": {"steps": 4, "batch_size": 8, "log_every": 1, "ema": 0.5},
        "ldm": {"lr": 3e-3, "warmup": 0},
        **tables,
    }  # fmt: skip
    for name, table in tables.items():
        text += f"[{name}]\n"
        for key, value in table.items():
            plain = json.dumps(value)
            if isinstance(value, dict):
                plain = "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }"
            text += f"{key} = {plain}\n"
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_loss_is_the_error_of_the_predicted_noise(parts):
    stage, batch = stage_of(parts, null_share=0.0), batch_of()
    spy = spied(stage)
    loss = stage.loss(batch, 0, draws_of()).value
    x, timesteps, cond = spy.asked
    draws = draws_of()
    latents = ClipLatents(parts.vae)(batch, draws).latents
    draws.uniform()
    assert torch.equal(timesteps, draws.integers(1000))
    noise = draws.normal(*latents.shape[1:])
    assert torch.equal(x, parts.scheduler.noise_schedule.add_noise(latents, noise, timesteps))
    assert loss.item() == pytest.approx(noise.square().mean().item(), rel=1e-6)
    assert torch.equal(cond, parts.clap.embed_audio(batch["wave"], 16000))


def test_latents_are_draws_from_the_posterior_at_unit_scale(parts):
    batch = batch_of(2)
    latents = ClipLatents(parts.vae)(batch, draws_of(2)).latents
    posterior = parts.vae.encode(log_mel(batch["wave"]))
    noise = draws_of(2).normal(*posterior.mean.shape[1:])
    expected = (posterior.mean + noise * (0.5 * posterior.logvar).exp()) * parts.vae.config.scaling_factor
    assert relative(latents, expected) < EXACT
    assert relative(latents, posterior.mode() * parts.vae.config.scaling_factor) > 100 * EXACT


def test_nulls_are_drawn_per_item_in_training_and_never_in_evaluation(parts):
    cond, null = draw(5000, 8), draw(8, seed=1)
    told = with_nulls(cond, null, 0.1, Draws(range(5000)))
    dropped = (told == null).all(1)
    assert torch.equal(told[~dropped], cond[~dropped])
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)  # 4.7 standard deviations
    stage = stage_of(parts, null_share=1.0)
    spy = spied(stage)
    stage.loss(batch_of(), 0, draws_of())
    expected = parts.clap.embed_text([""])
    assert expected.norm().item() == pytest.approx(1)
    assert torch.equal(spy.asked[2], expected.expand(4, -1))
    stage.evaluate(batch_of(), draws_of())
    assert not torch.isclose(spy.asked[2], expected).all(1).any()


def test_conditions_are_of_the_clip_the_caption_or_either(parts):
    batch = batch_of()
    heard, read = parts.clap.embed_audio(batch["wave"], 16000), parts.clap.embed_text(batch["caption"])
    told = {}
    for name, share in (("audio", 0.5), ("text", 0.5), ("mix", 0.0), ("mix", 1.0), ("mix", 0.5)):
        stage = stage_of(parts, condition=name, text_share=share, null_share=0.0)
        spy = spied(stage)
        stage.loss(batch, 0, draws_of())
        told[name, share] = spy.asked[2]
    assert torch.equal(told["audio", 0.5], heard)
    assert torch.equal(told["mix", 0.0], heard)
    assert torch.equal(told["text", 0.5], read)
    assert torch.equal(told["mix", 1.0], read)
    either = told["mix", 0.5]
    assert all(torch.equal(row, heard[k]) or torch.equal(row, read[k]) for k, row in enumerate(either))


def test_latent_mixup_mixes_what_is_denoised_and_lets_clap_hear_it(parts):
    batch = batch_of(3, lam=[0.3, 1.0, 0.8])
    got = MixedLatents(parts.vae, parts.vocoder)(batch, draws_of(3))
    clips, draws = ClipLatents(parts.vae), draws_of(3)
    first = clips.encode(batch["wave"], ("",) * 3, draws)
    second = clips.encode(batch["wave_b"], ("",) * 3, draws)
    lam = batch["lam"][:, None, None, None]
    assert relative(got.latents, lam * first + (1 - lam) * second) < EXACT
    assert relative(got.latents, (1 - lam) * first + lam * second) > 0.1  # the control: the shares swapped
    assert torch.equal(got.latents[1], first[1])
    assert torch.equal(got.wave[1], batch["wave"][1])
    decoded = parts.decode(got.latents[[0, 2]])[:, :10240]
    assert relative(got.wave[[0, 2]], decoded) < 1e-5  # through two networks, in another batch size
    assert relative(got.wave[[0, 2]], batch["wave"][[0, 2]]) > 0.1  # the control: what was not decoded
    assert got.keys == ("", "", "")


def test_the_authors_padding_silences_the_last_tenth(parts):
    batch = batch_of(2, lam=[0.5, 1.0])
    full = MixedLatents(parts.vae, parts.vocoder)(batch, draws_of(2)).wave
    padded = MixedLatents(parts.vae, parts.vocoder, "authors")(batch, draws_of(2)).wave
    assert torch.equal(padded[0, :9216], full[0, :9216])
    assert not padded[0, 9216:].any()
    assert full[0, 9216:].any()
    assert torch.equal(padded[1], full[1])


def test_the_latent_scale_brings_the_first_batch_to_unit_variance(parts):
    batch = batch_of(6)
    scale = latent_scale(parts.vae, [(batch, draws_of(6))], Group())
    latents = ClipLatents(parts.vae)(batch, draws_of(6)).latents / parts.vae.config.scaling_factor
    assert scale == pytest.approx(1 / latents.std().item(), rel=1e-5)
    before = parts.vae.config
    trained, scratch = (
        stage_of(parts),
        LDMStage(parts, ClipLatents(parts.vae), LDMSettings(), Group(), scratch=True),
    )
    trained.prepare([(batch, draws_of(6))])
    assert parts.vae.config == before  # a trained U-Net knows its scale
    scratch.prepare([(batch, draws_of(6))])
    assert parts.vae.config.scaling_factor == pytest.approx(scale, rel=1e-5)
    trained.restore({"scaling_factor": before.scaling_factor})
    assert parts.vae.config == before


def test_only_the_unet_is_trained(parts):
    stage = stage_of(parts)
    trained = {id(p) for turn in stage.turns for p in turn.parameters()}
    assert trained == {id(p) for p in parts.unet.parameters()}
    assert not any(
        p.requires_grad for m in (parts.vae, parts.vocoder, parts.text_encoder) for p in m.parameters()
    )
    assert not parts.text_encoder.training


def test_a_new_unet_predicts_zero_and_still_learns():
    config = parse(UNetConfig, SMALL_UNET, "test")
    unet = UNet(config)
    assert unet(draw(1, 8, 16, 16), 3, draw(1, 512)).any()
    zero_outputs(unet)
    assert not unet(draw(1, 8, 16, 16), 3, draw(1, 512)).any()
    unet(draw(1, 8, 16, 16), 3, draw(1, 512)).sum().backward()
    assert unet.conv_out.bias.grad.any()


def test_mixing_and_captions_exclude_each_other(tmp_path, clips):
    path = settings_toml(tmp_path, clips, mixup={"strategy": "bam"}, ldm={"condition": "text"})
    with pytest.raises(ConfigError, match=r"a mix has no\s+caption"):
        run_stage("ldm", path, bar=False)


@pytest.mark.parametrize("strategy", ["none", "plain", "bam", "blm"])
def test_every_row_of_the_paper_trains(tmp_path, clips, strategy):
    path = settings_toml(tmp_path, clips, mixup={"strategy": strategy, "probability": 1.0},
                         loop={"steps": 1, "batch_size": 4, "log_every": 1})  # fmt: skip
    assert run_stage("ldm", path, bar=False).step == 1
    assert 0.5 < read_log(tmp_path / "run" / "log.jsonl")[0]["denoise/loss"] < 2  # a new U-Net predicts 0


def test_it_overfits_eight_clips_and_the_pipeline_loads_what_it_wrote(tmp_path, clips):
    path = settings_toml(
        tmp_path, clips,
        loop={"steps": 60, "batch_size": 8, "ema": 0.9},
        ldm={"lr": 5e-3, "warmup": 0, "preview_steps": 2},
        evaluate={"every": 60}, preview={"every": 60, "clips": 1},
    )  # fmt: skip
    overrides = ['data.held_out="train"', "data.seconds=0.32"]
    run_stage("ldm", path, overrides=overrides, bar=False)
    run = tmp_path / "run"
    lines = read_log(run / "log.jsonl")
    first, last = lines[0]["denoise/loss"], lines[-1]["held_out/loss"]
    assert 0.9 < first < 1.1
    assert last < first / 2
    pipe = MusicLDMPipeline.from_pretrained(run)
    clip = pipe("tone number 3", num_inference_steps=2, audio_length_in_s=0.64, seed=1).audios[0]
    assert np.isfinite(clip).all()
    assert pipe.unet.config == parse(UNetConfig, SMALL_UNET, "test")
    assert pipe.vae.config.scaling_factor != load_network(TINY, "vae").config.scaling_factor
    assert (run / "previews" / "step-00000060-tone-number-0.wav").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])  # in bfloat16 the U-Net is channels-last
def test_a_stopped_run_continues_bit_for_bit_from_the_command_line(tmp_path, clips, monkeypatch, precision):
    from musicldm.cli import main

    loop = {"steps": 4, "batch_size": 8, "log_every": 1, "ema": 0.5, "precision": precision}
    path = settings_toml(tmp_path, clips, loop=loop)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert main(["train", "ldm", str(path), "--quiet", "--set", f"output={whole}"]) == 0
    asked = 0
    loss = LDMStage.loss

    def stopping(*arguments):
        nonlocal asked
        asked += 1
        if asked == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(*arguments)

    monkeypatch.setattr(LDMStage, "loss", stopping)
    assert main(["train", "ldm", str(path), "--quiet", "--set", f"output={parted}"]) == 130
    assert len(curve(parted)) == 2
    assert main(["train", "ldm", str(path), "--quiet", "--resume", "--set", f"output={parted}"]) == 0
    assert curve(parted) == curve(whole)
    for name in ("unet/diffusion_pytorch_model.safetensors", "vae/config.json"):
        assert (parted / name).read_bytes() == (whole / name).read_bytes()


def test_cached_clips_are_the_same_clips(tmp_path, clips):
    """Whole tracks, so that nothing is random about them: kept or made anew, the curve is the same."""
    loop = {"steps": 2, "batch_size": 8, "log_every": 1}
    path = settings_toml(tmp_path, clips, data={"manifest": str(clips), "seconds": 1.0}, loop=loop)
    cache = tmp_path / "a" / "cache" / "clips"
    run_stage("ldm", path, overrides=[f"output={tmp_path / 'a'}", "data.repeat_after=1"], bar=False)
    run_stage("ldm", path, overrides=[f"output={tmp_path / 'b'}"], bar=False)
    assert len(list(cache.rglob("*.safetensors"))) == 16  # eight posteriors, eight embeddings
    assert not (tmp_path / "b" / "cache" / "clips").exists()
    for a, b in zip(curve(tmp_path / "a"), curve(tmp_path / "b"), strict=True):
        assert a == pytest.approx(b, rel=1e-5)  # an item has another place in the batch that made it


def test_networks_must_come_from_somewhere(tmp_path, clips):
    config = parse(Config, {"output": "x", "data": {"manifest": str(clips)}, "loop": {"steps": 1}}, "test")
    with pytest.raises(
        ConfigError, match=r"parts\.unet: got nothing, expected a folder or hub id, preset:16k"
    ):
        build(config, Group())
