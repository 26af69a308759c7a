"""The mixer: whom it takes, what it refuses, how a config reaches it; and the command that shows a pair."""

from __future__ import annotations

import dataclasses
import json
from math import inf

import numpy as np
import pytest
import torch
from clicks import RATE, click_track

from musicldm.cli import main
from musicldm.data.clips import Clips
from musicldm.data.manifest import read_manifest, write_manifest
from musicldm.data.mixer import Mixer, Pair
from musicldm.data.mixup import (
    drift_bound,
)
from musicldm.data.pairing import TempoBins
from musicldm.data.seeds import generator
from musicldm.io.distributed import Group
from musicldm.training import vae, vocoder
from musicldm.training.config import ConfigError, parse
from musicldm.training.data import ClipSource, sources
from musicldm.training.settings import RunConfig
from musicldm.training.stage import collate

SECONDS = 10.24
SAMPLES = 163840


def test_items_that_cannot_be_aligned_stay_alone_and_are_counted(tmp_path):
    tracks = [
        click_track(tmp_path / "a.wav", 120),
        click_track(tmp_path / "b.wav", 120.5),
        click_track(tmp_path / "alone.wav", 140),
        dataclasses.replace(click_track(tmp_path / "one.wav", 120), downbeats=np.array([0.3])),
        dataclasses.replace(click_track(tmp_path / "none.wav", 120), beats=None, downbeats=None),
        dataclasses.replace(
            click_track(tmp_path / "late.wav", 120), downbeats=np.array([100.0, 102.0, 104.0])
        ),
    ]
    mixer = Mixer(tracks, "bam", probability=1.0)
    assert (mixer.alignable, mixer.paired) == (4, 3)
    clips = Clips(tracks, RATE, 16000, mixer=mixer)
    source = ClipSource(clips)
    outcomes = collate([source.item(0, index) for index in range(len(tracks))])["outcome"]
    assert outcomes[2:] == ("no partner", "no beats", "no beats", "no beats")
    assert set(outcomes[:2]) <= {"mixed", "no beats"}  # "late" is a partner whose downbeats are past its end


def test_the_probability_is_of_each_item(tmp_path):
    tracks = [click_track(tmp_path / f"{first}.wav", 120, first=first) for first in (0.3, 0.77)]
    mixer = Mixer(tracks, "bam", probability=0.3)
    drawn = [mixer.draw(0, generator(0, "mix", epoch, 0), SECONDS, lambda i: 30.0) for epoch in range(4000)]
    mixed = sum(isinstance(pair, Pair) for pair in drawn)
    assert abs(mixed - 1200) < 4 * np.sqrt(4000 * 0.3 * 0.7)
    assert set(map(str, drawn)) >= {"not drawn"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "bma"}, "strategy 'bma', expected one of none, plain, bam, blm"),
        ({"pairs": "all"}, "pairs 'all', expected one of neighbours, bins"),
        ({"crop": "no"}, "crop 'no', expected one of downbeat, authors"),
        ({"probability": 1.5}, "probability 1.5"),
        ({"alpha": 0.0}, "alpha 0.0"),
        ({"max_bpm": -1.0}, "k = -1.0"),
        ({"max_offset": 0.0}, "max_offset 0.0, expected seconds above 0"),
    ],
)
def test_wrong_settings_are_named(tmp_path, settings, message):
    tracks = [click_track(tmp_path / f"{first}.wav", 120, first=first, seconds=5) for first in (0.3, 0.77)]
    with pytest.raises(ValueError, match=message):
        Mixer(tracks, **{"strategy": "bam", **settings})


def test_the_mixup_table_of_a_config_is_the_mixers(tmp_path):
    """All its keys, but for the padding, which is the latent mix's; each unlike its default."""
    tracks = [click_track(tmp_path / f"{i}.wav", 120, seconds=3) for i in range(2)]
    write_manifest(tmp_path / "m.jsonl", tracks)
    table = {
        "strategy": "bam",
        "probability": 0.9,
        "alpha": 2.0,
        "max_bpm": 3.0,
        "fold": True,
        "max_offset": inf,
    }
    data = {"manifest": str(tmp_path / "m.jsonl"), "seconds": 1.28}
    about = {"output": str(tmp_path / "run"), "loop": {"steps": 1}, "data": data}

    def made(**changes):
        source, _ = sources(parse(RunConfig, {**about, "mixup": {**table, **changes}}, "test"), 1)
        return source.clips.mixer

    mixer = made()
    expected = Mixer(tracks, **table)
    for name in ("strategy", "probability", "alpha", "max_offset", "crop"):
        assert getattr(mixer, name) == getattr(expected, name), name
    assert mixer._partners._k == expected._partners._k
    assert mixer._partners._factors == expected._partners._factors
    assert made(max_offset=0.02).max_offset == 0.02
    assert isinstance(made(pairs="bins")._partners, TempoBins)
    assert (made(crop="authors").crop, made(crop="authors", max_offset=0.02).max_offset) == ("authors", inf)
    with pytest.raises(ValueError, match="max_offset -1"):
        made(max_offset=-1)


@pytest.mark.parametrize("stage", [vae, vocoder])
def test_stages_of_waves_refuse_latent_mixup(stage):
    table = {"output": "x", "loop": {"steps": 1}, "data": {"manifest": "none"}, "mixup": {"strategy": "blm"}}
    with pytest.raises(ConfigError, match='"blm": latents are mixed in the ldm stage alone'):
        stage.build(parse(stage.Config, table, "test"), Group())


def test_a_latent_batch_says_what_to_mix_and_leaves_the_rest_alone(tmp_path):
    tracks = [click_track(tmp_path / f"{i}.wav", 120 + i / 10, polarity=1 - i % 2 * 2) for i in range(8)]
    source = ClipSource(Clips(tracks, RATE, SAMPLES, seed=2, mixer=Mixer(tracks, "blm")))
    batch = collate([source.item(0, index) for index in range(8)])
    mixed = batch["lam"] < 1
    assert 0 < mixed.sum() == batch["outcome"].count("mixed") < 8
    for row in range(8):
        assert torch.equal(batch["wave"][row], batch["wave_b"][row]) == bool(~mixed[row])
        assert (batch["key"][row] == batch["key_b"][row]) == bool(~mixed[row])
    waves = ClipSource(Clips(tracks, RATE, SAMPLES, seed=2, mixer=Mixer(tracks, "bam")))
    assert {waves.item(0, index)["lam"] for index in range(8)} == {1.0}  # mixed already


# ---- one pair to listen to ----


def test_the_mix_command_writes_a_pair_and_what_was_aligned(tmp_path, capsys):
    write_manifest(
        tmp_path / "m.jsonl",
        [click_track(tmp_path / "a.wav", 120), click_track(tmp_path / "b.wav", 120.4, first=0.6)],
    )
    out = tmp_path / "out"
    assert (
        main(
            [
                "mix",
                str(tmp_path / "m.jsonl"),
                "-o",
                str(out),
                "--clicks",
                "--seconds",
                "8",
                "--anchor",
                "a.wav",
            ]
        )
        == 0
    )
    assert sorted(path.name for path in out.iterdir()) == ["a.wav", "b.wav", "mix.json", "mix.wav"]
    about = json.loads((out / "mix.json").read_text())
    assert about["a"]["tempo"] == pytest.approx(120, abs=0.01)
    assert about["a"]["downbeats"][0] == about["b"]["downbeats"][0] == 0
    assert (
        about["largest_offset_ms"]
        <= about["drift_bound_ms"]
        == pytest.approx(1000 * drift_bound(120, 120.4, 8), abs=1)
    )
    assert "beats apart" in capsys.readouterr().err
    assert main(["mix", str(tmp_path / "m.jsonl"), "-o", str(out), "--anchor", "zzz"]) == 1
    assert "no track's path contains 'zzz'" in capsys.readouterr().err
    assert len(read_manifest(tmp_path / "m.jsonl")) == 2
