"""Every case that Diffusers 0.33.1 and transformers 4.51.3 computed on the tiny checkpoint, with controls.

The tolerances are those of tests/goldens/README.md: two correct float32 implementations differ by about 1e-6.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import reference_cases, relative
from torch import nn

from musicldm import schedulers
from musicldm.sampling import Conditioned, Guided, sample
from musicldm.unet import SelfAttention, UNet
from musicldm.vocoder import HiFiGAN

MODULE_RTOL = 1e-5  # one network: order of summation
LATENT_RTOL = 1e-5  # a few solver steps of it
AUDIO_ATOL = 1e-4  # a whole call
DEFECT = 100  # a planted defect must miss the tolerance by this factor


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("case", reference_cases("unet"))
def test_unet(tiny, case):
    got = tiny.unet(case.inputs["sample"], case.inputs["timestep"], case.inputs["condition"])
    assert relative(got, case.outputs["output"]) < MODULE_RTOL


def roll_qkv(unet: UNet) -> None:
    for module in unet.modules():
        if isinstance(module, SelfAttention):
            module.qkv.weight.copy_(module.qkv.weight.roll(len(module.qkv.weight) // 3, 0))


def halve_heads(unet: UNet) -> None:
    for module in unet.modules():
        if isinstance(module, SelfAttention):
            module.heads //= 2


def loosen_norms(unet: UNet) -> None:
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = 1e-3


@pytest.mark.parametrize("defect", [roll_qkv, halve_heads, loosen_norms])
@pytest.mark.parametrize("case", reference_cases("unet")[:1])
def test_unet_with_a_defect_misses(tiny, case, defect):
    broken = copy.deepcopy(tiny.unet)
    defect(broken)
    got = broken(case.inputs["sample"], case.inputs["timestep"], case.inputs["condition"])
    assert relative(got, case.outputs["output"]) > DEFECT * MODULE_RTOL


@pytest.mark.parametrize("case", reference_cases("vae_encode"))
def test_vae_encoder(tiny, case):
    posterior = tiny.vae.encode(case.inputs["mel"])
    assert relative(posterior.mean, case.outputs["mean"]) < MODULE_RTOL
    assert relative(posterior.logvar, case.outputs["logvar"]) < MODULE_RTOL
    assert torch.equal(posterior.mode(), posterior.mean)
    control = tiny.vae.encode(case.inputs["mel"].flip(-1)).mean
    assert relative(control, case.outputs["mean"]) > DEFECT * MODULE_RTOL


@pytest.mark.parametrize("case", reference_cases("vae_decode"))
def test_vae_decoder_takes_unit_scale_latents(tiny, case):
    assert relative(tiny.vae.decode(case.inputs["scaled_latents"]), case.outputs["mel"]) < MODULE_RTOL
    control = tiny.vae.decode(case.inputs["latents"])  # not scaled
    assert relative(control, case.outputs["mel"]) > DEFECT * MODULE_RTOL


@pytest.mark.parametrize("case", reference_cases("vocoder"))
def test_vocoder(tiny, case):
    assert relative(tiny.vocoder(case.inputs["mel"]), case.outputs["waveform"]) < MODULE_RTOL
    other = HiFiGAN(replace(tiny.vocoder.config, leaky_relu_slope=0.11))
    other.load_state_dict(tiny.vocoder.state_dict())
    assert relative(other(case.inputs["mel"]), case.outputs["waveform"]) > DEFECT * MODULE_RTOL


@pytest.mark.parametrize("case", reference_cases("clap_text"))
def test_clap_text(tiny, case):
    texts = case.inputs["texts"]
    assert relative(tiny.clap.embed_text(texts), case.outputs["embeds"]) < MODULE_RTOL
    control = tiny.clap.embed_text([text + "!" for text in texts])
    assert relative(control, case.outputs["embeds"]) > DEFECT * MODULE_RTOL


def synthetic_clip(seconds: float, rate: int, noise_seed: int) -> np.ndarray:
    """The formula of the fixtures' README."""
    t = np.arange(round(seconds * rate)) / rate
    tones = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 1500 * t) * np.exp(-t)
    noise = np.random.RandomState(noise_seed).standard_normal(len(t))
    return (tones + 0.03 * noise).astype(np.float32)


@pytest.mark.parametrize("case", reference_cases("clap_audio"))
def test_clap_audio(tiny, case):
    wave = synthetic_clip(case.inputs["seconds"], case.inputs["rate"], case.inputs["noise_seed"])
    np.testing.assert_allclose(wave[:4], case.inputs["first_samples"], rtol=1e-6)  # the recipe is the same
    assert relative(tiny.clap.embed_audio(wave, case.inputs["rate"]), case.outputs["embeds"]) < MODULE_RTOL
    control = tiny.clap.embed_audio(wave, 44100)
    assert relative(control, case.outputs["embeds"]) > DEFECT * MODULE_RTOL


@pytest.mark.parametrize(
    "case", [c for c in reference_cases("pipeline") if "step_noise" not in c.values[0].inputs]
)
def test_pipeline(pipe, case):
    pipe.scheduler = schedulers.from_config(case.scheduler_config)
    timesteps = []
    got = pipe(**case.inputs, output_type="pt", callback=lambda k, t, x: timesteps.append(t)).audios
    assert (got - case.outputs["audios"]).abs().max() < AUDIO_ATOL
    assert timesteps == pytest.approx(case.outputs["timesteps"].tolist())
    latents = pipe(**case.inputs, output_type="latent").audios
    assert relative(latents, case.outputs["final_latents"]) < LATENT_RTOL


@pytest.mark.parametrize(
    "case", [c for c in reference_cases("pipeline") if "step_noise" in c.values[0].inputs]
)
def test_stochastic_sampling_with_given_noise(pipe, case):
    inputs = case.inputs
    plan = (
        schedulers.from_config(case.scheduler_config)
        .with_eta(inputs["eta"])
        .plan(inputs["num_inference_steps"])
    )
    cond, uncond = pipe.clap.embed_text([inputs["prompt"]]), pipe.clap.embed_text([""])
    denoiser = Guided(pipe.unet, cond, uncond, inputs["guidance_scale"])
    latents = sample(denoiser, plan, inputs["latents"], step_noise=inputs["step_noise"])
    assert relative(latents, case.outputs["final_latents"]) < LATENT_RTOL
    samples = case.outputs["audios"].shape[1]
    assert (pipe.decode(latents)[:, :samples] - case.outputs["audios"]).abs().max() < AUDIO_ATOL


@pytest.mark.parametrize("case", reference_cases("pipeline")[:1])
def test_pipeline_with_a_defect_misses(pipe, case):
    pipe.scheduler = schedulers.from_config(case.scheduler_config | {"steps_offset": 0})
    got = pipe(**case.inputs, output_type="pt").audios
    assert (got - case.outputs["audios"]).abs().max() > 10 * AUDIO_ATOL
    plan = schedulers.from_config(case.scheduler_config).plan(case.inputs["num_inference_steps"])
    unguided = sample(
        Conditioned(pipe.unet, pipe.clap.embed_text([case.inputs["prompt"]])), plan, case.inputs["latents"]
    )
    assert relative(unguided, case.outputs["final_latents"]) > DEFECT * LATENT_RTOL
