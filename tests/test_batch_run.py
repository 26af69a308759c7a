"""The loop, over a maker that makes nothing but bytes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time

import pytest

from musicldm.batch import run as module
from musicldm.batch.folder import Folder
from musicldm.batch.rows import BadRow, Row
from musicldm.batch.run import Clips, Progress, batches, make_all
from musicldm.io.stop import Stop

ABOUT = dict.fromkeys(("id", "prompt", "negative", "seconds", "steps", "guidance", "seed", "score", "peak", "samples", "rate"))  # fmt: skip


class Stub:
    """Makes each prompt's own bytes; notes its batches; fails with rows that ask for no steps."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def kind(self, row: Row) -> object:
        return row.seconds

    def make(self, rows: list[Row]) -> list[Clips]:
        self.batches.append([row.index for row in rows])
        if any(row.steps == 0 for row in rows):
            raise RuntimeError("no steps")
        return [Clips([row.prompt.encode()], ABOUT) for row in rows]


def some(count: int) -> list[Row]:
    return [Row(index=k, prompt=f"p{k}") for k in range(count)]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path, "run", ".wav")


def test_rows_of_a_kind_are_made_together_and_none_waits_for_ever(monkeypatch):
    monkeypatch.setattr(module, "LOOK_AHEAD", 2)
    kinds = "abaabcaaaa"
    found = list(batches(some(10), lambda row: kinds[row.index], 3))
    assert [[row.index for row in batch] for batch in found] == [[0, 2, 3], [6, 7, 8], [1, 4], [5], [9]]


def test_look_ahead_is_bounded():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Row(index=taken, prompt="")

    first = next(batches(endless(), lambda row: row.index, 4))  # no two of a kind
    assert [row.index for row in first] == [1]
    assert taken == 4 * module.LOOK_AHEAD


def test_what_is_complete_is_not_made_again_and_the_maker_not_asked_for(folder):
    stub = Stub()
    make_all(some(5), lambda: stub, folder, size=2)
    assert stub.batches == [[0, 1], [2, 3], [4]]
    (folder.path / "000003-p3.json").unlink()
    again = Stub()
    progress = make_all(some(5), lambda: again, folder, size=2)
    assert again.batches == [[3]]
    assert progress == Progress(done=5, made=1, failed=0)
    assert make_all(some(5), lambda: pytest.fail("loaded a model for nothing"), folder, size=2).done == 5


def test_a_bad_row_does_not_take_its_batch_along(folder):
    rows = [*some(4), BadRow(index=4, prompt="?", reason="has no prompt")]
    rows[1] = Row(index=1, prompt="p1", steps=0)
    stub = Stub()
    progress = make_all(rows, lambda: stub, folder, size=4)
    assert stub.batches == [[0, 1, 2, 3], [0], [1], [2], [3]]
    assert progress == Progress(done=5, made=3, failed=2)
    errors = folder.publish(rows)
    assert (errors.complete, errors.failed, errors.left) == (3, 2, 0)
    text = (folder.path / "errors.jsonl").read_text()
    assert "RuntimeError: no steps" in text
    assert "has no prompt" in text


def test_a_full_disk_stops_the_run_and_loses_nothing(folder, monkeypatch):
    real, count = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make_all(some(10), Stub, folder, size=2)
    monkeypatch.undo()
    assert not list(folder.path.glob("*.partial"))
    tally = folder.tally(some(10))
    assert (tally.complete, tally.failed, tally.left) == (
        3,
        0,
        7,
    )  # 2 x 2, the folder, 2, and audio without a sidecar
    assert make_all(some(10), Stub, folder, size=2).made == 7
    assert folder.tally(some(10)).complete == 10


def test_a_small_disk_that_is_really_full(tmp_path):
    """A file system of 64 kB, where the system lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {disk} 2>/dev/null"):
        pytest.skip("cannot mount a small file system here: needs root")
    try:
        folder = Folder(disk, "run", ".wav")
        rows = [Row(index=k, prompt=f"{k}" * 6000) for k in range(9)]
        with pytest.raises(OSError, match="No space left"):
            make_all(rows, Stub, folder, size=2)
        made = folder.tally(rows).complete
        assert 2 <= made < 9
        assert not list(disk.glob("*.partial"))
        os.system(f"mount -o remount,size=4m {disk}")
        assert make_all(rows, Stub, folder, size=2).made == 9 - made
        os.system(f"mount -o remount,ro {disk}")
        (row,) = [Row(index=10, prompt="new")]
        with pytest.raises(OSError, match="Read-only file system"):
            make_all([row], Stub, folder, size=2)
    finally:
        os.system(f"umount {disk}")


def test_a_vanished_folder_stops_the_run(folder):
    class Vandal(Stub):
        def make(self, rows: list[Row]) -> list[Clips]:
            shutil.rmtree(folder.path)
            return super().make(rows)

    with pytest.raises(FileNotFoundError, match="000000-p0"):
        make_all(some(3), Vandal, folder, size=1)
    assert not folder.path.exists()


def test_ctrl_c_finishes_the_batch_at_hand(folder):
    class Interrupted(Stub):
        def make(self, rows: list[Row]) -> list[Clips]:
            if len(self.batches) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return super().make(rows)

    before = signal.getsignal(signal.SIGINT)
    with Stop().listening() as stop:
        progress = make_all(some(10), Interrupted, folder, size=2, stop=lambda: bool(stop))
    assert progress == Progress(done=4, made=4)
    assert folder.tally(some(10)).complete == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(folder):
    class Slow(Stub):
        def make(self, rows: list[Row]) -> list[Clips]:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(60)
            slept.append(True)
            return super().make(rows)

    slept: list[bool] = []
    with Stop().listening() as stop, pytest.raises(KeyboardInterrupt):
        make_all(some(10), Slow, folder, size=2, stop=lambda: bool(stop))
    assert not slept


def test_the_folder_settles_where_folders_cannot_be_opened(folder, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError))
    folder.settle()
