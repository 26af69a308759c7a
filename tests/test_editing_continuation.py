"""Continuation, long clips, and inputs of all kinds."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from editing_clips import (
    AUDIO_ATOL,
    CHANGED,
    LATENT_ATOL,
    RATE,
    ROW,
    SAMPLES,
    ask,
    cheap,
    clip,
    source,
)

from musicldm import MusicLDMPipeline
from musicldm.editing import Region, audio_to_audio, extend, inpaint
from musicldm.editing.source import start
from musicldm.editing.splice import reach
from musicldm.schedulers import InverseDDIM

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.5), (0.31, 0.0), (0.25, 0.77)])
@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES + 123])
def test_an_extended_clip_has_the_exact_length_and_the_clip_inside(quick, before, after, samples):
    wave = clip(samples=samples)
    output = extend(quick, wave, RATE, ask(), before=before, after=after)
    assert output.audios.shape == (1, round(before * RATE) + samples + round(after * RATE))
    latents = extend(quick, wave, RATE, ask(output_type="latent"), before=before, after=after).audios
    first = -(-round(before * RATE) // ROW)
    assert latents.shape[2] == first + -(-(samples + round(after * RATE)) // ROW)
    with torch.no_grad():
        edit = start(quick, wave, RATE, ask(), before=round(before * RATE), after=round(after * RATE))
        plain = quick.decode(edit.source)[0, edit.skipped :][: output.audios.shape[1]].numpy()
    inside = slice(
        round(before * RATE) + (reach(quick) if before else 0),
        round(before * RATE) + (samples // ROW * ROW - reach(quick) if after else samples),
    )
    assert np.abs(output.audios[0] - plain)[inside].max() < AUDIO_ATOL
    new = np.abs(output.audios[0] - plain)
    assert not before or new[: round(before * RATE)].max() > CHANGED
    assert not after or new[round(before * RATE) + samples :].max() > CHANGED


def test_what_is_kept_of_an_extended_clip_is_where_it_was(quick):
    wave = clip()
    made = extend(quick, wave, RATE, ask(output_type="latent"), before=0.31, after=0.3).audios
    with torch.no_grad():
        edit = start(quick, wave, RATE, ask(), before=round(0.31 * RATE), after=round(0.3 * RATE))
    first = -(-round(0.31 * RATE) // ROW)
    changed = (made - edit.source).abs().amax(dim=(0, 1, 3))
    assert changed[first : first + 32].max() <= LATENT_ATOL
    assert changed[:first].min() > CHANGED
    assert changed[first + 32 :].min() > CHANGED
    assert (
        edit.source[:, :, first + 4 : first + 28] - source(quick, wave)[:, :, 4:28]
    ).norm() < 0.5 * source(quick, wave).norm()


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
def test_lengths_to_add_are_checked(quick, lengths, error, message):
    with pytest.raises(error, match=message):
        extend(quick, clip(), RATE, ask(), **lengths)


def test_a_clip_must_have_a_row_to_go_on_from(quick):
    with pytest.raises(ValueError, match=r"got a clip of 0\.0399375 s, expected 0\.04 s or more"):
        extend(quick, clip(samples=639), RATE, ask(), after=1)


# long clips


def test_a_clip_longer_than_the_model_is_sampled_in_windows(quick, monkeypatch):
    """The tiny model's window has 64 rows."""
    wave, rows = clip(samples=150 * ROW), []

    def spy(x, timestep, cond):
        rows.append(x.shape[2])
        return cheap(x, timestep, cond)

    monkeypatch.setattr(quick.unet, "forward", spy)
    made = audio_to_audio(quick, wave, RATE, ask(), strength=0.5).audios
    assert made.shape == (1, 150 * ROW)
    assert set(rows) == {64}
    del rows[:]
    inpaint(quick, wave, RATE, ask(num_inference_steps=1), regions=[Region(start=3.0, end=3.2)])
    assert rows == [64, 64]  # 5 rows and half a window on both sides: two windows, not three


def test_a_long_clip_is_kept_outside_of_the_region_too(quick):
    wave = clip(samples=150 * ROW)
    made = inpaint(quick, wave, RATE, ask(output_type="latent"), regions=[Region(start=3.0, end=3.2)]).audios
    changed = (made - source(quick, wave)).abs().amax(dim=(0, 1, 3))
    assert changed[:75].max() <= LATENT_ATOL
    assert changed[80:].max() <= LATENT_ATOL
    assert changed[75:80].min() > CHANGED


# inputs


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_the_length_is_that_of_the_clip_at_the_models_rate(quick, rate):
    wave = np.stack([clip(samples=rate // 3)] * 2, axis=1)  # stereo
    assert audio_to_audio(quick, wave, rate, ask(), strength=0.5).audios.shape == (
        1,
        round(rate // 3 * RATE / rate),
    )


@pytest.mark.parametrize("samples", [1, 100, 639, 641, 5 * ROW + 1])
def test_short_clips_are_edited_at_their_own_length(quick, samples):
    assert audio_to_audio(quick, clip(samples=samples), RATE, ask(), strength=0.5).audios.shape == (
        1,
        samples,
    )


def test_silence_is_edited_and_remarked_upon_where_it_is_the_prompt(quick, caplog):
    with caplog.at_level(logging.WARNING):
        output = audio_to_audio(quick, np.zeros(SAMPLES, np.float32), RATE, ask(None), strength=0.5)
    assert np.isfinite(output.audios).all()
    assert "is nearly silent" in caplog.text


def test_bad_requests_are_refused_before_any_work(quick, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a network ran")

    for module in (quick.unet, quick.vae.encoder, quick.vocoder, quick.text_encoder):
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
            audio_to_audio(quick, wave, RATE, replace(ask(), **settings), strength=0.5)
    with pytest.raises(ValueError, match="1 samples are NaN"):
        audio_to_audio(
            quick, np.where(np.arange(SAMPLES) == 3, np.nan, wave).astype("f4"), RATE, ask(), strength=0.5
        )


def test_a_plan_to_noise_is_no_plan_for_an_edit(quick):
    quick.scheduler = InverseDDIM.from_config(quick.scheduler)
    with pytest.raises(
        ValueError, match="InverseDDIM leads from clips to noise; edit with one that leads to clips"
    ):
        audio_to_audio(quick, clip(), RATE, ask(), strength=0.5)


def test_an_overflow_is_an_error(tiny):
    vocoder = copy.deepcopy(tiny.vocoder)
    with torch.no_grad():
        vocoder.conv_post.bias.fill_(float("nan"))
    quick = MusicLDMPipeline(**{**tiny.components, "vocoder": vocoder})
    with pytest.raises(FloatingPointError, match="the waveform holds NaN or infinity"):
        audio_to_audio(quick, clip(), RATE, ask(), strength=0)
