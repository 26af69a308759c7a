"""Bad files are reported together; cached tensors are what was stored or made again."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from clicks import RATE, click_track
from torch import nn

from musicldm import audio
from musicldm.data.manifest import Track
from musicldm.data.track_checks import check_tracks, find_problems
from musicldm.data.track_stats import Measures
from musicldm.io.cache import Cache, network_digest


@pytest.fixture
def tracks(tmp_path):
    good = click_track(tmp_path / "good.wav", 120, seconds=4)
    audio.write(tmp_path / "silent.wav", np.zeros(2 * RATE, np.float32), RATE)
    audio.write(tmp_path / "short.wav", np.ones(100, np.float32), RATE)
    audio.write(tmp_path / "none.wav", np.ones(0, np.float32), RATE)
    with soundfile.SoundFile(tmp_path / "nan.wav", "w", RATE, 1, "FLOAT") as file:
        file.write(np.full(2 * RATE, np.nan, np.float32))
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "whole.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 10 * RATE), RATE)
    (tmp_path / "half.flac").write_bytes((tmp_path / "whole.flac").read_bytes()[:80_000])
    names = (
        "silent.wav",
        "short.wav",
        "none.wav",
        "nan.wav",
        "text.wav",
        "folder.wav",
        "half.flac",
        "gone.wav",
    )
    late = Track(path=good.path, captions=("x",), beats=np.array([0.5, 99.0]), downbeats=np.array([0.5]))
    return [
        good,
        *(Track(path=tmp_path / name, captions=("x",)) for name in names),
        late,
        Track(path=good.path),
    ]


def test_decoding_finds_all_that_is_wrong(tracks):
    found = find_problems(tracks, 0.5, measures=Measures(RATE), captions=True, workers=2)
    assert [problem and problem.kind for problem in found] == [
        None, "silent", "too short", "unreadable", "non-finite", "unreadable", "missing", "unreadable", "missing",
        "beats too late", "no caption",
    ]  # fmt: skip


def test_headers_find_what_they_can(tracks):
    found = find_problems(tracks, 0.5)
    assert [problem and problem.kind for problem in found] == [
        None, None, "too short", "too short", None, "unreadable", "missing", None, "missing", "beats too late", None,
    ]  # fmt: skip


def test_refused_together_or_skipped_aloud(tracks, caplog):
    with pytest.raises(ValueError, match="10 of 11 tracks cannot be used: 3 unreadable, 2 missing") as caught:
        check_tracks(tracks, 0.5, measures=Measures(RATE), captions=True)
    for name in ("silent.wav: silent", "nan.wav: non-finite", "half.flac: unreadable", "gone.wav: missing"):
        assert name in str(caught.value)
    assert check_tracks(tracks, 0.5, policy="skip", measures=Measures(RATE), captions=True) == tracks[:1]
    assert "10 of 11 tracks cannot be used" in caplog.text
    assert check_tracks(tracks[:1]) == tracks[:1]
    with pytest.raises(ValueError, match="2 of 2 tracks"):
        check_tracks(tracks[8:10], policy="skip")  # nothing would be left
    with pytest.raises(ValueError, match="policy 'ignore'"):
        check_tracks(tracks, policy="ignore")


# ---- cache ----


def counted(value):
    calls = []

    def make():
        calls.append(1)
        return {"latents": torch.full((2, 3), value), "scale": torch.tensor(value)}

    return make, calls


def test_a_value_is_made_once_per_key(tmp_path):
    make, calls = counted(1.5)
    cache = Cache(tmp_path)
    for _ in range(3):
        got = cache.get({"clip": "a", "network": "n"}, make)
        assert torch.equal(got["latents"], torch.full((2, 3), 1.5))
        assert got["scale"].shape == ()
    assert (
        Cache(tmp_path).load({"network": "n", "clip": "a"}) is not None
    )  # the order of a key's parts is none
    assert (len(calls), cache.made, cache.found) == (1, 1, 2)
    cache.get({"clip": "b", "network": "n"}, make)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["empty", "half", "bit", "other"])
def test_a_damaged_entry_is_made_again(tmp_path, caplog, damage):
    key = {"clip": "a"}
    cache = Cache(tmp_path)
    make, calls = counted(1.5)
    cache.get(key, make)
    (entry,) = tmp_path.rglob("*.safetensors")
    data = bytearray(entry.read_bytes())
    if damage == "bit":
        data[-1] ^= 1  # a readable file with another number in it
    if damage == "other":
        cache.store({"clip": "b"}, make())
        (other,) = set(tmp_path.rglob("*.safetensors")) - {entry}
        data = bytearray(other.read_bytes())
    entry.write_bytes(data[: {"empty": 0, "half": len(data) // 2}.get(damage, len(data))])
    before = len(calls)
    got = cache.get(key, make)
    assert torch.equal(got["latents"], torch.full((2, 3), 1.5))
    assert len(calls) == before + 1
    assert "is made again" in caplog.text
    cache.get(key, make)
    assert len(calls) == before + 1  # and was found this time


def test_parts_of_one_tensor_and_a_failing_maker(tmp_path):
    cache = Cache(tmp_path)
    both = torch.arange(6.0).reshape(2, 3)
    got = cache.get({"clip": "ab"}, lambda: {"a": both[0], "b": both.T})
    cache.get({"clip": "ab"}, lambda: pytest.fail("it is there"))
    assert got["b"].shape == (3, 2)

    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get({"clip": "c"}, fail)
    assert cache.load({"clip": "c"}) is None


def test_a_network_is_named_by_its_weights():
    torch.manual_seed(0)
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    assert network_digest(a) != network_digest(b)
    b.load_state_dict(a.state_dict())
    assert network_digest(a) == network_digest(b)
    with torch.no_grad():
        b.weight[0, 0] += 1e-6
    assert network_digest(a) != network_digest(b)
