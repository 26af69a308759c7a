from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicldm.batch import folder as module
from musicldm.batch.folder import Folder, stem
from musicldm.batch.record import Record, locked, open_record
from musicldm.batch.rows import PromptFile, Row
from musicldm.batch.seeds import model_digests, row_seed
from musicldm.io.distributed import Shard
from musicldm.io.files import atomic, file_digest, slug

ABOUT = dict.fromkeys(("id", "prompt", "negative", "seconds", "steps", "guidance", "seed", "score", "peak", "samples", "rate"))  # fmt: skip


def row(index: int = 0, prompt: str = "a") -> Row:
    return Row(index=index, prompt=prompt)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("AC/DC rock", "ac-dc-rock"), ("..", "clip"), ("", "clip"), ("🎵", "clip"), ("a\x00b", "a-b"), ("Café--Élan ", "cafe-elan"),
     ("x" * 300, "x" * 48), ("../../etc/passwd", "etc-passwd"), ("CON", "con"), ("ﬁne", "fine"), ("a" * 47 + " b", "a" * 47)],
)  # fmt: skip
def test_a_prompt_becomes_a_safe_name(prompt, expected):
    assert slug(prompt) == expected


@given(st.text())
def test_any_name_is_safe_everywhere(prompt):
    assert re.fullmatch(r"000007-[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", stem(row(7, prompt)))


def test_numbers_keep_names_apart_even_beyond_a_million():
    names = {stem(row(k, prompt)) for k in (0, 1, 999_999, 1_000_000) for prompt in ("same", "same")}
    assert len(names) == 4
    assert stem(row(1_000_000)) == "1000000-a"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"before")

    def fail() -> None:
        with atomic(path) as file:
            file.write(b"half")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011  the one raised above
        fail()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x"]


def test_complete_means_sidecar_sizes_and_run_agree(tmp_path):
    folder = Folder(tmp_path, "run1", ".wav")
    assert folder.complete(row()) is None
    folder.save(row(), [b"best", b"second"], ABOUT)
    found = folder.complete(row())
    assert [file["name"] for file in found["files"]] == ["000000-a.wav", "000000-a.2.wav"]
    assert Folder(tmp_path, "run2", ".wav").complete(row()) is None
    (tmp_path / "000000-a.2.wav").write_bytes(b"sec")
    assert folder.complete(row()) is None


def test_an_old_sidecar_never_stands_beside_new_audio(tmp_path, monkeypatch):
    folder = Folder(tmp_path, "run", ".wav")
    folder.save(row(), [b"old"], ABOUT)
    monkeypatch.setattr(
        module.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        folder.save(row(), [b"new"], ABOUT)
    assert folder.complete(row()) is None


def test_the_lists_are_in_the_rows_order_and_made_from_what_is_there(tmp_path):
    folder = Folder(tmp_path, "run", ".wav")
    rows = [row(k) for k in range(4)]
    folder.save(rows[2], [b"2"], ABOUT)
    folder.save(rows[0], [b"0"], ABOUT)
    folder.fail(rows[1], "too loud \ud800")
    tally = folder.publish(rows)
    assert (tally.complete, tally.failed, tally.left) == (2, 1, 1)
    assert tally == folder.tally(rows)
    manifest = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in manifest] == ["000000-a.wav", "000002-a.wav"]
    [error] = map(json.loads, (tmp_path / "errors.jsonl").read_text().splitlines())
    assert (error["index"], error["reason"]) == (1, "too loud \ud800")
    folder.save(rows[1], [b"1"], ABOUT)
    assert folder.publish(rows).failed == 0
    assert not (tmp_path / "errors.jsonl").exists()


def test_many_writers_of_the_lists_leave_whole_ones(tmp_path):
    folder = Folder(tmp_path, "run", ".wav")
    rows = [row(k) for k in range(50)]
    for each in rows[1:]:
        folder.save(each, [b"x"], ABOUT)
    folder.fail(rows[0], "no")
    with ThreadPoolExecutor(8) as pool:
        tallies = list(pool.map(lambda _: folder.publish(rows), range(40)))
    assert {(tally.complete, tally.failed) for tally in tallies} == {(49, 1)}
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 49
    assert len((tmp_path / "errors.jsonl").read_text().splitlines()) == 1


def record(tmp_path, text: str = "a\nb\n", **settings: object) -> Record:
    path = tmp_path / "p.txt"
    path.write_text(text)
    return Record({"steps": 5, "seed": 0} | settings, path, PromptFile(path).survey())


def test_the_same_settings_open_the_same_run(tmp_path):
    assert open_record(tmp_path / "out", record(tmp_path)) == open_record(tmp_path / "out", record(tmp_path))


def test_other_settings_are_shown_and_refused(tmp_path):
    run = open_record(tmp_path / "out", record(tmp_path))
    Folder(tmp_path / "out", run, ".wav").save(row(), [b"x"], ABOUT)
    with pytest.raises(
        ValueError, match=r"(?s)--overwrite.*\n  seed: 0 there, 1 now\n  steps: 5 there, nothing now$"
    ):
        open_record(tmp_path / "out", record(tmp_path, seed=1, steps=None))
    with pytest.raises(
        ValueError, match=r"\n  prompts: p.txt, 4 bytes, SHA-256 \w{12} there, p.txt, 4 bytes, \w{12} now"
    ):
        open_record(tmp_path / "out", record(tmp_path, "a\nB\n"))


def test_settings_that_nothing_was_made_with_are_forgotten(tmp_path):
    first = open_record(tmp_path / "out", record(tmp_path, steps=-1))
    assert open_record(tmp_path / "out", record(tmp_path)) != first


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [("a\nb\n", "a\nb\nc\n", True), ("a\nb", "a\nb\nc", True), ("a\nb", "a\nb\r\nc", True), ("a\nb", "a\nbc\nd", False),
     ("a\nb\n", "a\n", False), ("a\nb\n", "x\nb\nc\n", False)],
)  # fmt: skip
def test_rows_may_be_added_at_the_end(tmp_path, before, after, goes_on):
    run = open_record(tmp_path / "out", record(tmp_path, before))
    Folder(tmp_path / "out", run, ".wav").save(row(), [b"x"], ABOUT)
    if goes_on:
        assert open_record(tmp_path / "out", record(tmp_path, after)) == run
        assert open_record(tmp_path / "out", record(tmp_path, after)) == run
    else:
        with pytest.raises(ValueError, match="prompts: "):
            open_record(tmp_path / "out", record(tmp_path, after))


def test_overwrite_says_what_it_replaces_and_leaves_other_peoples_files(tmp_path):
    out, said = tmp_path / "out", []
    folder = Folder(out, open_record(out, record(tmp_path)), ".wav")
    for k in range(3):
        folder.save(row(k), [b"x"], ABOUT)
    folder.publish([row(k) for k in range(3)])
    (out / "000001-notes.json").write_text('{"mine": true}')
    run = open_record(
        out, record(tmp_path, seed=1), overwrite=lambda index, digest: index == 1, say=said.append
    )
    assert run != folder.run
    assert said[0].startswith(
        "replacing what was made with other settings, or from other rows:\n  seed: 0 there, 1 now"
    )
    assert said[1:] == ["removed the clips of 2 rows"]
    kept = ["000001-a.json", "000001-a.wav", "000001-notes.json", "run.json"]
    assert sorted(path.name for path in out.iterdir() if path.name != ".batch") == kept
    said.clear()
    assert open_record(out, record(tmp_path, seed=1), overwrite=lambda *_: True, say=said.append) == run
    assert said == ["there is nothing to replace"]


def test_a_folder_of_somebody_elses_clips_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000000-a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds clips \(000000-a.wav, ...\) but no run.json"):
        open_record(tmp_path / "out", record(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="is a file"):
        open_record(tmp_path / "file", record(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a record of a batch"):
        open_record(tmp_path / "other", record(tmp_path))


def test_a_share_is_held_by_one_process(tmp_path):
    with (
        locked(tmp_path, "0-of-1"),
        pytest.raises(ValueError, match="another process is at work"),
        locked(tmp_path, "0-of-1"),
    ):
        pass
    with locked(tmp_path, "0-of-1"), locked(tmp_path, "1-of-2"):
        pass


def test_a_rows_seed_is_fixed_for_ever():
    """Regression: these numbers name clips that people keep."""
    assert [row_seed(0, 0), row_seed(0, 1), row_seed(1, 0)] == [
        3094478973635423,
        4286299930813239,
        row_seed(1, 0),
    ]
    seeds = {row_seed(run, index) for run in range(10) for index in range(1000)}
    assert len(seeds) == 10_000
    assert max(seeds) < 2**52


def test_a_models_digests_cover_what_is_read(tmp_path):
    (tmp_path / "unet").mkdir()
    for name in (
        "model_index.json",
        "unet/config.json",
        "unet/model.safetensors",
        "unet/model.bin",
        "README.md",
    ):
        (tmp_path / name).write_text(name)
    found = model_digests(tmp_path)
    assert sorted(found) == ["model_index.json", "unet/config.json", "unet/model.safetensors"]
    assert found["unet/config.json"] == file_digest(tmp_path / "unet" / "config.json")[0]


def test_shards_come_from_torchruns_environment():
    assert Shard.from_environment({}) == Shard()
    environment = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "there", "MASTER_PORT": "29500",
                   "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1"}  # fmt: skip
    shard = Shard.from_environment(environment)
    assert shard == Shard(2, 4, 1, ("there", 29500, "1"))
    assert [index for index in range(10) if shard.has(index)] == [2, 6]
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "one"}, {"RANK": "-1"}):
        with pytest.raises(ValueError, match="expected 0 <= RANK < WORLD_SIZE"):
            Shard.from_environment(wrong)


def test_each_process_gets_a_gpu_of_its_own_or_says_so():
    assert Shard(1, 2, 1).device("auto", 2) == "cuda:1"
    assert Shard(1, 2, 1).device("cuda", 2) == "cuda:1"
    assert Shard(1, 2, 1).device("cuda:0", 2) == "cuda:0"
    assert Shard(1, 2, 1).device("auto", 0) == "cpu"
    assert Shard(1, 2, 1).device("cpu", 2) == "cpu"
    with pytest.raises(ValueError, match=r"has no GPU of its own \(2 found\); start 2 with --nproc-per-node"):
        Shard(2, 3, 2).device("auto", 2)
