from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import TINY, reference_cases

from musicldm import MusicLDMPipeline, audio
from musicldm.cli import main
from musicldm.schedulers import DPMSolver

LSB = 1 / 32767
SHORT = ["--model", str(TINY), "--seconds", "0.64", "--steps", "2", "--scheduler", "as-config"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "musicldm", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip


def test_the_command_writes_what_the_pipeline_makes(tmp_path, pipe, capsys):
    path = tmp_path / "out.wav"
    assert main(["generate", "a waltz", "-o", str(path), "--seed", "5", "--negative", "noise", *SHORT]) == 0
    wave, rate = audio.read(path)
    expected = pipe(
        "a waltz", negative_prompt="noise", seed=5, audio_length_in_s=0.64, num_inference_steps=2
    ).audios[0]
    assert rate == 16000
    assert np.abs(wave - audio.to_int16(expected) / 32768).max() <= 2 * LSB
    printed = capsys.readouterr().out
    assert re.search(r"out\.wav: 0\.64 s at 16000 Hz, seed 5\n", printed)
    assert re.search(r"real-time factor \d+\.\d\d on cpu", printed)


def test_float_samples_are_the_pipelines_own(tmp_path, pipe):
    path = tmp_path / "out.wav"
    assert main(["generate", "a", "-o", str(path), "--seed", "1", "--float32", *SHORT]) == 0
    expected = pipe("a", seed=1, audio_length_in_s=0.64, num_inference_steps=2).audios[0]
    assert np.array_equal(audio.read(path)[0], expected)


def test_a_new_seed_is_printed_and_makes_the_clip_again(tmp_path, capsys):
    first, second = tmp_path / "1.wav", tmp_path / "2.wav"
    assert main(["generate", "a", "-o", str(first), *SHORT]) == 0
    seed = re.search(r"seed (\d+)", capsys.readouterr().out)[1]
    assert main(["generate", "a", "-o", str(second), "--seed", seed, *SHORT]) == 0
    assert first.read_bytes() == second.read_bytes()


def test_the_best_candidate_is_written_and_its_seed_named(tmp_path, capsys):
    best, alone = tmp_path / "best.flac", tmp_path / "alone.flac"
    assert main(["generate", "a", "-o", str(best), "--seed", "8", "--candidates", "3", *SHORT]) == 0
    printed = capsys.readouterr().out
    assert "candidates, best first: seed" in printed
    seed = re.search(r"seed (\d+)\n", printed)[1]
    assert main(["generate", "a", "-o", str(alone), "--seed", seed, *SHORT]) == 0
    difference = soundfile.read(best)[0] - soundfile.read(alone)[0]
    assert np.abs(difference).max() < 1e-4


def test_the_default_solver_needs_few_steps(tmp_path, pipe):
    path = tmp_path / "out.wav"
    assert main(["generate", "a", "-o", str(path), "--seed", "1", "--float32", *SHORT[:4]]) == 0
    solver = DPMSolver.from_config(pipe.scheduler)
    assert solver != pipe.scheduler
    pipe = MusicLDMPipeline(**pipe.components | {"scheduler": solver})
    expected = pipe("a", seed=1, audio_length_in_s=0.64, num_inference_steps=30).audios[0]
    assert np.array_equal(audio.read(path)[0], expected)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "dpm++-singlestep", "euler", "euler-ancestral", "heun", "lms",
                                       "pndm", "unipc"])  # fmt: skip
def test_every_scheduler_has_a_name(tmp_path, scheduler):
    path = tmp_path / "out.ogg"
    arguments = ["--model", str(TINY), "--seconds", "0.64", "--steps", "4", "--scheduler", scheduler]
    assert main(["generate", "a", "-o", str(path), *arguments]) == 0
    assert len(audio.read(path)[0]) == 10240


def test_python_m_and_help_start_without_torch():
    code = "import sys, musicldm.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    shown = run("generate", "--help")
    assert shown.returncode == 0
    assert "--seed" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.mp3"], r"out\.mp3: cannot write \.mp3, expected one of \.wav, \.flac, \.ogg"),
        (["-o", "no/such/folder/out.wav"], "there is no folder no/such/folder"),
        (["-o", "out.wav", "--model", "no-such-folder"], "'no-such-folder' does not exist; expected a folder with a model_index"),
        (["-o", "out.wav", "--seconds", "0"], "audio_length_in_s: got 0.0"),
        (["-o", "out.wav", "--steps", "0"], "0"),
        (["-o", "out.wav", "--guidance", "nan"], "guidance_scale: got nan"),
        (["-o", "out.wav", "--scheduler", "dpm++", "--eta", "1"], "DPMSolver has no eta"),
        (["-o", "out.wav", "--device", "nowhere"], "nowhere"),
        (["-o", "out.wav", "--heads", "as-trained"], "32 channels per head"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_no_file(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a", *SHORT[:2], *arguments]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"musicldm: error: .*{message}.*\n", error, re.DOTALL)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_a_usage_error():
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "a", "--loudness", "11"])
    assert stopped.value.code == 2


@pytest.mark.parametrize("case", reference_cases("pipeline")[1:2])
def test_the_reference_clip_through_the_command(tmp_path, monkeypatch, case):
    """The acceptance of the whole: a file whose samples are the reference's."""
    import musicldm.stages as module

    monkeypatch.setattr(module, "draw_noise", lambda *_: case.inputs["latents"])
    path = tmp_path / "out.wav"
    inputs = case.inputs
    assert main(["generate", inputs["prompt"], "-o", str(path), "--model", str(TINY), "--float32",
                 "--seconds", str(inputs["audio_length_in_s"]), "--steps", str(inputs["num_inference_steps"]),
                 "--guidance", str(inputs["guidance_scale"]), "--scheduler", "as-config"]) == 0  # fmt: skip
    assert np.abs(audio.read(Path(path))[0] - case.outputs["audios"][0].numpy()).max() < 1e-4


def test_inspect_says_what_a_checkpoint_holds(capsys, tmp_path):
    assert main(["inspect", str(TINY), "--no-hashes"]) == 0
    assert "would load" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err


# --- long clips ---


def generated(path, *arguments):
    assert (
        main(
            [
                "generate",
                "-o",
                str(path),
                "--float32",
                "--model",
                str(TINY),
                "--steps",
                "2",
                "--seed",
                "5",
                *arguments,
            ]
        )
        == 0
    )
    return audio.read(path)[0]


def test_a_clip_longer_than_its_window_is_made_in_windows(tmp_path):
    whole = generated(tmp_path / "1.wav", "a waltz", "--seconds", "0.64", "--window", "0.64")
    windows = generated(tmp_path / "2.wav", "a waltz", "--seconds", "0.64", "--window", "0.32")
    assert len(whole) == len(windows) == 10240
    assert np.abs(whole - windows).max() > 1e-3


def test_a_timeline_and_a_loop(tmp_path):
    path = tmp_path / "song.txt"
    path.write_text("0 a waltz\n0:00.32 loud noise\n")
    short = ("--window", "0.32", "--transition", "0", "--seconds", "0.64")
    song = generated(tmp_path / "1.wav", "--timeline", str(path), *short)
    assert np.abs(song - generated(tmp_path / "2.wav", "a waltz", *short)).max() > 1e-4
    looped = generated(tmp_path / "3.wav", "--timeline", str(path), "--loop", *short)
    assert len(looped) == 10240


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got neither of a prompt .* and --timeline: give one"),
        (["a", "--timeline", "song.txt"], "got both of a prompt .* and --timeline"),
        (["--timeline", "song.txt"], r"song\.txt, line 2: got the time 'soon'"),
        (["--timeline", "none.txt"], r"none\.txt"),
        (
            ["a", "--loop", "--seconds", "0.5"],
            r"loop: got 0\.5 s, expected whole latent rows of 0\.04 s; near: 0\.48, 0\.52",
        ),
        (["a", "--window", "0"], "got 0.0, expected at least 0.04 s"),
    ],
)
def test_errors_of_long_clips_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("song.txt").write_text("0 a waltz\nsoon loud noise\n")
    assert main(["generate", *arguments, "-o", "out.wav", "--model", str(TINY), "--steps", "2"]) == 1
    assert re.fullmatch(rf"musicldm: error: .*{message}.*\n", capsys.readouterr().err, re.DOTALL)
    assert not Path("out.wav").exists()
