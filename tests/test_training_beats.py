"""Beats from annotations and from backends, of which only stand-ins are needed here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from clicks import click_track

from musicldm.cli import main
from musicldm.data.annotations import Beats
from musicldm.data.beat_backends import BACKENDS, load_backend
from musicldm.data.beats import Journal, find_beats
from musicldm.data.manifest import Track, read_manifest, write_manifest

FOUND = Beats(np.array([0.5, 1.0, 1.5]), np.array([0.5]))


@pytest.fixture
def music(tmp_path):
    tracks = [Track(path=click_track(tmp_path / f"{i}.wav", 120, seconds=3).path) for i in range(3)]
    write_manifest(tmp_path / "m.jsonl", tracks)
    return tmp_path


def fake_module(monkeypatch, name, **content):
    module = ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    parts = name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_missing_backend_says_what_to_install_and_its_licence(monkeypatch, name):
    for module in ("beat_this", "beat_this.inference", "madmom", "madmom.features.downbeats", "librosa"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"the backend {name} cannot be imported") as caught:
        load_backend(name)
    assert f"`pip install {name.replace('_', '-')}`" in str(caught.value)
    assert {"beat_this": "MIT", "madmom": "BY-NC-SA", "librosa": "ISC"}[name] in str(caught.value)
    with pytest.raises(ValueError, match="got backend 'x', expected one of beat_this, madmom, librosa"):
        load_backend("x")


def test_beat_this_is_called_as_its_version_1_is(monkeypatch, music):
    """Audio2Beats(checkpoint_path, device, float16, dbn)(signal, sr) -> beats, downbeats."""
    made = []

    class Audio2Beats:
        def __init__(self, checkpoint_path="final0", device="cpu", float16=False, dbn=False):
            made.append((checkpoint_path, device, dbn))

        def __call__(self, signal, sr):
            assert signal.shape == (48000,)
            assert (signal.dtype, sr) == (np.float32, 16000)
            return np.array([1.0, 0.5, 0.5, -0.01]), np.array([0.5])

    fake_module(monkeypatch, "beat_this.inference", Audio2Beats=Audio2Beats)
    hear = load_backend("beat_this", "cuda:1")
    found = hear(music / "0.wav")
    assert made == [("final0", "cuda:1", False)]
    assert found.beats.tolist() == [0.0, 0.5, 1.0]
    assert found.downbeats.tolist() == [0.5]


def test_madmom_hears_44100_hz_and_its_first_beats_are_downbeats(monkeypatch, music):
    def decide(**settings):
        assert settings == {"beats_per_bar": [3, 4], "fps": 100}
        return lambda activations: np.array([[0.4, 4], [0.9, 1], [1.4, 2]])

    def listen():
        return lambda signal: signal

    def signal(wave, sample_rate, num_channels):
        assert (len(wave), sample_rate, num_channels) == (3 * 44100, 44100, 1)

    fake_module(
        monkeypatch,
        "madmom.features.downbeats",
        RNNDownBeatProcessor=listen,
        DBNDownBeatTrackingProcessor=decide,
    )
    monkeypatch.setitem(sys.modules, "madmom.audio", ModuleType("madmom.audio"))
    monkeypatch.setitem(sys.modules, "madmom.audio.signal", SimpleNamespace(Signal=signal))
    found = load_backend("madmom")(music / "0.wav")
    assert found.beats.tolist() == [0.4, 0.9, 1.4]
    assert found.downbeats.tolist() == [0.9]


def test_librosa_guesses_downbeats_at_the_strongest_phase(monkeypatch, music):
    frames = np.arange(0, 90, 10)
    strength = np.zeros(100)
    strength[frames[2::4]] = 1.0
    fake_module(
        monkeypatch,
        "librosa",
        onset=SimpleNamespace(onset_strength=lambda y, sr: strength),
        beat=SimpleNamespace(beat_track=lambda onset_envelope, sr: (120.0, frames)),
        frames_to_time=lambda frames, sr: frames / 20,
    )
    found = load_backend("librosa")(music / "0.wav")
    assert found.beats.tolist() == (frames / 20).tolist()
    assert found.downbeats.tolist() == [1.0, 3.0]


# ---- a manifest's worth ----


def test_one_bad_file_does_not_stop_the_others(music):
    tracks = read_manifest(music / "m.jsonl")
    tracks.insert(1, Track(path=music / "gone.wav"))

    def hear(path: Path) -> Beats:
        if path.name == "1.wav":
            raise MemoryError
        return Beats(FOUND.beats[:1], FOUND.downbeats) if path.name == "2.wav" else FOUND

    done, failures = find_beats(tracks, hear, Journal(music / "j", "fake 1"))
    assert [track.path.name for track in done] == ["0.wav", "gone.wav", "1.wav", "2.wav"]
    assert [track.beats is None for track in done] == [False, True, True, True]
    assert [(f.path.name, f.reason) for f in failures] == [
        ("gone.wav", "there is no such file"), ("1.wav", "MemoryError"), ("2.wav", "1 beats were heard; a tempo needs two"),
    ]  # fmt: skip


def test_an_interrupted_run_goes_on_and_a_torn_line_costs_one_file(music):
    tracks = read_manifest(music / "m.jsonl")
    heard = []

    def hear(path: Path) -> Beats:
        if len(heard) == 2:
            raise KeyboardInterrupt
        heard.append(path.name)
        return FOUND

    with pytest.raises(KeyboardInterrupt):
        find_beats(tracks, hear, Journal(music / "j", "fake 1"))
    assert heard == ["0.wav", "1.wav"]
    data = (music / "j").read_bytes()
    (music / "j").write_bytes(data[:-20])  # killed while it wrote
    again = []
    done, failures = find_beats(
        tracks, lambda path: again.append(path.name) or FOUND, Journal(music / "j", "fake 1")
    )
    assert again == ["1.wav", "2.wav"]
    assert not failures
    assert all(track.beats.tolist() == FOUND.beats.tolist() for track in done)
    third = []
    find_beats(tracks, lambda path: third.append(path.name) or FOUND, Journal(music / "j", "fake 1"))
    assert third == []
    find_beats(tracks, lambda path: third.append(path.name) or FOUND, Journal(music / "j", "fake 2"))
    assert len(third) == 3  # another version of the program


def test_the_command_writes_beats_and_lists_failures(music, monkeypatch, capsys):
    class Audio2Beats:
        def __init__(self, **_):
            pass

        def __call__(self, signal, sr):
            return FOUND.beats, FOUND.downbeats

    fake_module(monkeypatch, "beat_this.inference", Audio2Beats=Audio2Beats)
    with (music / "m.jsonl").open("a") as file:
        file.write(json.dumps({"path": "gone.wav"}) + "\n")
    assert main(["beats", str(music / "m.jsonl"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "m.beats.jsonl: 4 tracks, 3 with beats and downbeats" in said
    assert "gone.wav: there is no such file" in said
    tracks = read_manifest(music / "m.beats.jsonl")
    assert [track.beats is None for track in tracks] == [False, False, False, True]
    assert main(["beats", str(music / "m.jsonl"), "--backend", "x"]) == 1
    assert "got backend 'x'" in capsys.readouterr().err


def test_annotations_come_first_and_no_backend_is_asked_for_nothing(music, capsys):
    np.save(music / "0_beat_pred.npy", np.array([0.1, 0.6]))
    np.save(music / "0_downbeat_pred.npy", np.array([0.1]))
    for index in (1, 2):
        (music / f"{index}.beats").write_text("0.2 1\n0.7 2\n")
    out = music / "out" / "n.jsonl"
    out.parent.mkdir()
    assert main(["beats", str(music / "m.jsonl"), "-o", str(out), "--annotations", str(music)]) == 0
    tracks = read_manifest(out)
    assert [track.downbeats.tolist() for track in tracks] == [[0.1], [0.2], [0.2]]
    assert tracks[0].path == music / "0.wav"  # outside the manifest's folder: absolute
    assert main(["beats", str(music / "m.jsonl"), "--annotations", str(music / "no")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
