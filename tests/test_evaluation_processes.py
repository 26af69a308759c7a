"""Two processes give the report that one gives, to the last digit; and `clap` is the pipeline's own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_toys import RATE, write_batch, write_folder, write_manifest
from helpers import PATIENCE, TINY

from musicldm import audio
from musicldm.cli import main

HERE = Path(__file__).parent
TOYS = "evaluation_toys:tagger,evaluation_toys:with_text"
UNIT = 1e-6  # float32 embeddings, as float64


TWICE = """
import json, os, sys
from musicldm.cli import main
for words, port in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = str(port)
    print("status", main(words))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def in_two_processes(*commands: list[str]) -> list[tuple[str, str]]:
    """What torchrun would start, for one command after the other: what each process wrote, out and err."""
    environment = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }  # fmt: skip
    work = json.dumps([(words, free_port()) for words in commands])
    processes = [
        subprocess.Popen([sys.executable, "-c", TWICE, work], env=environment | {"RANK": rank, "LOCAL_RANK": rank},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]  # fmt: skip
    return [process.communicate(timeout=PATIENCE) for process in processes]


def test_two_processes_give_the_same_report_and_refuse_the_same_clips(tmp_path):
    write_batch(tmp_path / "made", 7, 0)
    write_manifest(write_folder(tmp_path / "real", 5, 100), 5)
    bad = write_folder(tmp_path / "bad", 3, 0)
    (bad / "clip1.wav").write_bytes(b"nothing")
    words = ["evaluate", str(tmp_path / "made"), "--reference", str(tmp_path / "real" / "manifest.jsonl"),
             "--train", str(write_folder(tmp_path / "train", 4, 200, seconds=2.0)), "--features", TOYS, "--skip", "no partner",
             "--window", "1", "--bootstrap", "20", "--seed", "4", "--device", "cpu"]  # fmt: skip
    broken = [
        "evaluate",
        str(tmp_path / "made"),
        "--features",
        "evaluation_toys:broken",
        "-o",
        str(tmp_path / "broken"),
    ]
    first, second = in_two_processes(
        [*words, "-o", str(tmp_path / "two")],
        ["evaluate", str(bad), "--features", TOYS, "-o", str(tmp_path / "bad-report"), "--quiet"],
        [*broken, "--quiet"],
    )
    for out, err in (first, second):
        assert re.findall("status [0-9]+", out) == ["status 0", "status 1", "status 1"], err
    assert "SIM_AA@90" in first[0]
    assert "SIM_AA@90" not in second[0]  # the first one speaks for all
    for text in ("GENERATED clip1.wav: unreadable", "broken: could not be computed of 7 clips"):
        assert text in first[1]
        assert text not in second[1]

    assert main([*words, "-o", str(tmp_path / "one"), "--quiet"]) == 0
    one, two = (json.loads((tmp_path / name / "report.json").read_bytes()) for name in ("one", "two"))
    for found in (one, two):
        for told in (found, found["options"]):
            told.pop("command", None), told.pop("output", None)
    assert two["results"] == one["results"]
    assert two == one
    assert len(one["results"]) > 20


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
