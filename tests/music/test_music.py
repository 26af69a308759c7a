"""From a folder of real music to mixed clips, if there is one.

Set MUSICLDM_MUSIC to a folder with a dozen tracks or more, such as what Debian's `wesnoth-1.16-music` or
`singularity-music` holds (apt-get download, dpkg -x). Beats come from librosa, in an environment that has it; 16
tracks take some minutes the first time, and MUSICLDM_MUSIC_WORK, a folder, keeps them for the next.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

from musicldm.cli import main
from musicldm.data.clips import Clips
from musicldm.data.manifest import read_manifest, write_manifest
from musicldm.data.mixer import Mixer
from musicldm.data.track_stats import Measures
from musicldm.training.data import ClipSource
from musicldm.training.feed import steps
from musicldm.training.order import Order

MUSIC = os.environ.get("MUSICLDM_MUSIC")
TRACKS = 16
pytestmark = [
    pytest.mark.skipif(
        not MUSIC, reason="MIXUP OF REAL MUSIC NOT TESTED: set MUSICLDM_MUSIC to a folder of music"
    ),
    pytest.mark.skipif(importlib.util.find_spec("librosa") is None, reason="beats need librosa"),
    pytest.mark.filterwarnings("ignore"),  # librosa's dependencies
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    kept = os.environ.get("MUSICLDM_MUSIC_WORK")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("music")
    assert MUSIC is not None
    assert main(["manifest", MUSIC, "-o", str(folder / "all.jsonl"), "--skip-bad", "--quiet"]) == 0
    write_manifest(folder / "m.jsonl", read_manifest(folder / "all.jsonl")[:TRACKS])
    status = main(["beats", str(folder / "m.jsonl"), "--backend", "librosa", "--quiet"])
    assert status in (0, 1)  # 1: a track in which no beats were heard
    return folder / "m.beats.jsonl"


@pytest.fixture(scope="module")
def measures(manifest):
    return Measures(16000, manifest.parent / "measures")


def test_mixes_of_real_music_are_in_step_to_an_ear_that_heard_no_beat_tracker(manifest, measures):
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from bench_mixup import alignment

    tracks = read_manifest(manifest)
    mixer = Mixer(tracks, "blm", probability=1.0, max_bpm=2.0)
    assert mixer.paired >= 2
    figures = alignment(Clips(tracks, mixer=mixer, measures=measures), epochs=3)
    print(figures)  # noqa: T201 (shown by pytest -s)
    assert figures["median_offset_ms"]["90"] <= 60.1  # the default's promise, by the annotations
    assert figures["outcomes"]["mixed"] >= 6
    in_step, off = figures["onset_correlation"].values()
    assert in_step > off  # and by the sound; half of the mixes would do by chance, see the next
    assert figures["share_better_in_step"] > 0.6


def test_mixed_batches_are_sound(manifest, measures):
    tracks = read_manifest(manifest)
    for strategy in ("plain", "bam", "blm"):
        mixer = Mixer(tracks, strategy, probability=1.0, max_bpm=2.0)
        clips = Clips(tracks, seed=1, mixer=mixer, measures=measures)
        where = {"start": 0, "end": 1, "rank": 0, "world": 1, "micro": 0, "workers": 2}
        order = Order(len(tracks), min(8, len(tracks)), seed=1)
        ((batch, _),) = next(steps(ClipSource(clips), order, **where))
        assert torch.isfinite(batch["wave"]).all()
        assert batch["wave"].abs().amax() <= 0.5 + 1e-6
        assert (batch["wave"].square().mean(dim=1) > 0).all()


def test_one_command_writes_a_pair_to_listen_to(manifest, tmp_path):
    assert main(["mix", str(manifest), "-o", str(tmp_path / "pair"), "--max-bpm", "2", "--clicks"]) == 0
    assert (tmp_path / "pair" / "mix.wav").stat().st_size > 600_000
