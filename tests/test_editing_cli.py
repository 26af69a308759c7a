"""`musicldm edit`, and sounding prompts of `musicldm generate`, through the command."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
import torch
from editing_clips import RATE, SAMPLES, ask, clip
from helpers import TINY

import musicldm.cli.edit
import musicldm.cli.generate
from musicldm import audio, blend
from musicldm.cli import main
from musicldm.editing import Region, audio_to_audio, extend, inpaint, reprompt, vary

STEPS = ["--model", str(TINY), "--steps", "2", "--scheduler", "as-config", "--seed", "5", "--float32"]
FLOAT = 1e-4  # a file of floats; another batch size


@pytest.fixture(autouse=True)
def quick(pipe, monkeypatch):
    """The tiny checkpoint that is loaded already."""
    monkeypatch.setattr(musicldm.cli.edit, "load_pipeline", lambda options: pipe)
    monkeypatch.setattr(musicldm.cli.generate, "load_pipeline", lambda options: pipe)


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, clip(), RATE, subtype="FLOAT")
    return path


CASES = {
    "strength": (["--strength", "0.6"], lambda *a: audio_to_audio(*a, strength=0.6)),
    "inpaint": (["--inpaint", "0.4-0.8"], lambda *a: inpaint(*a, regions=[Region(start=0.4, end=0.8)])),
    "two parts": (["--inpaint", "-0.2", "--inpaint", "1-"],
                  lambda *a: inpaint(*a, regions=[Region(end=0.2), Region(start=1.0)])),
    "band": (["--band", "4000-"], lambda *a: inpaint(*a, regions=[Region(low=4000)])),
    "band of a part": (["--band", "4000-", "--inpaint", "0.4-0.8"],
                       lambda *a: inpaint(*a, regions=[Region(start=0.4, end=0.8, low=4000)])),
    "extend": (["--extend", "0.5"], lambda *a: extend(*a, after=0.5)),
    "before": (["--before", "0.25", "--extend", "0.5"], lambda *a: extend(*a, after=0.5, before=0.25)),
    "reprompt": (["--reprompt"], lambda *a: reprompt(*a)),
    "reprompt, described": (["--reprompt", "a march"], lambda *a: reprompt(*a, source_prompt="a march")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_edit_through_the_command(tmp_path, pipe, wav, name, capsys):
    arguments, expected = CASES[name]
    out = tmp_path / "out.wav"
    assert main(["edit", str(wav), "-o", str(out), "--prompt", "a waltz", *arguments, *STEPS]) == 0
    made, rate = audio.read(out)
    wanted = expected(pipe, clip(), RATE, ask(num_inference_steps=2)).audios[0]
    assert rate == RATE
    assert made.shape == wanted.shape
    assert np.abs(made - wanted).max() < FLOAT
    assert f"out.wav: {len(made) / RATE:g} s at 16000 Hz, seed 5" in capsys.readouterr().out


def test_variations_are_numbered_and_name_their_seeds(tmp_path, pipe, wav, capsys):
    out = tmp_path / "out.wav"
    assert main(["edit", str(wav), "-o", str(out), "--prompt", "a waltz", "--vary", "2", *STEPS]) == 0
    wanted = vary(pipe, clip(), RATE, ask(num_inference_steps=2), count=2, strength=0.5)
    for k in range(2):
        assert np.abs(audio.read(tmp_path / f"out-{k + 1}.wav")[0] - wanted.audios[k]).max() < FLOAT
    assert not out.exists()
    seeds = re.findall(r"seed (\d+)", capsys.readouterr().out)
    assert seeds == [str(5 + k) for k in wanted.order[0]]


def test_without_a_prompt_the_clip_is_the_prompt(tmp_path, pipe, wav):
    out = tmp_path / "out.wav"
    assert main(["edit", str(wav), "-o", str(out), "--strength", "0.8", *STEPS]) == 0
    wanted = audio_to_audio(pipe, clip(), RATE, ask(None, num_inference_steps=2), strength=0.8).audios[0]
    assert np.abs(audio.read(out)[0] - wanted).max() < FLOAT


def test_files_of_any_rate_and_channels(tmp_path, wav):
    stereo = tmp_path / "stereo.flac"
    soundfile.write(stereo, np.stack([clip(samples=44100)] * 2, axis=1), 44100)
    out = tmp_path / "out.ogg"
    assert main(["edit", str(stereo), "-o", str(out), "--strength", "0.5", *STEPS[:-1]]) == 0
    assert len(audio.read(out)[0]) == RATE


@pytest.mark.parametrize(
    ("prompts", "parts"),
    [
        (["a waltz", "--audio-prompt", "{wav}:0.7"], [("text", 1), ("clip", 0.7)]),
        (["--audio-prompt", "{wav}"], [("clip", 1)]),
        (
            ["a waltz", "--audio-prompt", "{wav}:0.5", "--audio-prompt", "{wav}:0.25"],
            [("text", 1), ("clip", 0.75)],
        ),
    ],
)
def test_generate_takes_clips_beside_the_text(tmp_path, pipe, wav, prompts, parts):
    out = tmp_path / "out.wav"
    words = [word.format(wav=wav) for word in prompts]
    assert main(["generate", *words, "-o", str(out), "--seconds", "0.64", *STEPS]) == 0
    embeds = {"text": pipe.embed_text("a waltz"), "clip": pipe.embed_audio(clip(), RATE)}
    mixed = blend([(embeds[name], weight) for name, weight in parts])
    wanted = pipe(prompt_embeds=mixed, audio_length_in_s=0.64, num_inference_steps=2, seed=5).audios[0]
    assert np.abs(audio.read(out)[0] - wanted).max() < FLOAT


def test_a_sum_may_lead_away_from_a_clip(tmp_path, pipe, wav):
    out = tmp_path / "out.wav"
    words = ["a waltz", "--audio-prompt", f"{wav}:-0.5", "--blend", "linear"]
    assert main(["generate", *words, "-o", str(out), "--seconds", "0.64", *STEPS]) == 0
    mixed = torch.nn.functional.normalize(pipe.embed_text("a waltz") - 0.5 * pipe.embed_audio(clip(), RATE))
    wanted = pipe(prompt_embeds=mixed, audio_length_in_s=0.64, num_inference_steps=2, seed=5).audios[0]
    assert np.abs(audio.read(out)[0] - wanted).max() < FLOAT


REFUSED = {
    "nothing to do": ([], "got nothing to do, expected one of --strength"),
    "two things": (["--strength", "0.5", "--extend", "8"], "got --strength and --extend or --before, expected one"),
    "strength": (["--strength", "2"], "strength: got 2.0, expected 0"),
    "past the end": (["--inpaint", "1-9"], "expected 0 to 1.28 s, the clip's length"),
    "reversed": (["--inpaint", "1-0.5"], "is reversed, from 1 to 0.5 s"),
    "overlap": (["--band", "4000-", "--band", "5000-6000"], "overlap; give their union"),
    "everything": (["--band", "0-"], "covers the whole clip"),
    "no length": (["--extend", "0"], "got 0 s before and 0 s after"),
    "negative length": (["--extend", "-3"], "got after -3.0"),
    "no variations": (["--vary", "0"], "--vary: got 0, expected 1 or more"),
    "twice the candidates": (["--vary", "2", "--candidates", "3"], "got --candidates with --vary"),
    "prompt that is no audio": (["--strength", "0.5", "--audio-prompt", __file__], "not an audio file"),
    "weight": (["--strength", "0.5", "--audio-prompt", "{wav}:-1"], "got weight -1.0, expected a finite number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_said_and_nothing_is_written(tmp_path, wav, capsys, name):
    arguments, message = REFUSED[name]
    out = tmp_path / "out.wav"
    words = [word.format(wav=wav) for word in arguments]
    assert main(["edit", str(wav), "-o", str(out), "--prompt", "a", *words, *STEPS]) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [wav]


def test_reprompt_wants_the_other_prompt(tmp_path, wav, capsys):
    assert main(["edit", str(wav), "-o", str(tmp_path / "out.wav"), "--reprompt", *STEPS]) == 1
    assert "say the other with --prompt" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "message"), [
    (np.zeros(0), "holds no samples"), (np.full(SAMPLES, np.nan), "20480 samples are NaN or infinite"),
])  # fmt: skip
def test_files_that_hold_no_music_are_refused(tmp_path, capsys, content, message):
    path = tmp_path / "in.wav"
    soundfile.write(path, content, RATE, subtype="FLOAT")
    assert main(["edit", str(path), "-o", str(tmp_path / "o.wav"), "--strength", "0.5", *STEPS]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["4", "", "-", "a-b", "1-2-3"])
def test_a_span_that_is_none_is_a_usage_error(tmp_path, wav, text, capsys):
    with pytest.raises(SystemExit):
        main(["edit", str(wav), "-o", str(tmp_path / "o.wav"), f"--inpaint={text}", *STEPS])
    assert "expected seconds as FROM-TO, FROM- or -TO" in capsys.readouterr().err


def test_a_prompt_and_a_timeline_are_too_much(tmp_path, wav, capsys):
    words = ["--audio-prompt", str(wav), "--timeline", str(tmp_path / "t.txt")]
    assert main(["generate", *words, "-o", str(tmp_path / "o.wav"), *STEPS]) == 1
    assert "got both of a prompt (text or --audio-prompt) and --timeline" in capsys.readouterr().err
