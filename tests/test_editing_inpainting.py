"""Inpainting in numbers: what it keeps, what it changes, which regions are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editing_clips import (
    AUDIO_ATOL,
    CHANGED,
    GENERATING,
    LATENT_ATOL,
    RATE,
    ROW,
    SAMPLES,
    STOCHASTIC,
    ask,
    clip,
    reconstruction,
    source,
)

from musicldm.editing import Region, inpaint
from musicldm.editing.regions import column_edges, latent_mask
from musicldm.editing.splice import reach
from musicldm.inputs import Grid
from musicldm.mel import MUSICLDM_16K

LEAK = 0.02  # of the change's energy outside of its band: the skirts of a Hann window


@pytest.mark.parametrize("solver", [*GENERATING, STOCHASTIC], ids=lambda s: getattr(s, "__name__", "sde"))
def test_outside_of_the_region_latents_are_the_clips_with_every_solver(quick, solver):
    quick.scheduler = solver if solver is STOCHASTIC else solver.from_config(quick.scheduler)
    wave = clip()
    made = inpaint(quick, wave, RATE, ask(output_type="latent"), regions=[Region(start=0.4, end=0.8)]).audios
    kept = source(quick, wave)
    changed = (made - kept).abs().amax(dim=(0, 1, 3))
    assert changed[:10].max() <= LATENT_ATOL
    assert changed[20:].max() <= LATENT_ATOL
    assert changed[10:20].min() > CHANGED


@pytest.mark.parametrize("solver", GENERATING, ids=lambda s: s.__name__)
def test_the_network_sees_what_is_kept_at_the_level_of_each_row(quick, solver, monkeypatch):
    quick.scheduler = solver.from_config(quick.scheduler)
    wave, seen = clip(), []
    forward = quick.unet.forward

    def spy(x, timestep, cond):
        seen.append(x.clone())
        return forward(x, timestep, cond)

    monkeypatch.setattr(quick.unet, "forward", spy)
    inpaint(quick, wave, RATE, ask(guidance_scale=1.0), regions=[Region(start=0.4, end=0.8)])
    plan = quick.scheduler.plan(4)
    noise = torch.randn(1, 8, 32, 16, generator=torch.Generator().manual_seed(5))
    assert len(seen) == len(plan)
    for row, x in enumerate(seen):
        expected = plan.input_scale[row].item() * plan.noised(source(quick, wave), noise, row)
        for kept in (slice(0, 10), slice(20, 32)):
            assert (x[:, :, kept] - expected[:, :, kept]).abs().max() < LATENT_ATOL


@pytest.mark.parametrize("regions", [[(0.4, 0.8)], [(0.0, 0.3)], [(0.9, None)], [(0.1, 0.2), (1.0, 1.1)]])
def test_away_from_the_region_the_audio_is_the_plain_reconstruction(quick, regions):
    wave = clip(samples=3 * SAMPLES)
    parts = [Region(start=a, end=b) for a, b in regions]
    made = inpaint(quick, wave, RATE, ask(), regions=parts).audios[0]
    plain = reconstruction(quick, wave)[0]
    inside = np.zeros(len(wave), bool)
    for first, last in regions:
        rows = int(first * RATE) // ROW, -(-int(len(wave) if last is None else last * RATE) // ROW)
        around = slice(max(0, rows[0] * ROW - reach(quick)), rows[1] * ROW + reach(quick))
        inside[around] = True
        inner = slice(rows[0] * ROW, min(rows[1] * ROW, len(wave)))
        assert np.abs(made[inner] - plain[inner]).max() > CHANGED
    assert (~inside).sum() > ROW
    assert np.abs(made - plain)[~inside].max() < AUDIO_ATOL


def test_control_decoding_alone_changes_the_whole_clip(quick):
    """Why `splice` is there: the decoder's statistics are those of the whole clip."""
    wave = clip(samples=3 * SAMPLES)
    request = ask(output_type="latent")
    made = inpaint(quick, wave, RATE, request, regions=[Region(start=0.4, end=0.8)]).audios
    with torch.no_grad():
        decoded = quick.decode(made)[0, : len(wave)].numpy()
    assert np.abs(decoded - reconstruction(quick, wave)[0])[2 * SAMPLES :].max() > 10 * AUDIO_ATOL


@pytest.mark.parametrize(("low", "high"), [(4000, None), (0, 500), (1000, 3000)])
def test_in_frequency_the_other_bands_are_the_plain_reconstruction(quick, low, high):
    wave = clip()
    band = [Region(low=low, high=high)]
    latents = inpaint(quick, wave, RATE, ask(output_type="latent"), regions=band).audios
    edges = np.array(column_edges(MUSICLDM_16K, 4))
    top = edges[-1] if high is None else high
    touched = (edges[:-1] < top) & (edges[1:] > low)
    changed = (latents - source(quick, wave)).abs().amax(dim=(0, 1, 2)).numpy()
    assert changed[~touched].max() <= LATENT_ATOL
    assert changed[touched].min() > CHANGED

    made, plain = inpaint(quick, wave, RATE, ask(), regions=band).audios[0], reconstruction(quick, wave)[0]
    first, last = np.flatnonzero(touched)[[0, -1]]
    lower, upper = edges[max(first - 1, 0)], edges[min(last + 2, len(edges) - 1)]
    spectrum = np.abs(np.fft.rfft(np.hanning(SAMPLES) * (made - plain))) ** 2
    frequency = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    outside = (frequency < lower - 32) | (frequency > upper + 32)  # two bins of the splice's window
    assert spectrum[outside].sum() < LEAK**2 * spectrum.sum()
    assert np.abs(made - plain).max() > CHANGED


def test_a_band_of_a_stretch_of_time_is_both(quick):
    wave = clip(samples=3 * SAMPLES)
    region = [Region(start=0.4, end=0.8, low=4000)]
    made, plain = inpaint(quick, wave, RATE, ask(), regions=region).audios[0], reconstruction(quick, wave)[0]
    away = 20 * ROW + reach(quick) + MUSICLDM_16K.n_fft + (reach(quick))
    assert np.abs(made - plain)[away:].max() < AUDIO_ATOL
    assert np.abs(made - plain)[10 * ROW : 20 * ROW].max() > CHANGED


GRID = Grid(RATE, 160, 4)
INF, NAN = float("inf"), float("nan")
BAD_REGIONS = {
    "none": ([], "got none, expected at least one part"),
    "reversed": ([Region(start=0.8, end=0.4)], "is reversed, from 0.8 to 0.4 s"),
    "empty": ([Region(start=0.4, end=0.4)], "is empty, from 0.4 to 0.4 s"),
    "under a sample": ([Region(start=0.4, end=0.40001)], "is empty, shorter than a sample"),
    "before the clip": ([Region(start=-0.1, end=0.4)], "expected 0 to 1.28 s, the clip's length"),
    "past the clip": ([Region(start=0.4, end=1.29)], "expected 0 to 1.28 s, the clip's length"),
    "after the clip": ([Region(start=2.0)], "expected 0 to 1.28 s, the clip's length"),
    "NaN": ([Region(start=NAN, end=1.0)], "expected finite numbers"),
    "endless": ([Region(start=0.2, end=INF)], "expected finite numbers"),
    "overlap": ([Region(start=0.2, end=0.5), Region(start=0.4, end=0.6)], "overlap; give their union"),
    "same twice": ([Region(low=4000), Region(low=4000)], "overlap"),
    "reversed band": ([Region(low=4000, high=2000)], "is reversed, from 4000 to 2000 Hz"),
    "empty band": ([Region(low=4000, high=4000)], "is empty, from 4000 to 4000 Hz"),
    "above the top": ([Region(low=9000)], "expected 0 to 8000 Hz, the highest frequency"),
    "too high": ([Region(low=4000, high=9000)], "expected 0 to 8000 Hz"),
    "below 0 Hz": ([Region(low=-5)], "expected 0 to 8000 Hz"),
    "everything": ([Region()], "covers the whole clip, nothing is left to keep"),
    "everything, rounded": ([Region(start=0.01, end=1.27)], "covers the whole clip"),
    "everything in parts": ([Region(end=0.5), Region(start=0.5)], "covers the whole clip"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_REGIONS)
def test_regions_that_are_none_are_refused_before_any_work(quick, monkeypatch, name):
    def never(*args, **kwargs):
        raise AssertionError("a network ran")

    for module in (quick.unet, quick.vae.encoder, quick.vocoder, quick.text_encoder):
        monkeypatch.setattr(module, "forward", never)
    regions, message = BAD_REGIONS[name]
    with pytest.raises(ValueError, match=message):
        inpaint(quick, clip(), RATE, ask(), regions=regions)


def test_a_bound_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="region: got '1', expected a number of s"):
        latent_mask([Region(start="1")], SAMPLES, GRID, MUSICLDM_16K)


def test_regions_are_rounded_outwards_to_whole_latents():
    mask = latent_mask([Region(start=0.41, end=0.79)], SAMPLES, GRID, MUSICLDM_16K)
    assert mask.shape == (32, 16)
    assert mask.all(dim=1).nonzero().flatten().tolist() == list(range(10, 20))
    touching = latent_mask(
        [Region(start=0.4, end=0.6), Region(start=0.6, end=0.8)], SAMPLES, GRID, MUSICLDM_16K
    )
    assert torch.equal(mask, touching)
    edges = column_edges(MUSICLDM_16K, 4)
    assert edges == sorted(edges)
    assert (edges[0], edges[-1], len(edges)) == (0, 8000, 17)
    on_an_edge = latent_mask([Region(low=edges[12])], SAMPLES, GRID, MUSICLDM_16K)
    assert on_an_edge[0].nonzero().flatten().tolist() == [12, 13, 14, 15]
    at_4k = latent_mask([Region(low=4000)], SAMPLES, GRID, MUSICLDM_16K)[0]
    assert edges[int(at_4k.nonzero()[0])] <= 4000 < edges[int(at_4k.nonzero()[0]) + 1]
