"""`musicldm batch`, the command, over the tiny checkpoint."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY

import musicldm.cli.batch
from musicldm import MusicLDMPipeline, audio
from musicldm.batch import folder as folder_module
from musicldm.batch.seeds import plan_digest, row_seed
from musicldm.cli import main

SHORT = ["--model", str(TINY), "--seconds", "0.16", "--steps", "2", "--scheduler", "as-config"]
LSB = 1 / 32767


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Clips this short only suffer from threads, ten times over where other programs use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def loaded(pipe, monkeypatch):
    """One checkpoint for all, loaded as often as a command asks."""
    load = musicldm.cli.batch.load_pipeline
    shared = pipe.components

    def quick(options):
        monkeypatch.setattr(MusicLDMPipeline, "from_pretrained", lambda *_, **__: MusicLDMPipeline(**shared))
        return load(options)

    monkeypatch.setattr(musicldm.cli.batch, "load_pipeline", quick)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a song in C# minor\nAC/DC\na song in C# minor\n")
    return path


def batch(prompts: Path, out: Path, *options: object, short: list[str] = SHORT) -> int:
    return main(["batch", str(prompts), "-o", str(out), *short, *map(str, options)])


def sidecars(out: Path) -> list[dict]:
    return [json.loads(path.read_bytes()) for path in sorted(out.glob("0*.json"))]


def test_every_row_has_its_clip_its_sidecar_and_its_line(prompts, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert batch(prompts, out, "--batch-size", 2) == 0
    names = [path.name for path in sorted(out.iterdir()) if path.name != ".batch"]
    stems = ["000000-a-song-in-c-minor", "000001-ac-dc", "000002-a-song-in-c-minor"]
    assert names == [
        *sorted(f"{stem}{end}" for stem in stems for end in (".json", ".wav")),
        "manifest.jsonl",
        "run.json",
    ]
    assert re.search(
        r"out: 3 made, 0 complete before, 0 failed, [\d.]+ clips a minute\n", capsys.readouterr().out
    )
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [(line["index"], line["prompt"]) for line in lines] == [
        (0, "a song in C# minor"),
        (1, "AC/DC"),
        (2, "a song in C# minor"),
    ]
    waves = [audio.read(out / line["file"])[0] for line in lines]
    assert [len(wave) for wave in waves] == [2560] * 3
    assert np.abs(waves[0] - waves[2]).max() > 0.01  # the same prompt, noise of its own


def test_a_row_is_what_generate_makes_of_its_seed(prompts, tmp_path):
    batch(prompts, tmp_path / "out", "--seed", 3, "--batch-size", 3, "--negative", "noise")
    [_, sidecar, _] = sidecars(tmp_path / "out")
    assert sidecar["seed"] == row_seed(3, 1)
    alone = tmp_path / "alone.wav"
    assert (
        main(
            [
                "generate",
                "AC/DC",
                "-o",
                str(alone),
                "--seed",
                str(sidecar["seed"]),
                "--negative",
                "noise",
                *SHORT,
            ]
        )
        == 0
    )
    assert np.abs(audio.read(tmp_path / "out" / sidecar["file"])[0] - audio.read(alone)[0]).max() <= 2 * LSB


def test_the_sidecar_says_everything(prompts, tmp_path, pipe):
    batch(prompts, tmp_path / "out", "--candidates", 2, "--guidance", 1.5)
    about = sidecars(tmp_path / "out")[0]
    expected = {"index": 0, "id": None, "prompt": "a song in C# minor", "negative": None, "seconds": 0.16, "steps": 2,
                "guidance": 1.5, "eta": 0.0, "seed": row_seed(0, 0), "samples": 2560, "rate": 16000, "device": "cpu",
                "dtype": "float32", "heads": "as-config"}  # fmt: skip
    assert expected.items() <= about.items()
    assert about["scheduler"] == {
        "table_sha256": plan_digest(pipe.scheduler.plan(2)),
        "config": pipe.scheduler.config,
    }
    assert about["model"]["name"] == str(TINY)
    assert re.fullmatch("[0-9a-f]{64}", about["model"]["sha256"])
    assert {"musicldm", "torch", "transformers", "python"} <= set(about["versions"])
    assert sorted(candidate["seed"] - about["seed"] for candidate in about["candidates"]) == [0, 1]
    scores = [candidate["score"] for candidate in about["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert about["score"] == scores[0]
    assert about["wall_s"] > 0
    [file] = about["files"]
    assert file["bytes"] == (tmp_path / "out" / file["name"]).stat().st_size


def test_candidates_are_ranked_inside_their_row_and_all_kept_on_request(prompts, tmp_path, pipe):
    batch(prompts, tmp_path / "out", "--candidates", 3, "--keep-all", "--batch-size", 2, "--float32")
    for about in sidecars(tmp_path / "out"):
        assert len(about["files"]) == 3
        for file, candidate in zip(about["files"], about["candidates"], strict=True):
            alone = pipe(
                about["prompt"], seed=candidate["seed"], audio_length_in_s=0.16, num_inference_steps=2
            ).audios[0]
            assert np.abs(audio.read(tmp_path / "out" / file["name"])[0] - alone).max() < 1e-4


@pytest.mark.parametrize("kind", ["flac", "ogg"])
def test_formats(prompts, tmp_path, kind):
    assert batch(prompts, tmp_path / "out", "--format", kind) == 0
    assert len(audio.read(tmp_path / "out" / f"000001-ac-dc.{kind}")[0]) == 2560


def test_rows_may_differ_in_everything(tmp_path, pipe):
    path = tmp_path / "p.csv"
    path.write_text("prompt,negative,seconds,steps,guidance,seed,id\na,b,0.2,3,4,5,x/y\na,,,,,,\n")
    assert batch(path, tmp_path / "out", "--batch-size", 4, "--float32") == 0
    first, second = sidecars(tmp_path / "out")
    expected = pipe(
        "a", negative_prompt="b", audio_length_in_s=0.2, num_inference_steps=3, guidance_scale=4.0, seed=5
    )
    assert np.abs(audio.read(tmp_path / "out" / first["file"])[0] - expected.audios[0]).max() < 1e-4
    assert (first["id"], first["seed"], second["id"], second["seed"]) == ("x/y", 5, None, row_seed(0, 1))


def test_a_rerun_makes_what_is_missing_and_says_so(prompts, tmp_path, capsys):
    out = tmp_path / "out"
    batch(prompts, out)
    (out / "000001-ac-dc.wav").unlink()
    with prompts.open("a") as file:
        file.write("a waltz\n")
    capsys.readouterr()
    assert batch(prompts, out, "--batch-size", 8) == 0
    assert "2 made, 2 complete before, 0 failed" in capsys.readouterr().out
    assert len(list(out.glob("*.wav"))) == 4


def test_other_settings_in_the_folder_are_an_error_that_shows_them(prompts, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    batch(prompts, out)
    before = {path.name: path.read_bytes() for path in out.glob("0*")}
    capsys.readouterr()
    assert batch(prompts, out, "--guidance", 3, "--seed", 1) == 1
    error = capsys.readouterr().err
    assert "made with other settings; use another folder, the old settings, or --overwrite" in error
    assert error.endswith("  guidance: 2.0 there, 3.0 now\n  seed: 0 there, 1 now\n")
    assert {path.name: path.read_bytes() for path in out.glob("0*")} == before
    assert batch(prompts, out, "--guidance", 3, "--seed", 1, "--overwrite") == 0
    assert "replacing what was made with other settings" in caplog.text
    assert "removed the clips of 3 rows" in caplog.text
    assert {about["seed"] for about in sidecars(out)} == {row_seed(1, k) for k in range(3)}


def test_a_row_that_failed_can_be_mended_and_the_others_stay(tmp_path, capsys, caplog):
    path, out = tmp_path / "p.jsonl", tmp_path / "out"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "steps": 0}\n{"prompt": "c"}\n')
    assert batch(path, out) == 1
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "steps": 1}\n{"prompt": "changed"}\n')
    assert batch(path, out) == 1
    assert "prompts: p.jsonl" in capsys.readouterr().err
    assert batch(path, out, "--overwrite") == 0
    assert "removed the clips of 1 row" in caplog.text
    assert "2 made, 1 complete before, 0 failed" in capsys.readouterr().out
    assert [path.name for path in sorted(out.glob("*.wav"))] == [
        "000000-a.wav",
        "000001-b.wav",
        "000002-changed.wav",
    ]
    assert not (out / "errors.jsonl").exists()


def test_rows_that_fail_are_noted_and_the_others_made(tmp_path, capsys, caplog):
    path = tmp_path / "p.jsonl"
    rows = [
        '{"prompt": "a"}',
        '{"prompt": "b", "seed": -1}',
        "{",
        '{"prompt": "c", "seconds": 1e-9}',
        '{"prompt": "d\\ud800"}',
        '{"prompt": "e"}',
    ]
    path.write_text("\n".join(rows))
    assert batch(path, tmp_path / "out", "--batch-size", 8) == 1
    assert "2 made, 0 complete before, 4 failed" in capsys.readouterr().out
    errors = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [error["index"] for error in errors] == [1, 2, 3, 4]
    reasons = [error["reason"] for error in errors]
    assert reasons[0] == "ValueError: seed: got -1, expected 0 to 2^63 - 1"
    assert "not a JSON object" in reasons[1]
    assert "audio_length_in_s: got 1e-09" in reasons[2]
    assert "row 1 failed" in caplog.text
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in manifest] == ["a", "e"]


def test_strange_prompts_have_clips_and_safe_names(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(
        "AC/DC\n..\n🎵\n\x00\n../../x\n".encode() + b"x" * 300 + b"\n" + b"long " * 20_000 + b"\n"
    )
    assert batch(path, tmp_path / "out", "--batch-size", 4) == 0
    names = [path.name for path in sorted((tmp_path / "out").glob("*.wav"))]
    assert names == ["000000-ac-dc.wav", "000001-clip.wav", "000002-clip.wav", "000003-clip.wav", "000004-x.wav",
                     f"000005-{'x' * 48}.wav", "000006-long-long-long-long-long-long-long-long-long-lon.wav"]  # fmt: skip
    assert [about["prompt"] for about in sidecars(tmp_path / "out")][3] == "\x00"


def test_ctrl_c_finishes_the_batch_and_says_how_to_go_on(prompts, tmp_path, monkeypatch, capsys):
    call = MusicLDMPipeline.__call__

    def interrupted(self, *arguments, **named):
        os.kill(os.getpid(), signal.SIGINT)
        return call(self, *arguments, **named)

    monkeypatch.setattr(MusicLDMPipeline, "__call__", interrupted)
    assert batch(prompts, tmp_path / "out") == 130
    shown = capsys.readouterr().out
    assert "out: stopped; 1 of 3 rows are done (1 made, 0 complete before, 0 failed" in shown
    assert "The same command goes on from there" in shown
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 1
    monkeypatch.undo()
    assert batch(prompts, tmp_path / "out") == 0


def test_a_disk_that_gives_up_ends_the_run_with_what_to_do(prompts, tmp_path, monkeypatch, capsys):
    save, calls = folder_module.Folder.save, []

    def full(self, row, *arguments):
        calls.append(row)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "000001")
        save(self, row, *arguments)

    monkeypatch.setattr(folder_module.Folder, "save", full)
    assert batch(prompts, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "No space left on device: '000001'; stopped after 1 of 3 rows. What is complete is safe" in error
    assert "run the same command again" in error
    monkeypatch.undo()
    assert batch(prompts, tmp_path / "out") == 0
    assert "2 made, 1 complete before" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_an_error_before_any_work(prompts, tmp_path, monkeypatch, capsys):
    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    monkeypatch.setattr(
        musicldm.cli.batch, "load_pipeline", lambda options: pytest.fail("loaded a model for nothing")
    )
    assert batch(prompts, tmp_path / "out") == 1
    assert re.search(r"musicldm: error: .*Permission denied: '.*out", capsys.readouterr().err)


def test_quiet_says_nothing(prompts, tmp_path, capsys):
    assert batch(prompts, tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "0"], "--batch-size: got 0, expected 1 or more"),
        (["--candidates", "0"], "--candidates: got 0"),
        (["--steps", "0"], "--steps: got 0"),
        (["--steps", "2000"], "got 2000 inference steps"),
        (["--guidance", "-1"], "guidance_scale: got -1"),
        (["--seconds", "0"], "audio_length_in_s: got 0"),
        (["--eta", "1", "--scheduler", "dpm++"], "DPMSolver has no eta"),
        (["--format", "flac", "--float32"], "32-bit float samples go into .wav files"),
        (["--columns", "prompt"], "expected OURS=THEIRS"),
        (["--model", "nowhere"], "'nowhere' does not exist"),
        (["--encoding", "klingon"], "no such encoding"),
    ],
)
def test_what_no_row_could_be_made_with_is_refused_before_any_work(
    prompts, tmp_path, capsys, options, message
):
    assert batch(prompts, tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/0*"))
    assert batch(prompts, tmp_path / "out", "--quiet") == 0  # and no such try spoils the folder


def test_an_output_that_is_a_file_is_refused(prompts, tmp_path, capsys):
    assert batch(prompts, prompts) == 1
    assert "is a file, expected a folder" in capsys.readouterr().err
    assert prompts.read_text().startswith("a song")


def test_the_bar_shows_clips_a_minute_and_time_left(prompts, tmp_path, monkeypatch, capsys):
    call = MusicLDMPipeline.__call__

    def slow(self, *arguments, **named):
        time.sleep(0.2)  # longer than the bar waits before it is drawn again
        return call(self, *arguments, **named)

    monkeypatch.setattr(MusicLDMPipeline, "__call__", slow)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert batch(prompts, tmp_path / "out") == 0
    assert re.search(r"\| 2/3, [\d.]+ clips/min, \d\d:\d\d left", capsys.readouterr().err)


def test_help_of_batch_and_report_needs_no_torch():
    code = "import sys, musicldm.cli\ntry: musicldm.cli.main(['batch', '--help'])\nexcept SystemExit: pass\nassert not {'torch', 'numpy', 'tqdm'} & set(sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--keep-all" in shown.stdout
