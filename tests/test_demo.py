"""The model that ships: its files, that it needs no network, and that its music is what the prompt says."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from musicldm import MusicLDMPipeline, audio
from musicldm.checkpoint import CheckpointError
from musicldm.cli import main
from musicldm.hub import DEMO, PUBLISHED, resolve, usual_guidance
from musicldm.mel import log_mel
from musicldm.schedulers import DPMSolver

FOLDER = Path(__file__).parents[1] / "musicldm" / DEMO
MB = 1e6
SEEDS = (0, 1)
STEPS = 12


@cache
def demo() -> MusicLDMPipeline:
    return MusicLDMPipeline.from_pretrained(DEMO)


@cache
def clips(prompt: str) -> np.ndarray:
    """(2, s) at 16 kHz, one for each seed, as long as the clips that it was trained on."""
    return demo()([prompt] * len(SEEDS), seed=list(SEEDS), num_inference_steps=STEPS).audios


def onsets(waves: np.ndarray) -> np.ndarray:
    """(b, s) -> (b,): how much the log-mel bands rise from frame to frame, in nats."""
    mel = log_mel(torch.from_numpy(waves))[:, 0]
    return (mel[:, 1:] - mel[:, :-1]).clamp(min=0).mean(dim=(1, 2)).numpy()


def brightness(waves: np.ndarray) -> np.ndarray:
    """(b, s) -> (b,): the spectrum's centre of mass in Hz."""
    power = np.abs(np.fft.rfft(waves)) ** 2
    return power @ np.fft.rfftfreq(waves.shape[1], 1 / 16000) / power.sum(axis=1)


# --- what ships ---


def test_it_is_small_half_precision_and_described():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 24 * MB
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 4
    for path in weights:
        with safe_open(path, "pt") as file:
            dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        assert dtypes <= {"F16", "I64"}, path
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "license: " in card
    assert "`musicldm train`" in card
    assert "`ldm-demo-v`" in card
    assert json.loads((FOLDER / "model_index.json").read_text())["_class_name"] == "MusicLDMPipeline"


def test_the_name_means_the_model_that_ships_and_a_path_a_folder(tmp_path, monkeypatch):
    (tmp_path / DEMO).mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(DEMO).samefile(FOLDER)
    assert resolve("./demo").samefile(tmp_path / DEMO)
    assert resolve(Path(DEMO)).samefile(tmp_path / DEMO)
    with pytest.raises(CheckpointError, match="or 'demo'"):
        resolve("dmeo")


def test_it_works_without_a_network_from_any_folder(tmp_path):
    code = """
import socket, sys
def refuse(*_): raise AssertionError("a network")
socket.socket.connect = refuse
from musicldm.cli import main
sys.exit(main(["generate", "slow piano ballad", "-o", "clip.wav", "--seconds", "2.56", "--steps", "3", "--seed", "1"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(FOLDER.parents[1]), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(audio.read(tmp_path / "clip.wav")[0]) == 40960
    assert f"--model {PUBLISHED}" in done.stderr


def test_few_steps_are_its_default_way():
    assert isinstance(demo().scheduler, DPMSolver)


def test_a_command_without_guidance_takes_what_the_demo_model_was_measured_with(tmp_path):
    def made(name, *options):
        path = tmp_path / name
        words = [
            "generate",
            "techno",
            "-o",
            path,
            "--seconds",
            1.28,
            "--steps",
            2,
            "--seed",
            1,
            "--float32",
            *options,
        ]
        assert main([str(word) for word in words]) == 0
        return audio.read(path)[0]

    default = made("default.wav")
    assert usual_guidance(DEMO) == 4.0
    np.testing.assert_array_equal(default, made("four.wav", "--guidance", 4))
    assert np.abs(default - made("two.wav", "--guidance", 2)).max() > 1e-3
    assert usual_guidance(PUBLISHED) == usual_guidance(FOLDER) == 2.0


# --- that it means something: another prompt, another music ---


def test_it_is_music_and_not_noise():
    waves = clips("melodic techno with a fast beat and synths")
    assert np.isfinite(waves).all()
    level = np.sqrt((waves**2).mean(axis=1))
    assert ((level > 0.02) & (level < 0.5)).all()
    noise = np.random.default_rng(0).normal(size=waves.shape).astype(np.float32) * 0.1
    assert brightness(waves).max() < 0.5 * brightness(noise).min()


def test_drums_are_heard_where_they_are_asked_for():
    beat = onsets(clips("fast drum and bass, loud drums, 170 bpm"))
    calm = onsets(clips("ambient soundscape with soft pads, no drums"))
    assert np.median(beat) > 1.5 * np.median(calm)


def test_clips_are_nearer_to_their_prompt_than_to_others():
    prompts = [
        "fast drum and bass, loud drums, 170 bpm",
        "ambient soundscape with soft pads, no drums",
        "slow solo piano ballad",
        "chiptune video game music, square lead",
    ]
    text = demo().clap.embed_text(prompts)
    heard = torch.stack([demo().clap.embed_audio(clips(prompt), 16000) for prompt in prompts])
    scores = torch.einsum("pbd,qd->pqb", heard, text).mean(dim=2)
    wins = scores.diagonal()[:, None] > scores
    assert wins.sum() >= 0.8 * (wins.numel() - len(prompts))


def test_what_goes_in_comes_out_of_vae_and_vocoder():
    wave = clips("slow solo piano ballad")[:1]
    mel = log_mel(torch.from_numpy(wave))
    pipe = demo()
    with torch.no_grad():
        again = pipe.decode(pipe.encode(wave, 16000))[:, : wave.shape[1]]
    distance = (log_mel(again) - mel).abs().mean()
    other = log_mel(torch.from_numpy(clips("fast drum and bass, loud drums, 170 bpm")[:1]))
    assert distance < 0.5 * (other - mel).abs().mean()
