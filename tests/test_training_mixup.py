"""Beat-synchronous mixup on click tracks: in step, by how much not, and what breaks it."""

from __future__ import annotations

import dataclasses
from math import inf

import numpy as np
import pytest
import torch
from clicks import RATE, click_track, heard

from musicldm.data.clips import Clips
from musicldm.data.mixer import Mixer
from musicldm.data.mixup import (
    align,
    audio_mixup,
    authors_padding,
    drift_bound,
    exact_tempo,
    fit_length,
    latent_mixup,
    mixing_weight,
    residual_offsets,
    tempo,
)
from musicldm.data.pairing import TempoBins, TempoNeighbours
from musicldm.data.seeds import generator

SECONDS = 10.24
SAMPLES = 163840
IN_STEP = 0.010  # s, what the issue asks of tracks of one tempo
ROUNDING = 2.5 / RATE  # s: click and cut are each rounded to a sample, in both tracks


def aligned_clicks(tracks, *, epoch=0, **settings):
    """Times of the clicks of both waves of track 0's clip, each found in the samples."""
    clip = Clips(tracks, RATE, SAMPLES, seed=3, mixer=Mixer(tracks, "blm", probability=1.0, **settings)).item(
        epoch, 0
    )
    assert clip.outcome == "mixed"
    return heard(clip.wave), heard(clip.wave_b), clip


@pytest.mark.parametrize("bpm", [90, 104.5, 120, 137, 150])
def test_clicks_of_one_tempo_coincide_over_the_whole_clip(tmp_path, bpm):
    tracks = [click_track(tmp_path / f"{first}.wav", bpm, first=first) for first in (0.3, 0.77)]
    for epoch in range(3):
        ours, theirs, clip = aligned_clicks(tracks, epoch=epoch)
        assert len(ours) == len(theirs) >= SECONDS * bpm / 60 - 1
        assert ours[0] < IN_STEP  # the clip begins on the downbeat
        assert np.abs(ours - theirs).max() < IN_STEP
        mix = Clips(tracks, RATE, SAMPLES, seed=3, mixer=Mixer(tracks, "bam", probability=1.0)).item(epoch, 0)
        assert mix.pair == clip.pair
        assert torch.equal(mix.wave, audio_mixup(clip.wave, clip.wave_b, mix.pair.lam))
        np.testing.assert_allclose(heard(mix.wave), ours, atol=IN_STEP)  # no second click beside any


def test_rates_and_channels_do_not_put_it_out_of_step(tmp_path):
    tracks = [
        click_track(tmp_path / "a.wav", 120, rate=44100),
        click_track(tmp_path / "b.flac", 120, rate=48000, first=0.51),
    ]
    ours, theirs, _ = aligned_clicks(tracks)
    assert len(ours) == len(theirs)
    assert np.abs(ours - theirs).max() < IN_STEP


def test_other_tempi_drift_as_far_as_the_bound_and_no_further(tmp_path):
    tracks = [click_track(tmp_path / f"{bpm}.wav", bpm) for bpm in (118, 119)]
    ours, theirs, _ = aligned_clicks(tracks, max_bpm=1.0)
    n = min(len(ours), len(theirs))
    drift = np.abs(ours[:n] - theirs[:n])
    bound = drift_bound(118, 119, SECONDS)
    assert drift.max() <= bound + ROUNDING
    assert drift.max() > 0.9 * bound  # the bound is no empty promise
    assert drift[0] <= ROUNDING


def test_shifted_downbeats_break_it(tmp_path):
    """Negative control: the tests above hear the alignment, not the tempo alone."""
    tracks = [click_track(tmp_path / f"{first}.wav", 120, first=first) for first in (0.3, 0.77)]
    tracks[1] = dataclasses.replace(tracks[1], downbeats=tracks[1].downbeats - 0.1)
    with pytest.raises(AssertionError):
        aligned_clicks(tracks)  # the beats say so
    ours, theirs, _ = aligned_clicks(tracks, max_offset=inf)
    n = min(len(ours), len(theirs))
    assert np.abs(ours[:n] - theirs[:n]).min() > 5 * IN_STEP


def test_plain_mixup_is_not_in_step(tmp_path):
    tracks = [click_track(tmp_path / f"{first}.wav", 120, first=first) for first in (0.3, 0.77)]
    clips = Clips(tracks, RATE, SAMPLES, mixer=Mixer(tracks, "plain", probability=1.0))
    extra = [len(heard(clips.item(epoch, 0).wave)) for epoch in range(4)]
    assert max(extra) > 1.5 * SECONDS * 2  # two grids of clicks, not one


def test_the_documented_drift_of_the_authors_bins():
    """A bin of 3 allows 2 BPM: 0.17 s at the end of a clip, 1 s after a minute."""
    assert TempoBins([117, 119, 120]).count(0) == 1
    assert drift_bound(118, 120, 10.24) == pytest.approx(0.17, abs=0.005)
    assert drift_bound(118, 120, 60) == pytest.approx(1.0, abs=0.005)


def test_the_authors_crop_drifts_as_it_does_in_their_code(tmp_path):
    """A random clip of the mix: out of step already where it begins, by the time since the downbeats."""
    tracks = [
        click_track(tmp_path / "a.wav", 117, seconds=70, first=0.3),
        click_track(tmp_path / "b.wav", 119, seconds=70, first=0.3, polarity=-1.0),
    ]
    mixer = Mixer(tracks, "bam", probability=1.0, pairs="bins", crop="authors")
    clips = Clips(tracks, RATE, SAMPLES, seed=1, mixer=mixer)
    largest = 0.0
    for epoch in range(8):
        clip = clips.item(epoch, 0)
        since = clip.start - clip.pair.start
        for polarity, bpm in ((1.0, 117), (-1.0, 119)):
            found = heard(clip.wave, polarity=polarity) + since  # from the aligned downbeats on
            beats = found * bpm / 60
            assert len(found) >= 5
            # each grid runs on from the common downbeat at its own tempo; a click cut in half begins late
            assert np.abs(beats[1:] - np.round(beats[1:])).max() * 60 / bpm <= ROUNDING
        largest = max(largest, drift_bound(117, 119, since))
    assert largest > 0.25  # half a beat, where the default has at most 0.17 at the end of a clip


def test_the_authors_mix_is_normalised_whole_and_may_be_too_short(tmp_path):
    tracks = [click_track(tmp_path / f"{first}.wav", 120, first=first, seconds=8) for first in (0.3, 0.77)]
    clip = Clips(tracks, RATE, SAMPLES, mixer=Mixer(tracks, "bam", probability=1.0, crop="authors")).item(
        0, 0
    )
    assert clip.wave.shape == (SAMPLES,)
    assert clip.wave.abs().max() == pytest.approx(0.5, abs=1e-6)
    assert not clip.wave[8 * RATE :].any()
    end = np.array([0.3, 7.999, 8.5])
    late = [dataclasses.replace(track, downbeats=end[1:]) for track in tracks]
    alone = Clips(late, RATE, SAMPLES, mixer=Mixer(late, "bam", probability=1.0, crop="authors")).item(0, 0)
    assert alone.outcome == "too short"


def test_a_whole_clip_fits_after_the_downbeat_where_possible():
    rng = np.random.default_rng(0)
    downbeats = np.arange(0.5, 30, 2.0)
    for _ in range(50):
        start, other = align((downbeats, downbeats[:3]), (30.0, 30.0), SECONDS, rng)
        assert start + SECONDS <= 30
        assert other in downbeats[:2]  # never the last
    short = align((downbeats[:3], downbeats), (6.0, 30.0), SECONDS, rng)
    assert short[0] in downbeats[:2]
    with pytest.raises(ValueError, match="got 1 downbeats"):
        align((downbeats[:1], downbeats), (30.0, 30.0), SECONDS, rng)
    with pytest.raises(ValueError, match=r"first downbeat is at 0\.5 s"):
        align((downbeats, downbeats), (0.2, 30.0), SECONDS, rng)


def test_a_tempo_that_is_only_right_on_average_is_out_of_step(tmp_path):
    """Half the track at 100 BPM, half at 140: on average 120, at no time."""
    even = click_track(tmp_path / "even.wav", 120, seconds=60)
    slow, fast = np.arange(0.3, 30, 0.6), np.arange(30.0, 59, 60 / 140)
    beats = np.concatenate([slow, fast])
    uneven = dataclasses.replace(even, beats=beats, downbeats=beats[::4])
    tracks = [even, uneven]
    assert abs(exact_tempo(beats) - 120) < 1

    def drawn(**settings):
        clips = Clips(tracks, RATE, SAMPLES, mixer=Mixer(tracks, "blm", probability=1.0, **settings))
        return {clips.item(epoch, index).outcome for epoch in range(10) for index in (0, 1)}

    assert drawn() == {"out of step"}
    assert drawn(max_offset=inf) == drawn(crop="authors") == {"mixed"}


# ---- lambda ----


def within_beta(values, alpha=5.0):
    """Mean and variance within four standard errors of Beta(alpha, alpha)'s: false alarm below 1e-4."""
    n, variance = len(values), 1 / (4 * (2 * alpha + 1))
    mean_error = np.sqrt(variance / n)
    variance_error = variance * np.sqrt((2 - 6 / (2 * alpha + 3)) / n)  # excess kurtosis of a symmetric Beta
    return abs(np.mean(values) - 0.5) < 4 * mean_error and abs(np.var(values) - variance) < 4 * variance_error


def test_lambda_is_beta_5_5(tmp_path):
    tracks = [click_track(tmp_path / f"{first}.wav", 120, first=first) for first in (0.3, 0.77)]
    mixer = Mixer(tracks, "bam", probability=1.0)
    drawn = [mixer.draw(0, generator(0, "mix", epoch, 0), SECONDS, lambda i: 30.0) for epoch in range(3000)]
    weights = np.array([pair.lam for pair in drawn])
    assert within_beta(weights)
    assert not within_beta(weights, alpha=4.0)  # negative control
    rng = np.random.default_rng(0)
    assert not within_beta([mixing_weight(rng, 1.0) for _ in range(3000)])


def test_swapping_the_pair_swaps_lambda():
    a, b = torch.randn(2, 3, 500, generator=torch.Generator().manual_seed(0))
    lam = torch.tensor([0.2, 0.5, 0.9])
    torch.testing.assert_close(audio_mixup(a, b, lam), audio_mixup(b, a, 1 - lam), rtol=0, atol=1e-6)
    torch.testing.assert_close(latent_mixup(a, b, 1.0), a, rtol=0, atol=0)
    torch.testing.assert_close(audio_mixup(a[0], b[0], 0.25), 0.25 * a[0] + 0.75 * b[0])
    latents = a[:, :480].reshape(3, 8, 20, 3)
    other = b[:, :480].reshape(3, 8, 20, 3)
    mixed = latent_mixup(latents, other, lam)
    torch.testing.assert_close(mixed[1], 0.5 * latents[1] + 0.5 * other[1])
    with pytest.raises(ValueError, match="expected one per item"):
        latent_mixup(latents, other, lam[:2])
    with pytest.raises(ValueError, match="expected one shape"):
        audio_mixup(a, b[:2], lam)


def test_clap_hears_the_whole_clip_or_the_authors_nine_tenths():
    wave = torch.ones(2, 163872)
    assert fit_length(wave, SAMPLES).shape == (2, SAMPLES)
    padded = authors_padding(wave, SAMPLES)
    assert padded.shape == (2, SAMPLES)
    assert padded[:, :147456].all()
    assert not padded[:, 147456:].any()
    assert fit_length(wave[:, :100], 200)[:, 100:].sum() == 0


# ---- tempo and partners ----


def test_tempo_as_the_authors_round_it():
    assert tempo(np.array([1.0])) == 0
    assert tempo(np.arange(0, 10, 0.5)) == 120
    assert exact_tempo(np.arange(20) * 60 / 118.4) == pytest.approx(118.4)
    assert tempo(np.arange(20) * 60 / 118.4) == 118


def all_partners(index, tempi, k, factors=(1.0,)):
    return {
        other for other, there in enumerate(tempi)
        if other != index and any(abs(there / f - tempi[index]) <= k + 1e-9 for f in factors)
    }  # fmt: skip


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("k", [0.0, 0.5, 3.0, 80.0])
def test_neighbours_are_what_comparing_all_pairs_finds(fold, k):
    rng = np.random.default_rng(5)
    tempi = [float(value) for value in rng.choice(np.arange(60, 181, 0.5), 60)]
    tempi[7] = 0.0  # no beats
    index = TempoNeighbours(tempi, k, fold=fold)
    known = [np.inf if value == 0 else value for value in tempi]
    for track in (0, 7, 20, 59):
        expected = set() if track == 7 else all_partners(track, known, k, (0.5, 1.0, 2.0) if fold else (1.0,))
        assert index.count(track) == len(expected)
        drawn = {index.draw(track, rng) for _ in range(40 * max(1, len(expected)))}
        assert drawn == (expected or {None})


def test_partners_are_drawn_alike():
    rng = np.random.default_rng(0)
    for index in (
        TempoBins([120, 121, 122, 122, 200]),
        TempoNeighbours([120, 60, 240, 120, 90], 1, fold=True),
    ):
        counts = np.bincount([index.draw(3, rng) for _ in range(6000)], minlength=5)
        assert counts[3] == counts[4] == 0
        assert np.abs(counts[:3] - 2000).max() < 5 * np.sqrt(2000)


def test_bins_have_edges_that_neighbours_do_not_have():
    tempi = [119, 120]
    assert TempoBins(tempi).count(0) == 0
    assert TempoNeighbours(tempi, 1.0).count(0) == 1


def test_ten_thousand_tracks_are_an_index_not_a_search():
    tempi = np.random.default_rng(0).uniform(60, 180, 10_000)
    index = TempoNeighbours([float(v) for v in tempi], 1.0, fold=True)
    rng = np.random.default_rng(1)
    drawn = [index.draw(track, rng) for track in range(10_000)]
    apart = [
        min(abs(tempi[d] / f - tempi[t]) for f in (0.5, 1, 2)) for t, d in enumerate(drawn) if d is not None
    ]
    assert len(apart) == 10_000
    assert max(apart) <= 1.0 + 1e-6


def test_half_tempo_is_in_step_too(tmp_path):
    tracks = [click_track(tmp_path / "a.wav", 60, first=0.4), click_track(tmp_path / "b.wav", 120)]
    with pytest.raises(ValueError, match="no two of these have tempi within 1 BPM"):
        Mixer(tracks, "bam")
    ours, theirs, clip = aligned_clicks(tracks, fold=True)
    assert np.abs(ours - theirs[::2][: len(ours)]).max() < IN_STEP
    offsets = residual_offsets(
        (tracks[0].beats, tracks[1].beats), (clip.pair.start, clip.pair.partner_start), SECONDS
    )
    assert len(offsets) == len(ours)
    assert np.abs(offsets).max() < 1e-9
