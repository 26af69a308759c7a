"""Timelines: what a file says, what is wrong with it, and the condition at each moment."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers import draw

from musicldm.blending import blend
from musicldm.editing.timeline import Cue, Timeline, TimelineError, parse, parse_json, read, seconds_of

TEXT = '# a song\n0 slow piano in C# minor\n\n 0:30   techno, 120 bpm # loud \n1:02.5 silence: "none"\n'
CUES = (Cue(0, "slow piano in C# minor"), Cue(30, "techno, 120 bpm # loud"), Cue(62.5, 'silence: "none"'))


def test_a_text_file(tmp_path):
    path = tmp_path / "song.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert parse(TEXT).cues == read(path).cues == CUES


def test_a_json_file_says_the_same(tmp_path):
    path = tmp_path / "song.JSON"
    path.write_text(
        json.dumps([{"time": t, "prompt": c.prompt} for t, c in zip((0, "0:30", 62.5), CUES, strict=True)])
    )
    assert read(path).cues == CUES


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1:30", 90), ("01:05.25", 65.25), ("1:00:00", 3600), (".5", 0.5), ("30s", 30), (7, 7), (0.5, 0.5)],
)  # fmt: skip
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "song: holds no cue, expected one cue per line, a time and a prompt, as in '0:30 techno"),
        ("# only this\n", "holds no cue"),
        ("0 piano\nfoo bar", r"song, line 2: got the time 'foo', expected seconds or m:ss"),
        ("0 piano\n\n10", r"song, line 3: got '10' alone, expected one cue per line"),
        ("5 piano", r"song, line 1: the first cue begins at 5 s, expected 0"),
        ("0 a\n10 b\n10 c", r"song, line 3: got 10 s after 10 s, expected times that increase"),
        ("0 a\n1:75 b", r"line 2: got the time '1:75', expected less than 60 after a colon"),
        ("0 a\n1:75:00 b", "less than 60 after a colon"),
        ("0 a\n-3 b", "line 2: got the time '-3'"),
        ("0 a\n1e3 b", "line 2: got the time '1e3'"),
        ("0 a\n1:2:3:4 b", "line 2: got the time '1:2:3:4'"),
    ],
)
def test_errors_name_the_line_and_what_was_expected(text, message):
    with pytest.raises(TimelineError, match=message):
        parse(text, "song")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "song, line 1: not JSON"),
        ('[{"time": 0,\n "prompt": }]', "song, line 2: not JSON"),
        ("{}", "song: expected a list such as"),
        ("[]", "holds no cue"),
        ('["a"]', 'entry 1: got "a", expected an object with "time" and "prompt"'),
        ('[{"time": 0}]', "entry 1"),
        ('[{"time": 0, "prompt": 3}]', "entry 1: got the prompt 3, expected a string"),
        ('[{"time": true, "prompt": "a"}]', "entry 1: got the time True"),
        ('[{"time": NaN, "prompt": "a"}]', "entry 1: got the time nan"),
        ('[{"time": 0, "prompt": "a"}, {"time": -1, "prompt": "b"}]', "entry 2: got the time -1"),
    ],
)
def test_errors_of_json_name_the_entry(value, message):
    with pytest.raises(TimelineError, match=message):
        parse_json(value, "song")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "song.txt"
    path.write_bytes(b"\xff\xfe0 a")
    with pytest.raises(TimelineError, match="not a text file in UTF-8"):
        read(path)


def test_a_cue_that_nobody_would_hear_is_refused():
    timeline = parse(TEXT)
    timeline.check(80, [5, 35, 65])
    with pytest.raises(TimelineError, match=r"'silence.*begins at 62.5 s, but the clip ends at 62.5 s"):
        timeline.check(62.5, [5, 35, 65])
    with pytest.raises(
        TimelineError, match=r"'techno.*lasts from 30 to 62.5 s.*they are at 5.0, 25.0, 65.0 s"
    ):
        timeline.check(80, [65, 5, 25])


def slerp(a, b, share):
    return blend([(a, 1 - share), (b, share)])


def unit(*shape, seed=0):
    return torch.nn.functional.normalize(draw(*shape, seed=seed), dim=-1)


def test_conditions_change_at_their_cues():
    timeline, embeds = parse("0 a\n10 b\n20 c"), unit(3, 8)
    times = [0, 7.9, 8, 10, 12, 15, 21, 22, 30]
    got = timeline.conditions(embeds, times, 4.0)
    a, b, c = embeds
    between = slerp(b, c, 0.75)
    expected = [a, a, a, slerp(a, b, 0.5), b, b, between, c, c]
    assert torch.allclose(got, torch.stack(expected), atol=1e-6)
    hard = timeline.conditions(embeds, [9.999, 10.0], 0.0)
    assert torch.equal(hard, torch.stack([a, b]))


def test_in_a_loop_the_last_cue_turns_into_the_first():
    timeline, (a, b) = parse("0 a\n10 b"), unit(2, 8)
    embeds = torch.stack([a, b])
    got = timeline.conditions(embeds, [0.0, 1.0, 2.0, 19.0, 20.0 - 1e-9], 4.0, loop_seconds=20.0)
    expected = [slerp(b, a, 0.5), slerp(b, a, 0.75), a, slerp(b, a, 0.25), slerp(b, a, 0.5)]
    assert torch.allclose(got, torch.stack(expected), atol=1e-6)
    assert torch.equal(timeline.conditions(embeds, [0.0], 4.0)[0], a)


def test_one_cue_is_that_prompt_everywhere():
    embeds = unit(1, 8)
    for loop in (None, 9.0):
        got = Timeline((Cue(0.0, "a"),)).conditions(embeds, [0.0, 4.0, 8.9], 4.0, loop)
        assert torch.allclose(got, embeds.expand(3, -1), atol=1e-6)
    assert math.isclose(got.norm(dim=1)[0].item(), 1, rel_tol=1e-6)
