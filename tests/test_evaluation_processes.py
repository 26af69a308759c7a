"""Two processes give the report that one gives, to the last digit; and `clap` is the pipeline's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_toys import RATE, write_batch, write_folder, write_manifest
from helpers import TINY

from musicldm import audio
from musicldm.cli import main

HERE = Path(__file__).parent
TOYS = "evaluation_toys:tagger,evaluation_toys:with_text"
UNIT = 1e-6  # float32 embeddings, as float64


def start_two(words: list[str]) -> list[subprocess.Popen]:
    """What torchrun would start."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "PYTHONWARNINGS": "error::UserWarning",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }  # fmt: skip
    return [
        subprocess.Popen([sys.executable, "-m", "musicldm", *words], env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]  # fmt: skip


def test_two_processes_give_the_same_report_and_refuse_the_same_clips(tmp_path):
    write_batch(tmp_path / "made", 7, 0)
    write_manifest(write_folder(tmp_path / "real", 5, 100), 5)
    bad = write_folder(tmp_path / "bad", 3, 0)
    (bad / "clip1.wav").write_bytes(b"nothing")
    words = ["evaluate", str(tmp_path / "made"), "--reference", str(tmp_path / "real" / "manifest.jsonl"),
             "--train", str(write_folder(tmp_path / "train", 4, 200, seconds=2.0)), "--features", TOYS, "--skip", "no partner",
             "--window", "1", "--bootstrap", "20", "--seed", "4", "--device", "cpu"]  # fmt: skip
    good = start_two([*words, "-o", str(tmp_path / "two")])
    refused = start_two(["evaluate", str(bad), "--features", TOYS, "-o", str(tmp_path / "none"), "--quiet"])
    assert main([*words, "-o", str(tmp_path / "one"), "--quiet"]) == 0
    said = [process.communicate(timeout=600) for process in good]
    assert [process.returncode for process in good] == [0, 0], said
    assert "SIM_AA@90" in said[0][0]
    assert said[1][0] == ""  # the first one speaks for all
    one, two = (json.loads((tmp_path / name / "report.json").read_bytes()) for name in ("one", "two"))
    for found in (one, two):
        for told in (found, found["options"]):
            told.pop("command", None), told.pop("output", None)
    assert two == one
    assert len(one["results"]) > 20

    said = [process.communicate(timeout=600)[1] for process in refused]
    assert [process.returncode for process in refused] == [1, 1], said
    assert "GENERATED clip1.wav: unreadable" in said[0]
    assert "clip1.wav" not in said[1]


def test_clap_is_that_of_the_model(tmp_path, tiny):
    """Its cosines are those that the pipeline's own CLAP gives; a copy's is 1."""
    made = write_batch(tmp_path / "made", 3, 0)
    train = write_folder(tmp_path / "train", 2, 200)
    audio.write(train / "copy.wav", audio.read(made / "000001-band-1.wav")[0], RATE)
    out = tmp_path / "report"
    options = [
        "--features",
        "clap",
        "--model",
        str(TINY),
        "--train",
        str(train),
        "--bootstrap",
        "0",
        "--quiet",
    ]
    assert main(["evaluate", str(made), "-o", str(out), *options]) == 0
    found = json.loads((out / "report.json").read_bytes())
    closest = found["lists"]["closest_clap"][0]
    assert closest["value"] == pytest.approx(1, abs=UNIT)
    assert (closest["generated"]["name"], closest["train"]["name"]) == ("000001-band-1.wav", "copy.wav")
    (row,) = (
        row
        for row in found["results"]
        if row["metric"] == "text-audio similarity" and row["of"].startswith("GENERATED")
    )
    waves = [audio.read(path) for path in sorted(made.glob("*.wav"))]
    text = tiny.clap.embed_text([f"band {k}" for k in range(3)]).double()
    sound = [
        tiny.clap.embed_audio(audio.resample(wave, rate, 48000), 48000)[0].double() for wave, rate in waves
    ]
    expected = [float(a @ b) for a, b in zip(text, sound, strict=True)]
    assert row["value"] == pytest.approx(sum(expected) / 3, abs=UNIT)
    assert found["features"]["clap"]["name"] == f"clap:{TINY.name}"
