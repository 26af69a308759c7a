"""Audio to audio, and that items of a batch do not mix, whatever the edit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

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

from musicldm.editing import Region, audio_to_audio, extend, inpaint, vary
from musicldm.editing.strength import steps_kept

HALF = SAMPLES // 2
DRAWN = 0.05  # relative: two draws of 4096 values, once nothing of the clip is left


@pytest.mark.parametrize("solver", GENERATING, ids=lambda s: s.__name__)
def test_strength_0_is_the_reconstruction_and_1_ignores_the_input(quick, solver):
    quick.scheduler = solver.from_config(quick.scheduler)
    wave = clip()
    none = audio_to_audio(quick, wave, RATE, ask(), strength=0).audios
    assert np.abs(none - reconstruction(quick, wave)).max() < AUDIO_ATOL
    latent = ask(output_type="latent")
    full = audio_to_audio(quick, wave, RATE, latent, strength=1).audios
    free = quick("a waltz", SAMPLES / RATE, 4, seed=5, output_type="latent").audios
    assert torch.equal(full, free)
    assert torch.equal(full, audio_to_audio(quick, clip(1), RATE, latent, strength=1.0).audios)


@pytest.mark.parametrize("solver", [*GENERATING, STOCHASTIC], ids=lambda s: getattr(s, "__name__", "sde"))
def test_a_little_strength_stays_near_and_much_goes_far_with_every_solver(quick, solver, monkeypatch):
    """With the exact denoiser of Gaussian latents as wide as the clip's, which is a model that can be trusted."""
    quick.scheduler = solver if solver is STOCHASTIC else solver.from_config(quick.scheduler)
    wave = clip()
    kept = source(quick, wave)
    variance, squared = kept.var(), quick.scheduler.noise_schedule.alphas_cumprod

    def gaussian(x, timestep, cond):
        alpha = float(squared[round(float(timestep))])
        return (1 - alpha) ** 0.5 / (alpha * variance + 1 - alpha) * x

    monkeypatch.setattr(quick.unet, "forward", gaussian)
    request = ask(num_inference_steps=20, output_type="latent", guidance_scale=1.0)
    distances = [
        ((audio_to_audio(quick, wave, RATE, request, strength=s).audios - kept).norm() / kept.norm()).item()
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
def test_strength_says_how_many_steps_are_made(quick, strength, steps, kept):
    assert steps_kept(strength, steps) == kept
    made = []
    request = ask(num_inference_steps=steps, callback=lambda step, *_: made.append(step), guidance_scale=1.0)
    if steps < 50:
        audio_to_audio(quick, clip(samples=ROW), RATE, request, strength=strength)
        assert len(made) == kept


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True])
def test_a_strength_that_is_none_is_refused(quick, strength):
    with pytest.raises((ValueError, TypeError), match="strength: got"):
        audio_to_audio(quick, clip(), RATE, ask(), strength=strength)


def test_the_prompt_matters_and_without_one_it_is_the_clips_own_sound(quick):
    wave = clip()
    latent = {"output_type": "latent", "guidance_scale": 3.0}
    own = audio_to_audio(quick, wave, RATE, ask(None, **latent), strength=0.9).audios
    embeds = quick.embed_audio(wave, RATE)
    told = audio_to_audio(quick, wave, RATE, ask(None, prompt_embeds=embeds, **latent), strength=0.9).audios
    text = audio_to_audio(quick, wave, RATE, ask("drum and bass", **latent), strength=0.9).audios
    assert torch.equal(own, told)
    assert (own - text).abs().max() > CHANGED


# pairing


def edits(quick, waves, request):
    part = Region(start=0.2, end=0.4)
    yield "strength", audio_to_audio(quick, waves, RATE, request, strength=0.6)
    yield "inpaint", inpaint(quick, waves, RATE, request, regions=[part])
    yield "extend", extend(quick, waves, RATE, request, after=0.1, before=0.1)


@pytest.mark.parametrize(("scheduler", "prompted"), [(None, False), (STOCHASTIC, True)], ids=["ddim", "sde"])
def test_an_item_of_a_batch_is_the_item_alone(quick, scheduler, prompted):
    quick.scheduler = scheduler or quick.scheduler
    waves, prompts = np.stack([clip(k, HALF) for k in range(2)]), ["a waltz", "drum and bass"]
    together = dict(edits(quick, waves, ask(prompts if prompted else None, seed=40)))
    for k in range(2):
        alone = dict(edits(quick, waves[k], ask(prompts[k] if prompted else None, seed=40 + k)))
        for name, output in together.items():
            assert np.abs(output.audios[k] - alone[name].audios[0]).max() < AUDIO_ATOL, name


def test_an_item_of_a_batch_is_the_item_alone_with_the_real_network(pipe):
    waves = np.stack([clip(k, 8 * ROW) for k in range(2)])
    request = ask(["a waltz", "drum and bass"], seed=40, num_inference_steps=2)
    together = audio_to_audio(pipe, waves, RATE, request, strength=0.9).audios
    alone = audio_to_audio(
        pipe, waves[1], RATE, replace(request, prompt="drum and bass", seed=41), strength=0.9
    )
    assert np.abs(together[1] - alone.audios[0]).max() < AUDIO_ATOL
    assert np.abs(together[0] - alone.audios[0]).max() > CHANGED


def test_control_another_pairing_is_heard(quick):
    """Each of clip, prompt and seed exchanged alone changes the result by more than the tolerance."""
    waves = np.stack([clip(0, HALF), clip(1, HALF)])
    request = ask(["a waltz", "drum and bass"], seed=[40, 41], guidance_scale=5.0, output_type="latent")
    first = {name: output.audios[0] for name, output in edits(quick, waves, request)}
    wrong = (
        (waves[::-1], request),
        (waves, replace(request, prompt=["drum and bass", "a waltz"])),
        (waves, replace(request, seed=[41, 40])),
    )
    for exchanged, changed in wrong:
        for name, output in edits(quick, exchanged.copy(), changed):
            assert (output.audios[0] - first[name]).abs().max() > CHANGED, name


def test_noise_of_an_item_is_the_items_own_bit_for_bit(quick, monkeypatch):
    import musicldm.stages as module

    drawn = []
    original = module.draw_noise

    def spy(*args):
        drawn.append(original(*args))
        return drawn[-1]

    monkeypatch.setattr(module, "draw_noise", spy)
    quick.scheduler = STOCHASTIC
    waves = np.stack([clip(k) for k in range(2)])
    audio_to_audio(quick, waves, RATE, ask(["a", "b"], seed=40), strength=0.75)
    together, drawn[:] = drawn[:], []
    audio_to_audio(quick, waves[1], RATE, ask("b", seed=41), strength=0.75)
    assert len(together) == len(drawn) == 1 + 3
    assert all(torch.equal(both[1:], one) for both, one in zip(together, drawn, strict=True))


def test_one_clip_goes_with_many_prompts_and_one_prompt_with_many_clips(quick):
    waves = np.stack([clip(0), clip(1)])
    latent = {"output_type": "latent"}
    many = audio_to_audio(quick, waves[0], RATE, ask(["a", "b"], seed=[1, 2], **latent), strength=0.5).audios
    alone = audio_to_audio(quick, waves[0], RATE, ask("b", seed=2, **latent), strength=0.5).audios
    assert (many[1:] - alone).abs().max() < LATENT_ATOL
    clips = audio_to_audio(quick, waves, RATE, ask("a", seed=[1, 2], **latent), strength=0.5).audios
    alone = audio_to_audio(quick, waves[1], RATE, ask("a", seed=2, **latent), strength=0.5).audios
    assert (clips[1:] - alone).abs().max() < LATENT_ATOL
    with pytest.raises(ValueError, match="got 2 prompts for 3 clips, expected 1 or one each"):
        audio_to_audio(quick, np.stack([waves[0]] * 3), RATE, ask(["a", "b"]), strength=0.5)


def test_variations_are_candidates_with_seeds_of_their_own(quick):
    waves = np.stack([clip(0, HALF), clip(1, HALF)])
    output = vary(quick, waves, RATE, ask(seed=10), count=3, strength=0.5)
    assert output.audios.shape == (6, HALF)
    assert output.scores.shape == (2, 3)
    for i, j in ((0, 0), (1, 2)):
        seed = 10 + 3 * i + int(output.order[i, j])
        alone = audio_to_audio(quick, waves[i], RATE, ask(seed=seed), strength=0.5).audios[0]
        assert np.abs(output.audios[3 * i + j] - alone).max() < AUDIO_ATOL
