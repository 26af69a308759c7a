"""Without soundfile and soxr all runs but what reads a file, writes one or changes a rate; that says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY

from musicldm import audio
from musicldm.audio import MissingLibraryError
from musicldm.cli import generate, main

ROOT = Path(__file__).parents[1]
SHORT = {"audio_length_in_s": 0.16, "num_inference_steps": 1, "seed": 0}


@pytest.fixture
def bare(monkeypatch):
    """An environment in which neither can be imported."""
    for name in ("soundfile", "soxr"):
        monkeypatch.setitem(sys.modules, name, None)


def test_every_module_is_imported_and_a_clip_is_made_where_both_are_missing():
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("soundfile", "soxr", "diffusers")))
import importlib, pkgutil, musicldm, numpy
for found in pkgutil.walk_packages(musicldm.__path__, "musicldm."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
pipe = musicldm.MusicLDMPipeline.from_pretrained({str(TINY)!r})
clip = pipe("a waltz", negative_prompt="noise", audio_length_in_s=0.16, num_inference_steps=2, seed=0).audios
assert clip.shape == (1, 2560) and numpy.isfinite(clip).all()
latents = pipe.encode(clip, 16000)
assert pipe.decode(latents).shape[1] >= 2560
assert pipe.embed_audio(numpy.zeros(4800, numpy.float32), 48000).shape == (1, 512)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: audio.write(folder / "a.wav", np.zeros(4, np.float32), 16000),
        lambda folder: audio.read(folder / "a.wav"),
        lambda folder: audio.header(folder / "a.wav"),
        lambda folder: next(audio.blocks(folder / "a.wav")),
        lambda folder: audio.check_suffix(folder / "a.wav"),
    ],
    ids=["write", "read", "header", "blocks", "check_suffix"],
)
def test_a_file_says_that_soundfile_is_missing_and_what_still_works(bare, tmp_path, call):
    with pytest.raises(
        MissingLibraryError, match=r"needs soundfile.*pip install soundfile.*still makes clips"
    ):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_change_of_rate_says_that_soxr_is_missing_and_no_change_needs_none(bare, tiny):
    wave = np.zeros((1, 4800), np.float32)
    with pytest.raises(MissingLibraryError, match=r"needs soxr.*pip install soxr"):
        tiny.embed_audio(wave, 16000)
    with pytest.raises(MissingLibraryError, match="needs soxr"):
        tiny.encode(wave, 44100)
    with pytest.raises(MissingLibraryError, match="needs soxr"):
        next(audio.resample_blocks(iter([wave[0]]), 16000, 48000))
    assert audio.resample(wave, 16000, 16000) is wave


def test_candidates_that_could_not_be_ranked_are_refused_before_any_work(bare, pipe, monkeypatch):
    def work(*_):
        raise AssertionError("a network ran")

    monkeypatch.setattr(pipe.unet, "forward", work)
    monkeypatch.setattr(pipe.text_encoder.text, "forward", work)
    with pytest.raises(MissingLibraryError, match="needs soxr"):
        pipe("a", num_waveforms_per_prompt=2, **SHORT)


def test_candidates_as_latents_are_not_ranked_and_need_nothing(bare, pipe):
    made = pipe("a", num_waveforms_per_prompt=2, output_type="latent", **SHORT).audios
    assert torch.isfinite(made).all()


def test_generate_fails_before_any_work_where_it_could_not_write(bare, monkeypatch, tmp_path, capsys):
    def work(options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(generate, "load_pipeline", work)
    assert main(["generate", "a waltz", "-o", str(tmp_path / "a.wav"), "--model", str(TINY)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(
        "musicldm: error: musicldm.audio: reading or writing a sound file needs soundfile"
    )
    assert not list(tmp_path.iterdir())
