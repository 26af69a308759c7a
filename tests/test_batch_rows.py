from __future__ import annotations

import csv
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicldm.batch.rows import BadRow, PromptFile, Row


def rows(tmp_path, name: str, data: bytes | str, **options: object) -> list[Row | BadRow]:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(PromptFile(path, **options))


def prompts(*arguments: object, **options: object) -> list[str]:
    return [row.prompt for row in rows(*arguments, **options)]


@pytest.mark.parametrize(
    "line",
    ["A song in C# minor, upbeat", "AC/DC | rock", '"quoted", and "not', "  spaces kept ", "..", "🎵 日本", "a\tb", "\x00",
     "\x85 \u2028 no line ends", "%s {} \\n", "-1e5", "x" * 100_000],
)  # fmt: skip
def test_a_line_of_text_is_taken_literally(tmp_path, line):
    assert prompts(tmp_path, "p.txt", f"first\n{line}\nlast\n") == ["first", line, "last"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("one", ["one"]),
        ("one\n", ["one"]),
        ("\ufeffone\r\ntwo\r\n", ["one", "two"]),
        ("one\rtwo", ["one", "two"]),
        ("same\nsame\n", ["same", "same"]),
    ],
)
def test_marks_and_line_ends_of_all_systems(tmp_path, data, expected):
    assert prompts(tmp_path, "p.txt", data) == expected


def test_blank_lines_are_no_rows_and_keep_the_numbers_of_the_others(tmp_path):
    found = rows(tmp_path, "p.txt", "one\n\n  \nfour\n")
    assert [(row.index, row.prompt) for row in found] == [(0, "one"), (3, "four")]


def test_latin_1_is_refused_by_line_and_byte_and_read_when_named(tmp_path):
    data = "one\ncafé music\n".encode("latin-1")
    with pytest.raises(
        ValueError, match=r"p\.txt: line 2, byte 4 \(0xe9\) is not UTF-8; .* --encoding latin-1"
    ):
        rows(tmp_path, "p.txt", data)
    assert prompts(tmp_path, "p.txt", data, encoding="latin-1") == ["one", "café music"]


def test_utf_16_is_named(tmp_path):
    with pytest.raises(ValueError, match="--encoding utf-16"):
        rows(tmp_path, "p.txt", "one\n".encode("utf-16"))
    assert prompts(tmp_path, "p.txt", "one\n".encode("utf-16"), encoding="utf-16") == ["one"]
    with pytest.raises(ValueError, match="no such encoding"):
        rows(tmp_path, "p.txt", "one", encoding="klingon")


def test_a_table_may_say_everything_about_a_row(tmp_path):
    text = 'Prompt,negative,seconds,steps,guidance,seed,id\r\n"a ""b"", C#\nd",noise,2.5,20,3,7,x1\r\ne,,,,,,\r\n'
    full = Row(
        index=0, prompt='a "b", C#\nd', negative="noise", seconds=2.5, steps=20, guidance=3, seed=7, id="x1"
    )
    expected = [full, Row(index=1, prompt="e")]
    assert rows(tmp_path, "p.csv", text.replace("Prompt", "prompt")) == expected
    objects = [{"prompt": 'a "b", C#\nd', "negative": "noise", "seconds": 2.5, "steps": 20, "guidance": 3, "seed": 7,
                "id": "x1"}, {"prompt": "e", "steps": None}]  # fmt: skip
    assert rows(tmp_path, "p.jsonl", "\n".join(map(json.dumps, objects))) == expected


def test_empty_strings_of_json_are_said(tmp_path):
    [row] = rows(tmp_path, "p.jsonl", '{"prompt": "", "negative": ""}')
    assert (row.prompt, row.negative) == ("", "")


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("p.jsonl", "{nonsense", "not a JSON object"),
        ("p.jsonl", '["a"]', "got list, expected an object"),
        ("p.jsonl", "[" * 100_000, "not a JSON object"),
        ("p.jsonl", '{"steps": 3}', "has no prompt"),
        ("p.jsonl", '{"prompt": 5}', "prompt: got 5, expected a string"),
        ("p.jsonl", '{"prompt": "a", "steps": 2.5}', "steps: got 2.5, expected a whole number"),
        ("p.jsonl", '{"prompt": "a", "seed": true}', "seed: got True, expected a whole number"),
        ("p.csv", "a,many", "steps: got 'many', expected a whole number"),
        ("p.csv", ",5", "has no prompt"),
        ("p.csv", "a,5,6", "has 3 fields, and the header 2"),
    ],
)
def test_a_bad_row_says_why_and_takes_no_other_along(tmp_path, name, line, reason):
    text = (
        f'{{"prompt": "x"}}\n{line}\n{{"prompt": "y"}}'
        if name == "p.jsonl"
        else f"prompt,steps\nx,1\n{line}\ny,"
    )
    first, bad, last = rows(tmp_path, name, text)
    assert (first.prompt, first.index, last.prompt, last.index) == ("x", 0, "y", 2)
    assert reason in bad.reason
    assert bad.index == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "", "holds no rows"),
        ("p.txt", "\n\n", "holds no rows"),
        ("p.csv", "", "the header has no column 'prompt'; it has nothing"),
        ("p.csv", "prompt\n", "holds no rows"),
        ("p.csv", "caption,mood\na,b", "got columns 'caption', 'mood', expected only prompt, id.*--columns prompt=caption"),
        ("p.csv", "steps\n5", "no column 'prompt'"),
        ("p.csv", "prompt,prompt\na,b", "twice"),
        ("p.csv", 'prompt\n"open', "line 2: not CSV"),
        ("p.csv", 'prompt\n"a" b\n', "not CSV"),
        ("p.jsonl", '{"prompt": "a", "guidence": 2}', "line 1: got columns 'guidence'"),
        ("p.json", "{}", r"cannot tell what is in a \.json, expected \.txt, \.csv, \.jsonl"),
        ("p.csv", "prompt,id\na,1\nb,2\nc,1", r"1 stand in it more than once: '1' in rows \[0, 2\]"),
        ("p.jsonl", '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": "1"}', "more than once"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_whole_file_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        PromptFile(tmp_path / name).survey()


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read as a prompt file"):
        PromptFile(tmp_path / "none.txt").survey()
    (tmp_path / "d.txt").mkdir()
    with pytest.raises(ValueError, match=r"d\.txt: cannot be read as a prompt file"):
        PromptFile(tmp_path / "d.txt").survey()


def test_columns_pick_what_is_read_from_a_foreign_table(tmp_path):
    text = "ytid,caption,steps\nabc,A slow waltz,many\n"
    found = rows(tmp_path, "p.csv", text, columns={"prompt": "caption", "id": "ytid"})
    assert found == [Row(index=0, prompt="A slow waltz", id="abc")]
    with pytest.raises(ValueError, match="no column 'title'; it has 'ytid', 'caption', 'steps'"):
        rows(tmp_path, "p.csv", text, columns={"prompt": "title"})
    with pytest.raises(ValueError, match="names no prompt"):
        PromptFile(tmp_path / "p.csv", columns={"id": "ytid"})
    with pytest.raises(ValueError, match="got mood, expected some of prompt"):
        PromptFile(tmp_path / "p.csv", columns={"prompt": "a", "mood": "b"})
    with pytest.raises(ValueError, match="has no columns"):
        PromptFile(tmp_path / "p.txt", columns={"prompt": "a"})


def test_a_survey_counts_all_rows_and_ones_own(tmp_path):
    (tmp_path / "p.txt").write_text("a\nb\nc\n")
    survey = PromptFile(tmp_path / "p.txt").survey(lambda index: index % 2 == 0)
    assert (survey.rows, survey.mine, survey.bytes) == (3, 2, 6)


def test_a_file_knows_its_rows_by_number_and_content(tmp_path):
    (tmp_path / "p.txt").write_text("a\n\nb\n")
    contains = PromptFile(tmp_path / "p.txt").contains()
    a, b = Row(index=0, prompt="a").digest, Row(index=2, prompt="b").digest
    assert contains(0, a)
    assert contains(2, b)
    assert not any(
        [contains(0, b), contains(2, a), contains(3, b), contains(1, "0"), contains(2, None), contains(-1, b)]
    )


def test_twenty_thousand_rows_do_not_sit_in_memory(tmp_path):
    path = tmp_path / "p.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"prompt": "number {k}", "id": "id{k}"}}\n' for k in range(20_000))
    tracemalloc.start()
    try:
        assert PromptFile(path).survey().rows == 20_000
        assert (
            tracemalloc.get_traced_memory()[1] < 3e6
        )  # a block of 1 MB twice, 8 bytes an id; the rows would be 10 MB
    finally:
        tracemalloc.stop()


@given(
    texts=st.lists(
        st.text(min_size=1, max_size=20).filter(lambda text: not text.isspace()), min_size=1, max_size=5
    )
)
def test_what_a_csv_writer_writes_is_read_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
        csv.writer(file).writerows([["prompt", "id"], *([text, str(k)] for k, text in enumerate(texts))])
    written = [text.encode("utf-8", "replace").decode() for text in texts]
    assert [row.prompt for row in PromptFile(path)] == written
