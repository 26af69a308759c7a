"""The ground floor: facts kept by a file's state, files that are created once, tables with all that is wrong in them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import pytest

from musicldm.io.cache import StatCache, file_state
from musicldm.io.files import create_json, file_digest
from musicldm.io.tables import csv_records, jsonl_records, opened, parse_toml


@dataclass(frozen=True)
class Length:
    bytes: int


class Counting:
    """Measures a file, and counts how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self, path):
        self.calls += 1
        return Length(path.stat().st_size)


def test_facts_are_made_once_for_each_state_of_a_file(tmp_path):
    path, measure = tmp_path / "a", Counting()
    path.write_bytes(b"12")
    kept = StatCache(tmp_path / "kept", Length, "length")
    assert [kept.get(path, measure).bytes for _ in range(3)] == [2, 2, 2]
    assert StatCache(tmp_path / "kept", Length, "length").get(path, measure).bytes == 2  # another process
    assert measure.calls == 1
    path.write_bytes(b"123")
    assert kept.get(path, measure).bytes == 3
    os.utime(path, ns=(0, 0))  # as long, and changed
    kept.get(path, measure)
    assert measure.calls == 3
    StatCache(tmp_path / "kept", Length, "another purpose").get(path, measure)
    assert measure.calls == 4


@pytest.mark.parametrize("damage", [b"", b'{"bytes": 2', b'{"other": 2}', b"[]"])
def test_an_entry_that_cannot_be_read_is_made_again(tmp_path, damage):
    path, measure = tmp_path / "a", Counting()
    path.write_bytes(b"12")
    kept = StatCache(tmp_path / "kept", Length, "length")
    kept.get(path, measure)
    (entry,) = (tmp_path / "kept").glob("*/*.json")
    assert entry.stem == file_state(path, "length")
    entry.write_bytes(damage)
    assert kept.get(path, measure).bytes == 2
    assert measure.calls == 2
    assert json.loads(entry.read_bytes()) == {"bytes": 2}


def test_what_cannot_be_measured_is_not_kept(tmp_path):
    kept = StatCache(tmp_path / "kept", Length, "length")
    with pytest.raises(FileNotFoundError):
        kept.get(tmp_path / "missing", Counting())
    (tmp_path / "a").touch()

    def refuse(path):
        raise ValueError("no audio")

    with pytest.raises(ValueError, match="no audio"):
        kept.get(tmp_path / "a", refuse)
    assert not (tmp_path / "kept").exists()


def test_the_first_of_two_writers_stays(tmp_path):
    create_json(tmp_path / "a.json", {"who": "first"})
    create_json(tmp_path / "a.json", {"who": "second"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"who": "first"}
    assert not list((tmp_path / ".batch").iterdir())


def test_a_digest_and_a_size(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "a") == (digest, 3)


def test_records_know_their_place_and_their_faults():
    lines = ['{"a": 1}', "", "[1]", '{"a": 1, "a": 2}', "nonsense", '{"a": null}']
    found = list(jsonl_records(lines, "{...}"))
    assert [(record.index, record.line) for record in found] == [(0, 1), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert [dict(record.cells) for record in found] == [{"a": 1}, {}, {}, {}, {"a": None}]
    faults = ("", "got list, expected an object", "a key stands in it twice", "expected {...}", "")
    for record, fault in zip(found, faults, strict=True):
        assert fault in record.fault
        assert bool(record.fault) == bool(fault)
    assert found[3].text == "nonsense"


def test_a_csv_may_hold_line_ends_and_blank_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffname , text\n\na,"one\ntwo"\nb\nc,\n')
    with opened(path, lambda guess: guess) as file:
        header, records = csv_records(path, file)
        found = list(records)
    assert header == ["name", "text"]
    assert [dict(record.cells) for record in found] == [{"name": "a", "text": "one\ntwo"}, {}, {"name": "c"}]
    assert found[1].fault == "has 1 fields, and the header 2; quote commas"
    assert [record.line for record in found] == [4, 5, 6]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\xe9\n", r"a\.csv: line 2, byte 2 \(0xe9\) is not UTF-8; it is latin-1"),
        ("a".encode("utf-16"), r"line 1, byte 1 \(0xff\) is not UTF-8; it is utf-16"),
    ],
)
def test_another_encoding_is_said_with_its_place(tmp_path, content, said):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said), opened(path, lambda guess: f"it is {guess}") as file:
        file.read()


def test_toml_is_read_or_refused():
    assert parse_toml("a = [1, 2]\n[b]\nc = 'x'") == {"a": [1, 2], "b": {"c": "x"}}
    with pytest.raises(ValueError, match="Invalid value"):
        parse_toml("a = ")
