"""A batch that is killed, split, resumed: the folder ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE, TINY

from musicldm import audio

TOLERANCE = 1e-4  # of full scale, after 16-bit rounding: three steps of it
ROWS = 12


class Forks:
    """The server of fork_server.py, from this side."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.txt"
        root = Path(__file__).parents[1]
        paths = os.pathsep.join([str(root), str(root / "tests")])
        environment = os.environ | {"PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(self.log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def run(self, *requests: dict) -> list[int]:
        self.process.stdin.write(json.dumps({"runs": requests}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def batch(self, *arguments: object, processes: int = 1, **request: object) -> list[int]:
        words = ["batch", *map(str, arguments), "--model", str(TINY)]
        ranks = [
            {"RANK": str(k), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(k)} for k in range(processes)
        ]
        return self.run(*({"arguments": words, "environment": rank, **request} for rank in ranks))


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.process.stdin.close()
    server.process.stdout.close()
    server.process.wait(60)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Rows of mixed settings, one of which cannot be made."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [{"prompt": f"a song in C# minor, number {k % 5}"} for k in range(ROWS)]
    rows[3] |= {"steps": 2, "seed": 5}
    rows[7] |= {"seconds": 0.2, "negative": "noise"}
    rows[11] |= {"steps": 0}
    rows[2] |= {"id": "AC/DC"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [path, "--seconds", "0.16", "--steps", "1", "--scheduler", "as-config", "--seed", "9", "--quiet"]


@pytest.fixture(scope="module")
def undisturbed(forks, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert forks.batch(*options, "-o", folder) == [1]
    assert len(list(folder.glob("*.wav"))) == ROWS - 1
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".batch")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(folder: Path, expected: Path) -> None:
    assert names(folder) == names(expected)
    assert lines(folder / "errors.jsonl") == lines(expected / "errors.jsonl")
    manifest = lines(folder / "manifest.jsonl")
    assert [row["index"] for row in manifest] == [k for k in range(ROWS) if k != 11]
    for row, other in zip(manifest, lines(expected / "manifest.jsonl"), strict=True):
        for name in ("id", "prompt", "negative", "seconds", "steps", "guidance", "seed", "file"):
            assert row[name] == other[name]
        (wave, rate), (reference, _) = audio.read(folder / row["file"]), audio.read(expected / row["file"])
        assert rate == 16000
        assert len(wave) == row["samples"]
        assert np.abs(wave - reference).max() < TOLERANCE


def test_twenty_kills_at_random_moments_lose_nothing(forks, options, undisturbed, tmp_path):
    """Each starts where the one before was killed: four in a row reach the end of a run about once."""
    start = time.monotonic()
    assert forks.batch(*options, "-o", tmp_path / "timed") == [1]
    whole = time.monotonic() - start
    moments, killed, complete = random.Random(6), 0, []
    while killed < 20:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        for _ in range(4):
            [status] = forks.batch(*options, "-o", folder, kill_after=moments.uniform(0, 0.5 * whole))
            killed += status == -9
            complete.append(len(list(folder.glob("*.json"))))
        assert forks.batch(*options, "-o", folder) == [1]
        assert_same(folder, undisturbed)
    assert 0 < sum(complete) / len(complete) < ROWS


def test_killed_at_every_turn_of_the_disk_nothing_is_lost(forks, options, undisturbed, tmp_path):
    """Before and after an fsync, a rename, a link, a removal: one process dies at each, the next goes on."""
    folder, turn = tmp_path / "out", 0
    for turn in [*range(24), 40, 100]:
        [status] = forks.batch(*options, "-o", folder, kill_at=turn)
        if status != -9:
            break
        for sidecar in folder.glob("*-*.json"):  # what says that it is complete is
            about = json.loads(sidecar.read_bytes())
            assert len(audio.read(folder / about["file"])[0]) == about["samples"]
    assert forks.batch(*options, "-o", folder) == [1]
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_does_not_matter(forks, options, undisturbed, tmp_path, processes):
    statuses = forks.batch(*options, "-o", tmp_path / "out", processes=processes)
    assert max(statuses) == 1  # a row cannot be made
    assert_same(tmp_path / "out", undisturbed)


def test_the_batch_size_does_not_matter(forks, options, undisturbed, tmp_path):
    assert forks.batch(*options, "-o", tmp_path / "out", "--batch-size", 8) == [1]
    sizes = {json.loads(path.read_bytes())["batch_rows"] for path in (tmp_path / "out").glob("*-*.json")}
    assert 8 in sizes
    assert_same(tmp_path / "out", undisturbed)


def test_a_dead_processs_rows_are_made_by_a_rerun_of_any_number(forks, options, undisturbed, tmp_path):
    folder = tmp_path / "out"
    words = ["batch", *map(str, options), "-o", str(folder), "--model", str(TINY)]
    ranks = [{"RANK": str(k), "WORLD_SIZE": "3"} for k in range(3)]
    dying = [{"arguments": words, "environment": rank} for rank in ranks]
    dying[1]["kill_at"] = 20
    assert forks.run(*dying)[1] == -9
    left = ROWS - 1 - len(list(folder.glob("*.wav")))
    assert 0 < left <= ROWS / 3
    assert not (folder / "manifest.jsonl").exists()
    forks.batch(*options, "-o", folder, processes=2)
    assert_same(folder, undisturbed)


def test_many_processes_replace_other_settings_together(forks, options, undisturbed, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(undisturbed, folder)
    other = [*options, "--guidance", 1, "-o", folder]
    assert forks.batch(*other, processes=2) == [1, 1]
    assert "  guidance: 2.0 there, 1.0 now" in forks.log.read_text()
    forks.batch(*other, "--overwrite", processes=2)
    assert {json.loads(path.read_bytes())["guidance"] for path in folder.glob("*-*.json")} == {1.0}
    forks.batch(*options, "-o", folder, "--overwrite", processes=3)
    assert_same(folder, undisturbed)


def test_a_second_start_beside_a_running_one_is_refused(forks, options, tmp_path):
    words = ["batch", *map(str, options), "-o", str(tmp_path / "out"), "--model", str(TINY)]
    assert sorted(forks.run({"arguments": words}, {"arguments": words})) == [
        1,
        1,
    ]  # refused; a row that fails
    assert "another process is at work in" in forks.log.read_text()
    assert len(list((tmp_path / "out").glob("*.wav"))) == ROWS - 1


def test_torchrun_shares_the_rows_and_answers_for_all(options, undisturbed, tmp_path):
    """The row that fails belongs to a process that is done first: torchrun must not end the other for it."""
    shown = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "musicldm", "batch",
         *map(str, options[:-1]), "-o", str(tmp_path / "out"), "--model", str(TINY)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert shown.returncode == 1
    assert shown.stdout.count("other processes are at work") == 1
    assert "complete 11, failed 1; see errors.jsonl" in shown.stdout
    assert_same(tmp_path / "out", undisturbed)


def test_files_left_by_nobody_do_no_harm(forks, options, undisturbed, tmp_path):
    """Audio without a sidecar, a sidecar without audio, a sidecar cut short, leftovers of a write."""
    folder = tmp_path / "out"
    shutil.copytree(undisturbed, folder)
    stems = [Path(name).stem for name in names(folder) if name.endswith(".wav")]
    (folder / f"{stems[0]}.json").unlink()
    (folder / f"{stems[1]}.wav").unlink()
    (folder / f"{stems[2]}.json").write_text("{")
    (folder / f"{stems[4]}.wav").write_bytes(b"RIFF")
    (folder / f"{stems[4]}.wav.partial").write_bytes(b"RIFF")
    (folder / "manifest.jsonl").write_text("{")
    assert forks.batch(*options, "-o", folder) == [1]
    assert_same(folder, undisturbed)
