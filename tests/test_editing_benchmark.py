"""The measure of edits runs on the tiny checkpoint, and can tell a click from none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from editing_clips import RATE, clip
from helpers import TINY

from musicldm import audio

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def quality(bench):
    return bench("editing_quality")


def test_editing_quality_measures_all_it_promises(quality, monkeypatch, tmp_path):
    clips = [tmp_path / f"{k}.wav" for k in range(3)]
    for k, path in enumerate(clips):
        audio.write(path, clip(k), RATE)
    arguments = ["--steps", "2", "--seconds", "0.64", "--seeds", "0,1"]
    monkeypatch.setattr(quality, "STRENGTHS", (0, 0.5, 1.0))
    monkeypatch.setattr(sys, "argv", ["editing_quality.py", str(TINY), *map(str, clips), *arguments])
    quality.main()
    stored = json.loads((tmp_path / "editing_quality.json").read_text())
    rows = stored["rows"]
    kinds = [row["what"] for row in rows]
    assert (kinds.count("seam"), kinds.count("strength"), kinds.count("audio_prompt")) == (6, 3, 6)
    for row in rows:
        if row["what"] == "strength":
            assert row["latents"][0] == row["log_spectral_db"][0] == 0
            assert 0 <= row["grows_latents"] <= 1
        if row["what"] == "audio_prompt":
            assert 0 <= row["won"] <= 1
            assert len(row["others"]) == 2
        if row["what"] == "seam":
            assert 0 <= row["inpainted"] <= 1
    means = {(row["of"], row["figure"]): row for row in rows if row["what"] == "summary"}
    assert means["audio_prompt", "won"]["n"] == 6
    assert str(tmp_path) not in json.dumps(stored)
    assert stored["clips"] == ["0.wav", "1.wav", "2.wav"]


def test_shares_are_counted_as_they_are_named(quality):
    assert quality.won([0.3, 0.1, 0.5], 0) == 0.5
    assert quality.won([0.3, 0.3], 0) == 0
    assert quality.grows([0, 1, 2, 2, 1]) == 0.5


def test_control_a_click_ranks_high_and_a_smooth_place_does_not(quality):
    wave = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE) + 0.01 * np.random.default_rng(
        0
    ).standard_normal(RATE)
    clicked = wave.copy()
    clicked[RATE // 2 : RATE // 2 + 4] += 0.5
    at = [0.5]
    assert quality.rank_at(*quality.flux(clicked, RATE), at) > 0.95
    assert quality.rank_at(*quality.flux(wave, RATE), at) < 0.95
