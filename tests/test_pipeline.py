from __future__ import annotations

import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TINY, draw

from musicldm import CLAP, MusicLDMPipeline
from musicldm.schedulers import DDIM, DPMSolver

BATCH_ATOL = 1e-4  # a batch sums in another order than a single clip; the promise of the README
SHORT = {"audio_length_in_s": 0.64, "num_inference_steps": 2}


def test_the_call_of_the_diffusers_documentation(pipe):
    audio = pipe(
        "Techno music with a strong, upbeat tempo and high melodic riffs",
        num_inference_steps=10,
        audio_length_in_s=5.0,
    ).audios[0]
    assert isinstance(audio, np.ndarray)
    assert (audio.shape, audio.dtype) == ((80000,), np.float32)


def test_the_default_length_is_that_of_the_training_clips(pipe):
    assert pipe("a", num_inference_steps=1).audios.shape == (1, 40960)


@pytest.mark.parametrize(
    ("seconds", "samples"),
    [(0.29, 4640), (0.57, 9120), (2.01, 32160), (0.04, 640), (0.75, 12000), (1, 16000)],
)
def test_lengths_are_exact(pipe, seconds, samples):
    assert pipe("a", audio_length_in_s=seconds, num_inference_steps=1).audios.shape == (1, samples)


def test_output_types(pipe):
    call = {"prompt": ["a", "b"], "seed": 0, **SHORT}
    array = pipe(**call).audios
    tensor = pipe(**call, output_type="pt").audios
    latents = pipe(**call, output_type="latent").audios
    assert np.array_equal(array, tensor.numpy())
    assert latents.shape == (2, 8, 16, 16)
    assert torch.equal(pipe.decode(latents)[:, :10240], tensor)


@pytest.mark.parametrize("output_type", ["np", "pt", "latent"])
def test_a_tuple_on_request_for_every_output_type(pipe, output_type):
    result = pipe("a", return_dict=False, output_type=output_type, **SHORT)
    assert isinstance(result, tuple)
    assert len(result) == 1


def test_a_clip_is_the_same_alone_and_in_any_batch(pipe):
    together = pipe(["a", "b", "c"], seed=40, **SHORT).audios
    for k, prompt in enumerate("abc"):
        assert np.abs(pipe(prompt, seed=40 + k, **SHORT).audios[0] - together[k]).max() < BATCH_ATOL
    assert np.abs(pipe(["c", "a"], seed=[42, 40], **SHORT).audios - together[[2, 0]]).max() < BATCH_ATOL
    assert np.abs(together[0] - pipe("a", seed=43, **SHORT).audios[0]).max() > 10 * BATCH_ATOL


def test_step_noise_of_a_clip_does_not_depend_on_its_batch(pipe):
    together = pipe(["a", "b"], seed=3, eta=1.0, **SHORT).audios
    assert np.abs(pipe("b", seed=4, eta=1.0, **SHORT).audios[0] - together[1]).max() < BATCH_ATOL


def test_seeds_draw_float32_noise_whatever_the_dtype(tiny, monkeypatch):
    drawn = []
    import musicldm.stages as module

    def spy(*args):
        drawn.append(original(*args))
        return drawn[-1]

    original = module.draw_noise
    monkeypatch.setattr(module, "draw_noise", spy)
    half = MusicLDMPipeline(**{**tiny.components, "unet": copy.deepcopy(tiny.unet).bfloat16()})
    for pipe in (tiny, half):
        pipe("a", seed=9, output_type="latent", **SHORT)
    assert torch.equal(*drawn)


def test_a_negative_prompt_may_be_one_for_all_or_one_each(pipe):
    one = pipe(["a", "b"], negative_prompt="noise", seed=1, **SHORT).audios
    each = pipe(["a", "b"], negative_prompt=["noise", "noise"], seed=1, **SHORT).audios
    none = pipe(["a", "b"], seed=1, **SHORT).audios
    assert np.abs(one - each).max() < BATCH_ATOL
    assert np.abs(one - none).max() > 10 * BATCH_ATOL


def test_a_negative_prompt_goes_with_embeddings(pipe):
    embeds = pipe.clap.embed_text(["a", "b"])
    text = pipe(["a", "b"], negative_prompt="noise", seed=1, **SHORT).audios
    assert (
        np.abs(pipe(prompt_embeds=embeds, negative_prompt="noise", seed=1, **SHORT).audios - text).max()
        < BATCH_ATOL
    )
    negative = pipe.clap.embed_text(["noise"] * 2)
    both = pipe(prompt_embeds=embeds, negative_prompt_embeds=negative, seed=1, **SHORT).audios
    assert np.abs(both - text).max() < BATCH_ATOL


def test_no_prompt_is_ever_ignored(pipe):
    """The authors' code replaces one condition in ten by the empty one, at inference too."""
    empty = pipe("", seed=0, **SHORT).audios
    for _ in range(30):
        assert np.abs(pipe("drum and bass", seed=0, **SHORT).audios - empty).max() > 10 * BATCH_ATOL


def test_candidates_are_ranked_inside_their_prompt_and_name_their_noise(pipe):
    n, prompts = 3, ["fast drum and bass", "a quiet piano"]
    output = pipe(prompts, num_waveforms_per_prompt=n, seed=100, **SHORT)
    assert output.audios.shape == (6, 10240)
    assert output.scores.shape == output.order.shape == (2, n)
    assert (np.diff(output.scores, axis=1) <= 0).all()
    assert [sorted(row) for row in output.order.tolist()] == [[0, 1, 2]] * 2
    for i in range(2):
        for j in range(n):
            alone = pipe(prompts[i], seed=int(100 + i * n + output.order[i, j]), **SHORT).audios[0]
            assert np.abs(alone - output.audios[i * n + j]).max() < BATCH_ATOL
    again = pipe(prompts, num_waveforms_per_prompt=n, seed=100, **SHORT)
    assert np.array_equal(again.order, output.order)
    assert np.array_equal(again.scores, output.scores)


def test_scores_are_the_cosines_of_the_clips(pipe):
    output = pipe("a waltz", num_waveforms_per_prompt=2, seed=0, output_type="pt", **SHORT)
    heard = pipe.clap.embed_audio(output.audios, 16000)
    cosines = (heard @ pipe.clap.embed_text(["a waltz"]).T).flatten()
    assert cosines.tolist() == pytest.approx(output.scores.flatten().tolist(), abs=1e-5)


def test_embeddings_are_ranked_too(pipe):
    embeds = pipe.clap.embed_text(["a"])
    assert pipe(prompt_embeds=embeds, num_waveforms_per_prompt=2, seed=0, **SHORT).scores.shape == (1, 2)


def test_one_candidate_is_not_ranked(pipe):
    output = pipe(["a", "b"], **SHORT)
    assert output.scores is None
    assert output.order.tolist() == [[0], [0]]


def test_the_callback_sees_and_edits_the_steps(pipe):
    seen = []

    def callback(step, timestep, latents):
        seen.append((step, timestep))
        latents[:, :, :2] = 0

    latents = pipe("a", num_inference_steps=5, audio_length_in_s=0.64, callback=callback, callback_steps=2,
                   output_type="latent").audios  # fmt: skip
    assert seen == [(0, 801), (2, 401), (4, 1)]
    assert (latents[:, :, :2] == 0).all()


def test_the_scheduler_can_be_replaced(pipe):
    before = pipe("a", seed=0, **SHORT).audios
    pipe.scheduler = DPMSolver.from_config(pipe.scheduler.config)
    assert np.abs(pipe("a", seed=0, **SHORT).audios - before).max() > 10 * BATCH_ATOL


def test_a_scheduler_keeps_its_own_eta(pipe):
    by_call = pipe("a", eta=1.0, seed=0, **SHORT).audios
    pipe.scheduler = replace(pipe.scheduler, eta=1.0)
    assert np.array_equal(pipe("a", seed=0, **SHORT).audios, by_call)


def test_parts_are_shared_not_copied(tiny):
    other = MusicLDMPipeline(**tiny.components)
    assert other.unet is tiny.unet
    assert other.components.keys() == {
        "vae", "text_encoder", "tokenizer", "feature_extractor", "unet", "scheduler", "vocoder"
    }  # fmt: skip


def test_configs_keep_the_hubs_names(tiny):
    assert tiny.vocoder.config.sampling_rate == 16000
    assert tiny.vae.config.scaling_factor == 0.9137406
    assert tiny.unet.config.in_channels == 8


def test_what_is_saved_loads_to_the_same_pipeline(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    again = MusicLDMPipeline.from_pretrained(tmp_path)
    for name in ("unet", "vae", "vocoder", "text_encoder"):
        one, two = getattr(tiny, name).state_dict(), getattr(again, name).state_dict()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert (again.unet.config, again.vae.config, again.vocoder.config, again.scheduler) == (
        tiny.unet.config, tiny.vae.config, tiny.vocoder.config, tiny.scheduler
    )  # fmt: skip
    assert np.array_equal(again("a", seed=0, **SHORT).audios, tiny("a", seed=0, **SHORT).audios)


def test_dtype_is_the_callers_choice():
    pipe = MusicLDMPipeline.from_pretrained(TINY, torch_dtype=torch.bfloat16)
    assert {next(m.parameters()).dtype for m in (pipe.unet, pipe.vae, pipe.vocoder, pipe.text_encoder)} == {
        torch.bfloat16
    }
    audio = pipe("a", seed=0, num_waveforms_per_prompt=2, **SHORT).audios
    assert audio.dtype == np.float32
    pipe.to(torch.float32)
    assert next(pipe.vae.parameters()).dtype == torch.float32


def test_mixed_precision_runs(tiny):
    pipe = MusicLDMPipeline(**{**tiny.components, "unet": copy.deepcopy(tiny.unet).bfloat16()})
    exact = tiny("a", seed=0, output_type="latent", **SHORT).audios
    mixed = pipe("a", seed=0, output_type="latent", **SHORT).audios
    assert 0 < (mixed - exact).abs().max() / exact.abs().max() < 0.1  # bfloat16 has 8 bits
    assert pipe("a", seed=0, **SHORT).audios.dtype == np.float32


def test_offloading_needs_a_gpu(pipe):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: tests/gpu offloads to it")
    with pytest.raises(RuntimeError, match="there is no GPU 0 here"):
        pipe.enable_model_cpu_offload(gpu_id=0)


def test_offloading_brings_each_network_and_takes_it_back(pipe, monkeypatch):
    """On a machine without a GPU: the device is the CPU, and the moves are recorded."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    expected = pipe("a", seed=0, num_waveforms_per_prompt=2, **SHORT).audios
    pipe.enable_model_cpu_offload()
    gpu, pipe._offload_to = pipe._offload_to, torch.device("cpu")
    assert gpu == torch.device("cuda", 0)
    names = {id(m): name for name, m in pipe.components.items()}
    moves = []
    original = torch.nn.Module.to

    def record(module, *args):
        if id(module) in names:
            moves.append((names[id(module)], "back" if args == ("cpu",) else "there"))
        return original(module, *args)

    monkeypatch.setattr(torch.nn.Module, "to", record)
    monkeypatch.setattr(type(pipe.text_encoder), "to", record)
    assert np.array_equal(pipe("a", seed=0, num_waveforms_per_prompt=2, **SHORT).audios, expected)
    there, back = moves[::2], moves[1::2]
    assert [name for name, _ in there] == [name for name, _ in back]  # never two at a time
    assert {name for name, _ in there} == {"text_encoder", "unet", "vae", "vocoder"}
    assert {way for _, way in there} == {"there"}
    assert {way for _, way in back} == {"back"}


def test_a_negative_prompt_without_guidance_is_remarked_upon(pipe, caplog):
    with caplog.at_level(logging.WARNING):
        pipe("a", negative_prompt="noise", guidance_scale=1.0, **SHORT)
        assert "the negative prompt has no effect" in caplog.text
        caplog.clear()
        pipe("a", guidance_scale=1.0, **SHORT)
    assert not caplog.records


def test_a_part_can_be_exchanged(pipe):
    before = pipe("a", seed=0, **SHORT).audios
    pipe.vocoder = copy.deepcopy(pipe.vocoder)
    with torch.no_grad():
        pipe.vocoder.conv_post.weight.mul_(-1)
        pipe.vocoder.conv_post.bias.mul_(-1)
    assert np.abs(pipe("a", seed=0, **SHORT).audios + before).max() < BATCH_ATOL


def test_an_overflow_is_an_error_not_silence(tiny):
    vae = copy.deepcopy(tiny.vae)
    with torch.no_grad():
        vae.decoder.conv_out.bias.fill_(float("nan"))
    pipe = MusicLDMPipeline(**{**tiny.components, "vae": vae})
    with pytest.raises(
        FloatingPointError, match=r"use float32 or bfloat16, for one network with pipe\.vae\.to"
    ):
        pipe("a", **SHORT)


def test_a_silent_clip_is_remarked_upon(tiny, caplog):
    vocoder = copy.deepcopy(tiny.vocoder)
    with torch.no_grad():
        vocoder.conv_post.weight.zero_()
        vocoder.conv_post.bias.zero_()
    with caplog.at_level(logging.WARNING):
        MusicLDMPipeline(**{**tiny.components, "vocoder": vocoder})("a", **SHORT)
    assert "clip 0 is nearly silent" in caplog.text


def test_parts_that_do_not_fit_are_named(tiny):
    class Narrow:
        config = replace(tiny.vae.config, latent_channels=4)

    with pytest.raises(ValueError, match="latent channels, U-Net input 8, VAE 4"):
        MusicLDMPipeline(**{**tiny.components, "vae": Narrow()})


EMBEDS = draw(2, 512)
BAD_CALLS = {
    "no prompt": ({}, ValueError, "got neither of prompt and prompt_embeds"),
    "prompt and embeds": ({"prompt": "a", "prompt_embeds": EMBEDS}, ValueError, "got both of prompt"),
    "empty list": ({"prompt": []}, ValueError, "empty list, expected at least one string"),
    "number": ({"prompt": 3}, TypeError, "got int 3, expected a string or a list of strings"),
    "list with a number": ({"prompt": ["a", 3]}, TypeError, "expected a string or a list"),
    "bytes": ({"prompt": b"a"}, TypeError, "expected a string"),
    "negatives do not match": ({"prompt": ["a"] * 3, "negative_prompt": ["x"] * 2}, ValueError, "2 negative prompts for 3"),
    "negative of wrong type": ({"prompt": "a", "negative_prompt": 1.5}, TypeError, "negative_prompt"),
    "both negatives": (
        {"prompt": ["a"] * 2, "negative_prompt": "x", "negative_prompt_embeds": EMBEDS}, ValueError, "got both negative"
    ),
    "embeds of wrong width": ({"prompt_embeds": draw(2, 768)}, ValueError, r"got shape \(2, 768\), expected \(b, 512\)"),
    "embeds without batch": ({"prompt_embeds": draw(512)}, ValueError, r"got shape \(512,\)"),
    "embeds as list": ({"prompt_embeds": [1.0] * 512}, TypeError, "expected a tensor"),
    "embeds with NaN": ({"prompt_embeds": EMBEDS * float("nan")}, ValueError, "holds NaN"),
    "negative embeds do not match": (
        {"prompt": ["a"] * 3, "negative_prompt_embeds": EMBEDS}, ValueError, "2 negative prompts for 3 prompts"
    ),
    "length 0": ({"prompt": "a", "audio_length_in_s": 0}, ValueError, "expected at least 0.04 s"),
    "negative length": ({"prompt": "a", "audio_length_in_s": -1.0}, ValueError, "expected at least 0.04 s"),
    "length below a row": ({"prompt": "a", "audio_length_in_s": 0.039}, ValueError, "one row of latents"),
    "infinite length": ({"prompt": "a", "audio_length_in_s": float("inf")}, ValueError, "got inf"),
    "NaN length": ({"prompt": "a", "audio_length_in_s": float("nan")}, ValueError, "got nan"),
    "length as text": ({"prompt": "a", "audio_length_in_s": "5"}, TypeError, "expected a number of seconds"),
    "no steps": ({"prompt": "a", "num_inference_steps": 0}, ValueError, "num_inference_steps: got 0"),
    "too many steps": ({"prompt": "a", "num_inference_steps": 1001}, ValueError, "1001"),
    "half a step": ({"prompt": "a", "num_inference_steps": 2.5}, TypeError, "expected a whole number"),
    "guidance NaN": ({"prompt": "a", "guidance_scale": float("nan")}, ValueError, "guidance_scale: got nan"),
    "guidance below 0": ({"prompt": "a", "guidance_scale": -1}, ValueError, "guidance_scale: got -1"),
    "guidance as text": ({"prompt": "a", "guidance_scale": "2"}, TypeError, "guidance_scale"),
    "no waveforms": ({"prompt": "a", "num_waveforms_per_prompt": 0}, ValueError, "num_waveforms_per_prompt: got 0"),
    "callback_steps 0": ({"prompt": "a", "callback_steps": 0}, ValueError, "callback_steps: got 0"),
    "output type": ({"prompt": "a", "output_type": "mp3"}, ValueError, "expected 'np', 'pt' or 'latent'"),
    "eta above 1": ({"prompt": "a", "eta": 1.5}, ValueError, "eta must be between 0 and 1"),
    "latents of another length": (
        {"prompt": "a", "latents": draw(1, 8, 17, 16)}, ValueError, r"got shape \(1, 8, 17, 16\), expected \(1, 8, 64, 16\)"
    ),
    "latents with NaN": (
        {"prompt": "a", "latents": draw(1, 8, 64, 16) * float("nan")}, ValueError, "latents: hold NaN"
    ),
    "latents as array": ({"prompt": "a", "latents": np.zeros((1, 8, 64, 16))}, TypeError, "expected a tensor"),
    "too few generators": (
        {"prompt": ["a", "b"], "generator": [torch.Generator()]}, ValueError, "a list of 1 for 2 samples"
    ),
    "generator of wrong type": ({"prompt": "a", "generator": 42}, TypeError, "expected a torch.Generator"),
    "list of wrong type": ({"prompt": "a", "generator": [42]}, TypeError, "not a torch.Generator"),
    "generator and seed": ({"prompt": "a", "generator": torch.Generator(), "seed": 1}, ValueError, "got both generator and seed"),
    "too many seeds": ({"prompt": "a", "seed": [1, 2]}, ValueError, "a list of 2 for 1 samples"),
    "negative seed": ({"prompt": "a", "seed": -1}, ValueError, "seed: got -1"),
    "seed as float": ({"prompt": "a", "seed": 1.0}, TypeError, "expected a whole number"),
    "adapter that is not there": ({"prompt": "a", "cross_attention_kwargs": {"scale": 1}}, ValueError, "no adapter is loaded"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_are_refused_before_any_work(pipe, monkeypatch, name):
    arguments, error, message = BAD_CALLS[name]

    def never(*args, **kwargs):
        raise AssertionError("a network ran")

    for module in (pipe.unet, pipe.vae, pipe.vocoder, pipe.text_encoder):
        monkeypatch.setattr(module, "forward", never)
    monkeypatch.setattr(CLAP, "embed_text", never)
    with pytest.raises(error, match=message):
        pipe(**arguments)


def test_eta_for_a_solver_without_it_is_an_error(pipe):
    pipe.scheduler = DPMSolver.from_config(pipe.scheduler)
    with pytest.raises(ValueError, match=r"DPMSolver has no eta, got 0\.5"):
        pipe("a", eta=0.5, **SHORT)


@pytest.mark.parametrize("prompt", ["x" * 10_000, "🎹" * 300, "ジャズ・ピアノ", "a\x00b", "\n"])
def test_any_text_makes_a_clip(pipe, prompt):
    assert pipe(prompt, **SHORT).audios.shape == (1, 10240)


def test_ddim_is_the_published_solver(tiny):
    assert tiny.scheduler == DDIM()
