"""Long clips, timelines and loops through the pipeline's parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import draw

from musicldm.editing import timeline
from musicldm.editing.long_form import Form, compose, decode, layout_of
from musicldm.editing.timeline import TimelineError
from musicldm.sampling import draw_noise
from musicldm.stages import Request
from musicldm.vae import VAE

FEW = {"num_inference_steps": 2, "seed": 3}
WINDOW = 0.32  # seconds, 8 rows of latents: the tiny checkpoint's own 64 would take longer
EMBEDDED = 1e-6  # of latents, where the prompt was embedded beside another
AUDIO = 1e-4  # of one clip alone and in a batch
TURNED = 1e-4  # of a loop rotated: the vocoder's pieces fall elsewhere; audio of order 1


def long(seconds=0.8, **other):
    return Form(seconds=seconds, window=WINDOW, **other)


def test_a_clip_of_one_window_is_the_pipelines_own_bit_for_bit(pipe):
    expected = pipe("a waltz", audio_length_in_s=0.5, negative_prompt="noise", **FEW).audios
    request = Request(prompt="a waltz", negative_prompt="noise", **FEW)
    assert np.array_equal(compose(pipe, request, Form(seconds=0.5)).audios, expected)
    longer = compose(pipe, request, long(0.5)).audios
    assert longer.shape == expected.shape
    assert np.abs(longer - expected).max() > 1e-3


def test_the_length_is_exact_and_callers_options_work(pipe):
    seen = []
    request = Request(
        prompt=["a", "b"], num_waveforms_per_prompt=2, guidance_interval=(0, 600), feature_reuse=2, eta=1.0,
        callback=lambda step, timestep, x: seen.append(tuple(x.shape)), **FEW,
    )  # fmt: skip
    output = compose(pipe, request, long(0.777, at_once=2))
    assert output.audios.shape == (4, round(16000 * 0.777))
    assert output.scores.shape == (2, 2)
    assert np.isfinite(output.audios).all()
    assert seen == [(4, 8, 20, 16)] * 2
    latents = compose(pipe, Request(prompt="a", output_type="latent", **FEW), long()).audios
    assert latents.shape == (1, 8, 20, 16)


def test_a_clip_of_a_batch_is_the_clip_alone(pipe):
    both = compose(pipe, Request(prompt=["a", "b"], **FEW), long(at_once=2)).audios
    alone = compose(pipe, Request(prompt="b", **{**FEW, "seed": 4}), long()).audios
    assert np.abs(both[1] - alone[0]).max() < AUDIO
    assert np.abs(both[0] - alone[0]).max() > 10 * AUDIO


def test_a_timeline_of_one_prompt_is_that_prompt(pipe):
    cues = timeline.parse("0 a waltz\n0:00.4 a waltz")
    by_timeline = compose(pipe, Request(**FEW), long(timeline=cues)).audios
    assert np.abs(by_timeline - compose(pipe, Request(prompt="a waltz", **FEW), long()).audios).max() < AUDIO


def test_a_timeline_changes_what_comes_after_its_cue(pipe):
    """At one step, latents before the first window under another prompt are untouched."""
    one = {"num_inference_steps": 1, "seed": 3, "output_type": "latent"}
    form = long(1.6, timeline=timeline.parse("0 a waltz\n0.8 loud noise"), transition=0.0)
    plain = compose(pipe, Request(prompt="a waltz", **one), long(1.6)).audios
    changed = (compose(pipe, Request(**one), form).audios - plain)[0].abs().amax(dim=(0, 2))
    layout = layout_of(pipe, form)
    first = next(
        start for start, centre in zip(layout.starts, layout.centres, strict=True) if centre * 0.04 >= 0.8
    )
    assert changed[:first].max() < EMBEDDED
    assert changed[first:].min() > 50 * EMBEDDED


def test_candidates_of_a_timeline_are_ranked_by_its_middle(pipe):
    form = long(timeline=timeline.parse("0 a waltz\n0.3 loud noise"), transition=0.0)
    output = compose(pipe, Request(num_waveforms_per_prompt=2, output_type="pt", **FEW), form)
    heard = pipe.clap.embed_audio(output.audios, 16000)
    cosines = (heard @ pipe.clap.embed_text(["loud noise"]).T).flatten()
    assert cosines.tolist() == pytest.approx(output.scores[0].tolist(), abs=1e-4)


def test_decoding_by_one_window_is_the_pipelines_own(pipe):
    latents = draw(1, 8, 8, 16)
    assert torch.equal(decode(pipe, latents, layout_of(pipe, long(0.32))), pipe.decode(latents))


def test_the_decoder_sees_windows_alone_however_long_the_clip(pipe, monkeypatch):
    seen = []
    original = VAE.decode
    monkeypatch.setattr(VAE, "decode", lambda vae, x: seen.append(x.shape[2]) or original(vae, x))
    with torch.no_grad():
        decode(pipe, draw(1, 8, 50, 16), layout_of(pipe, long(2.0)))
    assert len(seen) > 5
    assert set(seen) == {8}


@pytest.mark.parametrize("seconds", [0.24, 0.32, 0.96])
def test_a_loop_decodes_to_the_same_loop_wherever_it_begins(pipe, seconds):
    """Rotated by one window's distance: the end meets the beginning as any two neighbours do."""
    form = Form(seconds=seconds, window=WINDOW, overlap=0.5, loop=True)
    layout = layout_of(pipe, form)
    hop = layout.starts[1]
    latents = draw(1, 8, layout.rows, 16)
    with torch.no_grad():
        wave = decode(pipe, latents, layout)
        turned = decode(pipe, latents.roll(hop, 2), layout)
    assert wave.shape == (1, round(16000 * seconds))
    assert (turned - wave.roll(hop * 640, 1)).abs().max() < TURNED
    if seconds == 0.96:
        ends = layout_of(pipe, Form(seconds=seconds, window=WINDOW, overlap=0.5))
        with torch.no_grad():
            one, two = (decode(pipe, x, ends)[:, : wave.shape[1]] for x in (latents, latents.roll(hop, 2)))
        assert (two - one.roll(hop * 640, 1)).abs().max() > 10 * TURNED


def test_a_loop_is_sampled_as_a_loop(pipe, monkeypatch):
    """The same noise rotated by one window's distance gives the same clip rotated."""
    form = Form(seconds=0.64, window=WINDOW, overlap=0.5, loop=True)
    hop = layout_of(pipe, form).starts[1]
    request = Request(prompt="a", **FEW)
    straight = compose(pipe, request, form).audios
    monkeypatch.setattr("musicldm.stages.draw_noise", lambda *args: draw_noise(*args).roll(hop, 2))
    turned = compose(pipe, request, form).audios
    assert np.abs(turned - np.roll(straight, hop * 640, axis=1)).max() < TURNED
    assert np.abs(turned - straight).max() > 10 * TURNED


def test_loops_with_a_timeline_turn_back_to_the_first_cue(pipe):
    form = long(1.28, loop=True, timeline=timeline.parse("0 a waltz\n0.64 loud noise"), transition=0.3)
    assert compose(pipe, Request(**FEW), form).audios.shape == (1, 20480)


@pytest.mark.parametrize(
    ("request_", "form", "error", "message"),
    [
        ({"prompt": "a"}, {"seconds": 0.0}, ValueError, "audio_length_in_s: got 0.0"),
        ({"prompt": "a"}, {"window": 0.0}, ValueError, "got 0.0, expected at least 0.04 s"),
        ({"prompt": "a"}, {"overlap": 1.0}, ValueError, "overlap: got 1.0, expected a share"),
        ({"prompt": "a"}, {"overlap": -0.1}, ValueError, "overlap: got -0.1"),
        ({"prompt": "a"}, {"at_once": 0}, ValueError, "at_once: got 0"),
        ({"prompt": "a"}, {"transition": -1.0}, ValueError, "transition: got -1.0"),
        (
            {"prompt": "a"},
            {"seconds": 0.5, "loop": True},
            ValueError,
            r"whole latent rows of 0.04 s; near: 0.48, 0.52",
        ),
        ({}, {}, ValueError, "neither of prompt"),
        ({"prompt": "a"}, {"timeline": timeline.parse("0 a")}, ValueError, "both a prompt and a timeline"),
        (
            {},
            {"timeline": timeline.parse("0 a\n9 b")},
            TimelineError,
            "'b' begins at 9 s, but the clip ends at 0.8 s",
        ),
        (
            {},
            {"timeline": timeline.parse("0 a\n0.78 b")},
            TimelineError,
            "'b' lasts from 0.78 to 0.8 s, and no window",
        ),
    ],
)
def test_what_cannot_be_honoured_is_an_error(pipe, request_, form, error, message):
    with pytest.raises(error, match=message):
        compose(pipe, Request(**FEW, **request_), Form(**{"seconds": 0.8, "window": WINDOW, **form}))
