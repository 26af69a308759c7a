"""Manifests, annotations, folders: what is read, and what is said of what cannot be."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from clicks import click_track
from hypothesis import given, settings
from hypothesis import strategies as st

from musicldm.cli import main
from musicldm.data.annotations import Beats, read_annotation, write_annotation
from musicldm.data.folders import tracks_from_folder
from musicldm.data.manifest import FIELDS, Track, read_manifest, write_manifest


def test_both_formats_say_the_same(tmp_path):
    (tmp_path / "t.beats").write_text("0.5\t4\n1.0\t1\n1.5\t2\n")
    (tmp_path / "m.jsonl").write_text(
        '{"path": "a b.wav", "caption": ["calm, slow", "quiet"], "beats": "t.beats", "split": "test"}\n\n'
        '{"path": "c.wav", "caption": null, "beats": [0, 1, 2.5]}\n'
    )
    first, second = read_manifest(tmp_path / "m.jsonl")
    assert first == Track(path=tmp_path / "a b.wav", captions=("calm, slow", "quiet"), split="test")
    assert first.beats.tolist() == [0.5, 1.0, 1.5]
    assert first.downbeats.tolist() == [1.0]
    assert (second.captions, second.split, second.downbeats) == ((), "train", None)
    (tmp_path / "m.csv").write_text(
        'path,caption,beats,split\r\na b.wav,"calm, slow",t.beats,test\r\nc.wav,,,\r\n'
    )
    first, second = read_manifest(tmp_path / "m.csv")
    assert first == Track(path=tmp_path / "a b.wav", captions=("calm, slow",), split="test")
    assert first.downbeats.tolist() == [1.0]
    assert second == Track(path=tmp_path / "c.wav")


def test_splits_and_columns_are_chosen(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("file,text,genre,path\na.wav,calm,jazz,x\nb.wav,loud,rock,y\n")
    with pytest.raises(
        ValueError, match=r"line 2: got 'file', 'text', 'genre', expected only path, caption, beats"
    ):
        read_manifest(path)
    tracks = read_manifest(path, columns={"path": "file", "caption": "text"})
    assert tracks == [
        Track(path=tmp_path / "a.wav", captions=("calm",)),
        Track(path=tmp_path / "b.wav", captions=("loud",)),
    ]
    with pytest.raises(ValueError, match="columns: got captoin"):
        read_manifest(path, columns={"captoin": "text"})
    with pytest.raises(ValueError, match="no track is in split 'test'; it has 'train'"):
        read_manifest(path, "test", columns={"path": "file"})


def test_a_written_manifest_is_read_back(tmp_path):
    beats = np.array([0.1, 0.61234, 1.2])
    tracks = [
        Track(
            path=tmp_path / "in" / "ä.wav",
            captions=("one", "two"),
            beats=beats,
            downbeats=beats[:1],
            split="test",
        ),
        Track(path=tmp_path.parent / "out.wav", captions=("☂",)),
    ]
    write_manifest(tmp_path / "m.jsonl", tracks)
    got = read_manifest(tmp_path / "m.jsonl")
    assert got == tracks
    np.testing.assert_allclose(got[0].beats, beats, atol=1e-4)
    assert got[0].downbeats.tolist() == [0.1]
    assert json.loads((tmp_path / "m.jsonl").read_text().splitlines()[0])["path"] == "in/ä.wav"
    with pytest.raises(ValueError, match=r"written as \.jsonl"):
        write_manifest(tmp_path / "m.csv", tracks)


HOSTILE_ROWS = [
    ("not json", "not a JSON object"),
    ("[1]", "got list, expected an object"),
    ("[" * 100_000, "not a JSON object"),
    ('{"caption": "x"}', "path: got None"),
    ('{"path": ""}', "path: got ''"),
    ('{"path": 3}', "path: got 3"),
    ('{"path": "a\\u0000b"}', "path: got"),
    ('{"path": "a\\ud800"}', "half a surrogate pair"),
    ('{"path": "a", "path": "b"}', "a key stands in it twice"),
    ('{"path": "a", "captoin": "x"}', "got 'captoin', expected only path, caption"),
    ('{"path": "a", "caption": 3}', "caption: got 3"),
    ('{"path": "a", "caption": ["x", 3]}', "caption: got 3"),
    ('{"path": "a", "caption": " "}', "caption: got ' '"),
    ('{"path": "a", "split": []}', "split: got []"),
    ('{"path": "a", "beats": [1, "x"]}', "beats: got 'x' in it"),
    ('{"path": "a", "beats": [1, true]}', "beats: got True in it"),
    ('{"path": "a", "beats": [[1, 2]]}', "beats: got [1, 2] in it"),
    ('{"path": "a", "beats": [2, 1]}', "beats: 1 s stands after 2 s"),
    ('{"path": "a", "beats": [NaN]}', "NaN or infinite"),
    ('{"path": "a", "beats": [-1, 2]}', "negative"),
    ('{"path": "a", "beats": [1e999]}', "NaN or infinite"),
    ('{"path": "a", "beats": [1%s]}' % ("0" * 400), "too large"),
    ('{"path": "a", "beats": 3}', "beats: got 3, expected a string"),
    ('{"path": "a", "beats": "none.npy"}', "there is no such beat annotation"),
    ('{"path": "a", "downbeats": "bare.beats"}', "does not say which beats are downbeats"),
    ('{"path": "a", "beats": "bad.beats"}', "bad.beats, line 2: got '1.0 x y'"),
    ('{"path": "a", "beats": "pickle.npy"}', "not a .npy file of times"),
    ('{"path": "a", "beats": "matrix.npy"}', "expected a list of seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), HOSTILE_ROWS)
def test_a_hostile_row_is_an_error_with_file_and_line(tmp_path, row, message):
    (tmp_path / "bad.beats").write_text("0.5\n1.0 x y\n")
    (tmp_path / "bare.beats").write_text("0.5\n1.0\n")
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "matrix.npy", np.zeros((2, 2)))
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "good.wav"}\n' + row + "\n")
    with pytest.raises(ValueError, match=r"m\.jsonl: 1 bad rows\n  line 2: ") as caught:
        read_manifest(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", b"", "holds no rows"),
        ("m.jsonl", b"\n\n", "holds no rows"),
        ("m.csv", b"path,caption\n", "holds no rows"),
        ("m.jsonl", b'{"path": "a"}\n{"path": "\xff"}', r"line 2, byte 11 \(0xff\) is not UTF-8; save"),
        ("m.jsonl", '{"path": "a"}'.encode("utf-16"), r"line 1, byte 1 \(0xff\) is not UTF-8; save"),
        ("m.csv", b"path,path\na,b\n", "stands in the header twice"),
        ("m.csv", b"path,caption\na,b,c\n", "line 2: has 3 fields, and the header 2"),
        ("m.csv", b'path,caption\na,"b\n', "line 2: not CSV"),
        ("m.csv", b"path,caption\na," + b"x" * 200_000 + b"\n", "line 2: not CSV"),
        ("m.csv", b"caption\nx\n", "line 2: path: got None"),
        ("m.txt", b"x", r"cannot tell what is in a \.txt"),
        ("m", b"x", "file without suffix"),
    ],
)
def test_a_hostile_file_is_an_error_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


NUMBERS = st.one_of(st.floats(), st.integers())
VALUES = st.one_of(st.none(), NUMBERS, st.text(max_size=5), st.lists(NUMBERS, max_size=3))
ROWS = st.dictionaries(st.sampled_from(FIELDS), VALUES).map(lambda row: json.dumps(row).encode())
TEXT = st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(max_examples=60, deadline=None, database=None)
@given(st.one_of(st.binary(max_size=50), TEXT, ROWS), st.sampled_from(["m.jsonl", "m.csv"]))
def test_whatever_stands_in_a_file_is_tracks_or_one_error_that_names_it(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        assert all(isinstance(track.path, Path) for track in read_manifest(path))
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 (both are right)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_a_name_that_is_not_utf8_is_said(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / os.fsdecode(b"b\xff.wav")).write_bytes(b"")
    with pytest.raises(ValueError, match="name is not UTF-8"):
        tracks_from_folder(tmp_path)


def test_files_that_are_none_and_many_bad_rows(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as a manifest"):
        read_manifest(tmp_path / "no.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ValueError, match="cannot be read as a manifest"):
        read_manifest(tmp_path / "folder.jsonl")
    (tmp_path / "m.jsonl").write_text("no\n" * 50)
    with pytest.raises(ValueError, match="50 bad rows") as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert "line 10: " in str(caught.value)
    assert str(caught.value).endswith("and 40 more")


# ---- annotations ----


def test_a_beats_file_goes_there_and_back(tmp_path):
    beats = np.arange(0.25, 8, 0.5)
    found = Beats(beats, beats[2::4])
    write_annotation(tmp_path / "a.beats", found)
    assert (tmp_path / "a.beats").read_text().splitlines()[:4] == [
        "0.2500\t3",
        "0.7500\t4",
        "1.2500\t1",
        "1.7500\t2",
    ]
    got = read_annotation(tmp_path / "a.beats")
    assert got.beats.tolist() == beats.tolist()
    assert got.downbeats.tolist() == beats[2::4].tolist()
    write_annotation(tmp_path / "b.beats", Beats(beats, None))
    assert read_annotation(tmp_path / "b.beats").downbeats is None
    np.save(tmp_path / "a.npy", beats)
    assert read_annotation(tmp_path / "a.npy").beats.tolist() == beats.tolist()
    (tmp_path / "empty.beats").write_text("# nothing\n\n")
    assert len(read_annotation(tmp_path / "empty.beats").beats) == 0


# ---- folders ----


def test_a_folder_becomes_tracks(tmp_path):
    for name in ("01 - The_Sea.wav", "b.wav", "c.wav", "sub/d.wav", ".hidden.wav", ".git/e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b.txt").write_text("\ufeffcalm piano\n\n slow jazz \n", encoding="utf-8")
    (tmp_path / "c.json").write_text('{"title": "x", "text": ["a", "b"]}')
    (tmp_path / "c.beats").write_text("0.5 1\n1.0 2\n")
    (tmp_path / "e.m4a").write_bytes(b"")
    found = tracks_from_folder(tmp_path)
    assert [track.path.relative_to(tmp_path).as_posix() for track in found.tracks] == [
        "01 - The_Sea.wav", "b.wav", "c.wav", "sub/d.wav",
    ]  # fmt: skip
    assert [track.captions for track in found.tracks] == [
        ("The Sea",),
        ("calm piano", "slow jazz"),
        ("a", "b"),
        ("d",),
    ]
    assert found.tracks[2].downbeats.tolist() == [0.5]
    assert found.named == 2
    assert [path.name for path in found.left] == ["e.m4a"]


def test_the_split_of_a_file_does_not_depend_on_the_others(tmp_path):
    for index in range(200):
        (tmp_path / f"{index}.wav").write_bytes(b"")
    first = {t.path.name: t.split for t in tracks_from_folder(tmp_path, 0.2).tracks}
    share = sum(split == "validation" for split in first.values())
    assert 20 < share < 60  # 40 expected, standard deviation 5.7
    for index in range(0, 200, 2):
        (tmp_path / f"{index}.wav").unlink()
    assert all(first[t.path.name] == t.split for t in tracks_from_folder(tmp_path, 0.2).tracks)


def splits(folder, *shares, **more):
    return {t.path.name: t.split for t in tracks_from_folder(folder, *shares, **more).tracks}


def test_a_test_split_is_nested_and_moves_no_file_of_another(tmp_path):
    for index in range(200):
        (tmp_path / f"{index}.wav").write_bytes(b"")
    alone, both = splits(tmp_path, 0.2), splits(tmp_path, 0.2, test=0.1)
    assert 6 < sum(split == "test" for split in both.values()) < 34  # 20 expected, standard deviation 4.2
    assert {n for n, s in alone.items() if s == "validation"} == {
        n for n, s in both.items() if s == "validation"
    }
    more = splits(tmp_path, 0.5, test=0.3)
    for split in ("validation", "test"):
        assert {n for n, s in both.items() if s == split} < {n for n, s in more.items() if s == split}
    for index in range(0, 200, 2):
        (tmp_path / f"{index}.wav").unlink()
    assert splits(tmp_path, 0.2, test=0.1).items() < both.items()
    assert splits(tmp_path, 0.2, 1, test=0.1) != splits(tmp_path, 0.2, 0, test=0.1)  # --seed


@pytest.mark.parametrize(
    ("validation", "test"), [(0.5, 0.5), (-0.1, 0), (0, -0.1), (1.0, 0), (0, float("nan"))]
)
def test_shares_that_leave_nothing_to_train_on_are_refused(tmp_path, validation, test):
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="expected two numbers from 0 on that are below 1 together"):
        tracks_from_folder(tmp_path, validation, test=test)


def test_the_command_writes_a_test_split_of_a_folder_alone(tmp_path, capsys):
    music, output = tmp_path / "music", tmp_path / "m.jsonl"
    music.mkdir()
    for index in range(40):
        (music / f"{index}.wav").write_bytes(b"")
    command = ["manifest", str(music), "-o", str(output), "--check", "none"]
    assert main([*command, "--validation", "0.2", "--test", "0.3"]) == 0
    written = {track.path.name: track.split for track in read_manifest(output)}
    assert written == splits(music, 0.2, test=0.3)
    assert set(written.values()) == {"train", "validation", "test"}
    capsys.readouterr()
    assert (
        main(["manifest", str(output), "-o", str(tmp_path / "n.jsonl"), "--check", "none", "--test", "0.3"])
        == 1
    )
    assert "--validation and --test split a folder" in capsys.readouterr().err


def test_folders_without_use_say_why(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        tracks_from_folder(tmp_path / "no")
    (tmp_path / "a.m4a").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no sound files in it; 1 are in formats that are not read"):
        tracks_from_folder(tmp_path)
    for name, content in (("b", b"{"), ("c", b'{"x": 1}'), ("d", b'{"text": [1]}')):
        (tmp_path / f"{name}.wav").write_bytes(b"")
        (tmp_path / f"{name}.json").write_bytes(content)
    (tmp_path / "e.wav").write_bytes(b"")
    (tmp_path / "e.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="4 files stand in the way"):
        tracks_from_folder(tmp_path)


def test_the_manifest_command_checks_and_writes(tmp_path, capsys):
    music = tmp_path / "music"
    music.mkdir()
    click_track(music / "a.wav", 120, seconds=3)
    (music / "bad.wav").write_bytes(b"RIFF")
    out = tmp_path / "m.jsonl"
    assert main(["manifest", str(music), "-o", str(out), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "1 of 2 tracks cannot be used: 1 unreadable" in said
    assert not out.exists()
    assert main(["manifest", str(music), "-o", str(out), "--quiet", "--skip-bad"]) == 0
    assert [track.path.name for track in read_manifest(out)] == ["a.wav"]
    assert (
        main(
            [
                "manifest",
                str(out),
                "-o",
                str(tmp_path / "n.jsonl"),
                "--check",
                "headers",
                "--columns",
                "path=path",
            ]
        )
        == 0
    )
    assert read_manifest(tmp_path / "n.jsonl") == [Track(path=music / "a.wav")]
    assert main(["manifest", str(out), "-o", str(out), "--columns", "path"]) == 1
