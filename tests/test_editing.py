"""Edits in numbers: what they keep, what they change, and that items of a batch do not mix."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from editing_clips import RATE, ROW, SAMPLES, ask, clip

from musicldm import MusicLDMPipeline
from musicldm.editing import Region, audio_to_audio, extend, inpaint, vary
from musicldm.editing.regions import column_edges, latent_mask
from musicldm.editing.source import start
from musicldm.editing.splice import reach
from musicldm.editing.strength import steps_kept
from musicldm.inputs import Grid
from musicldm.mel import MUSICLDM_16K
from musicldm.schedulers import SOLVERS, DPMSolver, InverseDDIM

LATENT_ATOL = 1e-4  # the promise of the README; the copy itself is exact
HALF = SAMPLES // 2
AUDIO_ATOL = 1e-4  # a batch, or another clip length, sums in another order
DRAWN = 0.05  # relative: two draws of 4096 values, once nothing of the clip is left
CHANGED = 1e-3  # ten times that: what differs, differs by more
LEAK = 0.02  # of the change's energy outside of its band: the skirts of a Hann window

GENERATING = tuple(solver for solver in SOLVERS if solver is not InverseDDIM)
STOCHASTIC = DPMSolver(algorithm_type="sde-dpmsolver++")


def cheap(x, timestep, cond):
    """In the U-Net's place where only the paths around it are tested: every latent hears its neighbours, the
    time and the prompt."""
    heard = 0.4 * x + 0.2 * x.roll(1, 2) + 0.2 * x.roll(1, 3) + 0.1 * torch.tanh(x.flip(1))
    return heard + cond[:, : x.shape[1], None, None] + timestep / 10_000


@pytest.fixture
def real(tiny):
    """The pipeline with its own U-Net."""
    return MusicLDMPipeline(**tiny.components)


@pytest.fixture
def pipe(real, monkeypatch):
    monkeypatch.setattr(real.unet, "forward", cheap)
    return real


def reconstruction(pipe, wave: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return pipe.decode(pipe.encode(wave, RATE))[:, : wave.shape[-1]].numpy()


def source(pipe, wave: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return pipe.encode(wave, RATE)


# strength


@pytest.mark.parametrize("solver", GENERATING, ids=lambda s: s.__name__)
def test_strength_0_is_the_reconstruction_and_1_ignores_the_input(pipe, solver):
    pipe.scheduler = solver.from_config(pipe.scheduler)
    wave = clip()
    none = audio_to_audio(pipe, wave, RATE, ask(), strength=0).audios
    assert np.abs(none - reconstruction(pipe, wave)).max() < AUDIO_ATOL
    latent = ask(output_type="latent")
    full = audio_to_audio(pipe, wave, RATE, latent, strength=1).audios
    free = pipe("a waltz", SAMPLES / RATE, 4, seed=5, output_type="latent").audios
    assert torch.equal(full, free)
    assert torch.equal(full, audio_to_audio(pipe, clip(1), RATE, latent, strength=1.0).audios)


@pytest.mark.parametrize("solver", [*GENERATING, STOCHASTIC], ids=lambda s: getattr(s, "__name__", "sde"))
def test_a_little_strength_stays_near_and_much_goes_far_with_every_solver(pipe, solver, monkeypatch):
    """With the exact denoiser of Gaussian latents as wide as the clip's, which is a model that can be trusted."""
    pipe.scheduler = solver if solver is STOCHASTIC else solver.from_config(pipe.scheduler)
    wave = clip()
    kept = source(pipe, wave)
    variance, squared = kept.var(), pipe.scheduler.noise_schedule.alphas_cumprod

    def gaussian(x, timestep, cond):
        alpha = float(squared[round(float(timestep))])
        return (1 - alpha) ** 0.5 / (alpha * variance + 1 - alpha) * x

    monkeypatch.setattr(pipe.unet, "forward", gaussian)
    request = ask(num_inference_steps=20, output_type="latent", guidance_scale=1.0)
    distances = [
        ((audio_to_audio(pipe, wave, RATE, request, strength=s).audios - kept).norm() / kept.norm()).item()
        for s in (0.05, 0.3, 0.6, 0.9, 1)
    ]
    assert all(b > a - DRAWN for a, b in pairwise(distances))
    assert distances[0] < distances[1] < distances[2]
    assert 0 < distances[0] < 0.5
    assert 0.8 < distances[-1] < 2


@pytest.mark.parametrize(
    ("strength", "steps", "kept"),
    [(0, 50, 0), (0.001, 50, 1), (0.5, 50, 25), (0.999, 50, 50), (1, 50, 50), (1.0, 1, 1), (0.3, 7, 2)],
)
def test_strength_says_how_many_steps_are_made(pipe, strength, steps, kept):
    assert steps_kept(strength, steps) == kept
    made = []
    request = ask(num_inference_steps=steps, callback=lambda step, *_: made.append(step), guidance_scale=1.0)
    if steps < 50:
        audio_to_audio(pipe, clip(samples=ROW), RATE, request, strength=strength)
        assert len(made) == kept


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True])
def test_a_strength_that_is_none_is_refused(pipe, strength):
    with pytest.raises((ValueError, TypeError), match="strength: got"):
        audio_to_audio(pipe, clip(), RATE, ask(), strength=strength)


def test_the_prompt_matters_and_without_one_it_is_the_clips_own_sound(pipe):
    wave = clip()
    latent = {"output_type": "latent", "guidance_scale": 3.0}
    own = audio_to_audio(pipe, wave, RATE, ask(None, **latent), strength=0.9).audios
    embeds = pipe.embed_audio(wave, RATE)
    told = audio_to_audio(pipe, wave, RATE, ask(None, prompt_embeds=embeds, **latent), strength=0.9).audios
    text = audio_to_audio(pipe, wave, RATE, ask("drum and bass", **latent), strength=0.9).audios
    assert torch.equal(own, told)
    assert (own - text).abs().max() > CHANGED


# pairing


def edits(pipe, waves, request):
    part = Region(start=0.2, end=0.4)
    yield "strength", audio_to_audio(pipe, waves, RATE, request, strength=0.6)
    yield "inpaint", inpaint(pipe, waves, RATE, request, regions=[part])
    yield "extend", extend(pipe, waves, RATE, request, after=0.1, before=0.1)


@pytest.mark.parametrize(("scheduler", "prompted"), [(None, False), (STOCHASTIC, True)], ids=["ddim", "sde"])
def test_an_item_of_a_batch_is_the_item_alone(pipe, scheduler, prompted):
    pipe.scheduler = scheduler or pipe.scheduler
    waves, prompts = np.stack([clip(k, HALF) for k in range(2)]), ["a waltz", "drum and bass"]
    together = dict(edits(pipe, waves, ask(prompts if prompted else None, seed=40)))
    for k in range(2):
        alone = dict(edits(pipe, waves[k], ask(prompts[k] if prompted else None, seed=40 + k)))
        for name, output in together.items():
            assert np.abs(output.audios[k] - alone[name].audios[0]).max() < AUDIO_ATOL, name


def test_an_item_of_a_batch_is_the_item_alone_with_the_real_network(real):
    waves = np.stack([clip(k, 8 * ROW) for k in range(2)])
    request = ask(["a waltz", "drum and bass"], seed=40, num_inference_steps=2)
    together = audio_to_audio(real, waves, RATE, request, strength=0.9).audios
    alone = audio_to_audio(
        real, waves[1], RATE, replace(request, prompt="drum and bass", seed=41), strength=0.9
    )
    assert np.abs(together[1] - alone.audios[0]).max() < AUDIO_ATOL
    assert np.abs(together[0] - alone.audios[0]).max() > CHANGED


def test_control_another_pairing_is_heard(pipe):
    """Each of clip, prompt and seed exchanged alone changes the result by more than the tolerance."""
    waves = np.stack([clip(0, HALF), clip(1, HALF)])
    request = ask(["a waltz", "drum and bass"], seed=[40, 41], guidance_scale=5.0, output_type="latent")
    first = {name: output.audios[0] for name, output in edits(pipe, waves, request)}
    wrong = (
        (waves[::-1], request),
        (waves, replace(request, prompt=["drum and bass", "a waltz"])),
        (waves, replace(request, seed=[41, 40])),
    )
    for exchanged, changed in wrong:
        for name, output in edits(pipe, exchanged.copy(), changed):
            assert (output.audios[0] - first[name]).abs().max() > CHANGED, name


def test_noise_of_an_item_is_the_items_own_bit_for_bit(pipe, monkeypatch):
    import musicldm.stages as module

    drawn = []
    original = module.draw_noise

    def spy(*args):
        drawn.append(original(*args))
        return drawn[-1]

    monkeypatch.setattr(module, "draw_noise", spy)
    pipe.scheduler = STOCHASTIC
    waves = np.stack([clip(k) for k in range(2)])
    audio_to_audio(pipe, waves, RATE, ask(["a", "b"], seed=40), strength=0.75)
    together, drawn[:] = drawn[:], []
    audio_to_audio(pipe, waves[1], RATE, ask("b", seed=41), strength=0.75)
    assert len(together) == len(drawn) == 1 + 3
    assert all(torch.equal(both[1:], one) for both, one in zip(together, drawn, strict=True))


def test_one_clip_goes_with_many_prompts_and_one_prompt_with_many_clips(pipe):
    waves = np.stack([clip(0), clip(1)])
    latent = {"output_type": "latent"}
    many = audio_to_audio(pipe, waves[0], RATE, ask(["a", "b"], seed=[1, 2], **latent), strength=0.5).audios
    alone = audio_to_audio(pipe, waves[0], RATE, ask("b", seed=2, **latent), strength=0.5).audios
    assert (many[1:] - alone).abs().max() < LATENT_ATOL
    clips = audio_to_audio(pipe, waves, RATE, ask("a", seed=[1, 2], **latent), strength=0.5).audios
    alone = audio_to_audio(pipe, waves[1], RATE, ask("a", seed=2, **latent), strength=0.5).audios
    assert (clips[1:] - alone).abs().max() < LATENT_ATOL
    with pytest.raises(ValueError, match="got 2 prompts for 3 clips, expected 1 or one each"):
        audio_to_audio(pipe, np.stack([waves[0]] * 3), RATE, ask(["a", "b"]), strength=0.5)


def test_variations_are_candidates_with_seeds_of_their_own(pipe):
    waves = np.stack([clip(0, HALF), clip(1, HALF)])
    output = vary(pipe, waves, RATE, ask(seed=10), count=3, strength=0.5)
    assert output.audios.shape == (6, HALF)
    assert output.scores.shape == (2, 3)
    for i, j in ((0, 0), (1, 2)):
        seed = 10 + 3 * i + int(output.order[i, j])
        alone = audio_to_audio(pipe, waves[i], RATE, ask(seed=seed), strength=0.5).audios[0]
        assert np.abs(output.audios[3 * i + j] - alone).max() < AUDIO_ATOL


# inpainting


@pytest.mark.parametrize("solver", [*GENERATING, STOCHASTIC], ids=lambda s: getattr(s, "__name__", "sde"))
def test_outside_of_the_region_latents_are_the_clips_with_every_solver(pipe, solver):
    pipe.scheduler = solver if solver is STOCHASTIC else solver.from_config(pipe.scheduler)
    wave = clip()
    made = inpaint(pipe, wave, RATE, ask(output_type="latent"), regions=[Region(start=0.4, end=0.8)]).audios
    kept = source(pipe, wave)
    changed = (made - kept).abs().amax(dim=(0, 1, 3))
    assert changed[:10].max() <= LATENT_ATOL
    assert changed[20:].max() <= LATENT_ATOL
    assert changed[10:20].min() > CHANGED


@pytest.mark.parametrize("solver", GENERATING, ids=lambda s: s.__name__)
def test_the_network_sees_what_is_kept_at_the_level_of_each_row(pipe, solver, monkeypatch):
    pipe.scheduler = solver.from_config(pipe.scheduler)
    wave, seen = clip(), []
    forward = pipe.unet.forward

    def spy(x, timestep, cond):
        seen.append(x.clone())
        return forward(x, timestep, cond)

    monkeypatch.setattr(pipe.unet, "forward", spy)
    inpaint(pipe, wave, RATE, ask(guidance_scale=1.0), regions=[Region(start=0.4, end=0.8)])
    plan = pipe.scheduler.plan(4)
    noise = torch.randn(1, 8, 32, 16, generator=torch.Generator().manual_seed(5))
    assert len(seen) == len(plan)
    for row, x in enumerate(seen):
        expected = plan.input_scale[row].item() * plan.noised(source(pipe, wave), noise, row)
        for kept in (slice(0, 10), slice(20, 32)):
            assert (x[:, :, kept] - expected[:, :, kept]).abs().max() < LATENT_ATOL


@pytest.mark.parametrize("regions", [[(0.4, 0.8)], [(0.0, 0.3)], [(0.9, None)], [(0.1, 0.2), (1.0, 1.1)]])
def test_away_from_the_region_the_audio_is_the_plain_reconstruction(pipe, regions):
    wave = clip(samples=3 * SAMPLES)
    parts = [Region(start=a, end=b) for a, b in regions]
    made = inpaint(pipe, wave, RATE, ask(), regions=parts).audios[0]
    plain = reconstruction(pipe, wave)[0]
    inside = np.zeros(len(wave), bool)
    for first, last in regions:
        rows = int(first * RATE) // ROW, -(-int(len(wave) if last is None else last * RATE) // ROW)
        around = slice(max(0, rows[0] * ROW - reach(pipe)), rows[1] * ROW + reach(pipe))
        inside[around] = True
        inner = slice(rows[0] * ROW, min(rows[1] * ROW, len(wave)))
        assert np.abs(made[inner] - plain[inner]).max() > CHANGED
    assert (~inside).sum() > ROW
    assert np.abs(made - plain)[~inside].max() < AUDIO_ATOL


def test_control_decoding_alone_changes_the_whole_clip(pipe):
    """Why `splice` is there: the decoder's statistics are those of the whole clip."""
    wave = clip(samples=3 * SAMPLES)
    request = ask(output_type="latent")
    made = inpaint(pipe, wave, RATE, request, regions=[Region(start=0.4, end=0.8)]).audios
    with torch.no_grad():
        decoded = pipe.decode(made)[0, : len(wave)].numpy()
    assert np.abs(decoded - reconstruction(pipe, wave)[0])[2 * SAMPLES :].max() > 10 * AUDIO_ATOL


@pytest.mark.parametrize(("low", "high"), [(4000, None), (0, 500), (1000, 3000)])
def test_in_frequency_the_other_bands_are_the_plain_reconstruction(pipe, low, high):
    wave = clip()
    band = [Region(low=low, high=high)]
    latents = inpaint(pipe, wave, RATE, ask(output_type="latent"), regions=band).audios
    edges = np.array(column_edges(MUSICLDM_16K, 4))
    top = edges[-1] if high is None else high
    touched = (edges[:-1] < top) & (edges[1:] > low)
    changed = (latents - source(pipe, wave)).abs().amax(dim=(0, 1, 2)).numpy()
    assert changed[~touched].max() <= LATENT_ATOL
    assert changed[touched].min() > CHANGED

    made, plain = inpaint(pipe, wave, RATE, ask(), regions=band).audios[0], reconstruction(pipe, wave)[0]
    first, last = np.flatnonzero(touched)[[0, -1]]
    lower, upper = edges[max(first - 1, 0)], edges[min(last + 2, len(edges) - 1)]
    spectrum = np.abs(np.fft.rfft(np.hanning(SAMPLES) * (made - plain))) ** 2
    frequency = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    outside = (frequency < lower - 32) | (frequency > upper + 32)  # two bins of the splice's window
    assert spectrum[outside].sum() < LEAK**2 * spectrum.sum()
    assert np.abs(made - plain).max() > CHANGED


def test_a_band_of_a_stretch_of_time_is_both(pipe):
    wave = clip(samples=3 * SAMPLES)
    region = [Region(start=0.4, end=0.8, low=4000)]
    made, plain = inpaint(pipe, wave, RATE, ask(), regions=region).audios[0], reconstruction(pipe, wave)[0]
    away = 20 * ROW + reach(pipe) + MUSICLDM_16K.n_fft + (reach(pipe))
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
def test_regions_that_are_none_are_refused_before_any_work(pipe, monkeypatch, name):
    def never(*args, **kwargs):
        raise AssertionError("a network ran")

    for module in (pipe.unet, pipe.vae.encoder, pipe.vocoder, pipe.text_encoder):
        monkeypatch.setattr(module, "forward", never)
    regions, message = BAD_REGIONS[name]
    with pytest.raises(ValueError, match=message):
        inpaint(pipe, clip(), RATE, ask(), regions=regions)


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


# continuation


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (0.31, 0.0), (0.25, 0.77)])
@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES + 123])
def test_an_extended_clip_has_the_exact_length_and_the_clip_inside(pipe, before, after, samples):
    wave = clip(samples=samples)
    output = extend(pipe, wave, RATE, ask(), before=before, after=after)
    assert output.audios.shape == (1, round(before * RATE) + samples + round(after * RATE))
    latents = extend(pipe, wave, RATE, ask(output_type="latent"), before=before, after=after).audios
    first = -(-round(before * RATE) // ROW)
    assert latents.shape[2] == first + -(-(samples + round(after * RATE)) // ROW)
    with torch.no_grad():
        edit = start(pipe, wave, RATE, ask(), before=round(before * RATE), after=round(after * RATE))
        plain = pipe.decode(edit.source)[0, edit.skipped :][: output.audios.shape[1]].numpy()
    inside = slice(
        round(before * RATE) + (reach(pipe) if before else 0),
        round(before * RATE) + (samples // ROW * ROW - reach(pipe) if after else samples),
    )
    assert np.abs(output.audios[0] - plain)[inside].max() < AUDIO_ATOL
    new = np.abs(output.audios[0] - plain)
    assert not before or new[: round(before * RATE)].max() > CHANGED
    assert not after or new[round(before * RATE) + samples :].max() > CHANGED


def test_what_is_kept_of_an_extended_clip_is_where_it_was(pipe):
    wave = clip()
    made = extend(pipe, wave, RATE, ask(output_type="latent"), before=0.31, after=0.3).audios
    with torch.no_grad():
        edit = start(pipe, wave, RATE, ask(), before=round(0.31 * RATE), after=round(0.3 * RATE))
    first = -(-round(0.31 * RATE) // ROW)
    changed = (made - edit.source).abs().amax(dim=(0, 1, 3))
    assert changed[first : first + 32].max() <= LATENT_ATOL
    assert changed[:first].min() > CHANGED
    assert changed[first + 32 :].min() > CHANGED
    assert (edit.source[:, :, first + 4 : first + 28] - source(pipe, wave)[:, :, 4:28]).norm() < 0.5 * source(
        pipe, wave
    ).norm()


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ({}, ValueError, "got 0 s before and 0 s after"),
        ({"after": -1.0}, ValueError, "got after -1.0, expected a finite number of seconds"),
        ({"before": NAN}, ValueError, "got before nan"),
        ({"after": INF}, ValueError, "got after inf"),
        ({"after": "8"}, TypeError, "got after '8', expected a number of seconds"),
    ],
)
def test_lengths_to_add_are_checked(pipe, lengths, error, message):
    with pytest.raises(error, match=message):
        extend(pipe, clip(), RATE, ask(), **lengths)


def test_a_clip_must_have_a_row_to_go_on_from(pipe):
    with pytest.raises(ValueError, match=r"got a clip of 0\.0399375 s, expected 0\.04 s or more"):
        extend(pipe, clip(samples=639), RATE, ask(), after=1)


# long clips


def test_a_clip_longer_than_the_model_is_sampled_in_windows(pipe, monkeypatch):
    """The tiny model's window has 64 rows."""
    wave, rows = clip(samples=150 * ROW), []

    def spy(x, timestep, cond):
        rows.append(x.shape[2])
        return cheap(x, timestep, cond)

    monkeypatch.setattr(pipe.unet, "forward", spy)
    made = audio_to_audio(pipe, wave, RATE, ask(), strength=0.5).audios
    assert made.shape == (1, 150 * ROW)
    assert set(rows) == {64}
    del rows[:]
    inpaint(pipe, wave, RATE, ask(num_inference_steps=1), regions=[Region(start=3.0, end=3.2)])
    assert rows == [64, 64]  # 5 rows and half a window on both sides: two windows, not three


def test_a_long_clip_is_kept_outside_of_the_region_too(pipe):
    wave = clip(samples=150 * ROW)
    made = inpaint(pipe, wave, RATE, ask(output_type="latent"), regions=[Region(start=3.0, end=3.2)]).audios
    changed = (made - source(pipe, wave)).abs().amax(dim=(0, 1, 3))
    assert changed[:75].max() <= LATENT_ATOL
    assert changed[80:].max() <= LATENT_ATOL
    assert changed[75:80].min() > CHANGED


# inputs


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_the_length_is_that_of_the_clip_at_the_models_rate(pipe, rate):
    wave = np.stack([clip(samples=rate // 3)] * 2, axis=1)  # stereo
    assert audio_to_audio(pipe, wave, rate, ask(), strength=0.5).audios.shape == (
        1,
        round(rate // 3 * RATE / rate),
    )


@pytest.mark.parametrize("samples", [1, 100, 639, 641, 5 * ROW + 1])
def test_short_clips_are_edited_at_their_own_length(pipe, samples):
    assert audio_to_audio(pipe, clip(samples=samples), RATE, ask(), strength=0.5).audios.shape == (1, samples)


def test_silence_is_edited_and_remarked_upon_where_it_is_the_prompt(pipe, caplog):
    with caplog.at_level(logging.WARNING):
        output = audio_to_audio(pipe, np.zeros(SAMPLES, np.float32), RATE, ask(None), strength=0.5)
    assert np.isfinite(output.audios).all()
    assert "is nearly silent" in caplog.text


def test_bad_requests_are_refused_before_any_work(pipe, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a network ran")

    for module in (pipe.unet, pipe.vae.encoder, pipe.vocoder, pipe.text_encoder):
        monkeypatch.setattr(module, "forward", never)
    wave = clip()
    for settings, message in (
        ({"num_inference_steps": 0}, "num_inference_steps: got 0"),
        ({"guidance_scale": -1}, "guidance_scale: got -1"),
        ({"seed": [1, 2]}, "a list of 2 for 1 samples"),
        ({"prompt": []}, "empty list"),
        ({"output_type": "mp3"}, "expected 'np', 'pt' or 'latent'"),
    ):
        with pytest.raises(ValueError, match=message):
            audio_to_audio(pipe, wave, RATE, replace(ask(), **settings), strength=0.5)
    with pytest.raises(ValueError, match="1 samples are NaN"):
        audio_to_audio(
            pipe, np.where(np.arange(SAMPLES) == 3, np.nan, wave).astype("f4"), RATE, ask(), strength=0.5
        )


def test_a_plan_to_noise_is_no_plan_for_an_edit(pipe):
    pipe.scheduler = InverseDDIM.from_config(pipe.scheduler)
    with pytest.raises(
        ValueError, match="InverseDDIM leads from clips to noise; edit with one that leads to clips"
    ):
        audio_to_audio(pipe, clip(), RATE, ask(), strength=0.5)


def test_an_overflow_is_an_error(tiny):
    import copy

    vocoder = copy.deepcopy(tiny.vocoder)
    with torch.no_grad():
        vocoder.conv_post.bias.fill_(float("nan"))
    pipe = MusicLDMPipeline(**{**tiny.components, "vocoder": vocoder})
    with pytest.raises(FloatingPointError, match="the waveform holds NaN or infinity"):
        audio_to_audio(pipe, clip(), RATE, ask(), strength=0)
