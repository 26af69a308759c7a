"""The authors' checkpoint, converted, computes what the authors' modules computed.

tests/goldens/tiny-original was made by the modules of RetroCirce/MusicLDM (see its README). The bounds are its
own: two right float32 implementations differ by about 1e-6, a planted defect by far more than 1e-5.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import relative
from originals import PREFIXES, TINY_ORIGINAL, flags, under, unpack
from safetensors.torch import load_file

from musicldm.checkpoint import load_components
from musicldm.clap import CLAP
from musicldm.clap.text import PAD
from musicldm.cli.convert import main
from musicldm.sampling import Guided, sample
from musicldm.schedulers import DDIM
from musicldm.unet import UNet
from weights_convert import original_layout
from weights_convert.hub_folder import NETWORKS
from weights_convert.reading import read_checkpoint, read_tensors

NETWORK_RTOL = 1e-5  # of one network: largest difference over the largest expected value
TRAJECTORY_ATOL = 1e-4  # of five guided steps, and of the waveform after them
DEFECT = 1e-2  # what a planted defect must exceed: a thousand times the bound

EXPECTED = load_file(TINY_ORIGINAL / "expected.safetensors")
CASES = {case["name"]: case for case in json.loads((TINY_ORIGINAL / "cases.json").read_text())["cases"]}


def tensors_of(case, side):
    return {key: EXPECTED.get(v, v) if isinstance(v, str) else v for key, v in CASES[case][side].items()}


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authors")
    for name in ("musicldm-ckpt.ckpt", "vae-ckpt.ckpt", "hifigan-ckpt.ckpt"):
        unpack(name, folder)
    return folder


@pytest.fixture(scope="module")
def converted(authors):
    """Both conversions: "ema" and "raw" -> folder."""
    for which in ("ema", "raw"):
        source = str(authors / "musicldm-ckpt.ckpt")
        assert main([source, str(authors / which), f"--{which}", *flags()]) == 0
    return {which: authors / which for which in ("ema", "raw")}


@pytest.fixture(scope="module")
def parts(converted):
    return {which: load_components(folder) for which, folder in converted.items()}


def predicted(unet, case):
    given = tensors_of(case, "inputs")
    with torch.no_grad():
        return unet(given["sample"], given["timestep"], given["condition"])


UNET_CASES = [name for name, case in CASES.items() if case["kind"] == "unet"]


@pytest.mark.parametrize("case", UNET_CASES)
def test_the_unet_computes_what_the_authors_do(parts, case):
    unet = parts[tensors_of(case, "inputs")["weights"]]["unet"]
    assert relative(predicted(unet, case), EXPECTED[CASES[case]["outputs"]["output"]]) < NETWORK_RTOL


@pytest.mark.parametrize("case", UNET_CASES)
def test_the_other_weights_would_be_noticed(parts, case):
    other = {"ema": "raw", "raw": "ema"}[tensors_of(case, "inputs")["weights"]]
    assert (
        relative(predicted(parts[other]["unet"], case), EXPECTED[CASES[case]["outputs"]["output"]]) > DEFECT
    )


@pytest.mark.parametrize("case", UNET_CASES)
@pytest.mark.parametrize("heads", [(0, 4, 4, 4), (0, 1, 2, 2)])
def test_a_wrong_head_count_would_be_noticed(parts, case, heads):
    right = parts[tensors_of(case, "inputs")["weights"]]["unet"]
    unet = UNet(replace(right.config, heads=heads))
    unet.load_state_dict(right.state_dict())  # which fits, and says nothing
    assert relative(predicted(unet, case), EXPECTED[CASES[case]["outputs"]["output"]]) > NETWORK_RTOL * 100


def test_heads_are_counted_per_level(parts):
    assert parts["ema"]["unet"].config.heads == (0, 2, 4, 4)  # 16 channels each at widths 32, 64, 64


def test_the_decoder_computes_what_the_authors_do(parts):
    given, expected = tensors_of("vae-decode", "inputs"), tensors_of("vae-decode", "outputs")
    vae = parts["ema"]["vae"]
    assert vae.config.scaling_factor == given["scale_factor"]
    with torch.no_grad():
        assert relative(vae.decode(given["scaled_latents"]), expected["mel"]) < NETWORK_RTOL


def test_the_encoder_computes_what_the_authors_do(parts):
    given, expected = tensors_of("vae-encode", "inputs"), tensors_of("vae-encode", "outputs")
    vae = parts["ema"]["vae"]
    with torch.no_grad():
        assert relative(vae.quant(vae.encoder(given["mel"])), expected["moments"]) < NETWORK_RTOL


def test_the_vocoder_computes_what_the_authors_do(parts):
    given, expected = tensors_of("vocoder", "inputs"), tensors_of("vocoder", "outputs")
    with torch.no_grad():
        assert relative(parts["ema"]["vocoder"](given["mel"]), expected["waveform"]) < NETWORK_RTOL


def clap_of(parts, which="ema"):
    return CLAP(*(parts[which][name] for name in ("text_encoder", "tokenizer", "feature_extractor")))


def test_text_embeddings_are_the_authors(parts):
    given, expected = tensors_of("clap-text", "inputs"), tensors_of("clap-text", "outputs")
    clap = clap_of(parts)
    tokens = clap.tokenizer(given["texts"])
    width = max(map(len, tokens))
    assert [row + [PAD] * (width - len(row)) for row in tokens] == expected["input_ids"].tolist()
    assert relative(clap.embed_text(given["texts"]), expected["embeds"]) < NETWORK_RTOL


def test_the_text_epsilon_matters(parts):
    given, expected = tensors_of("clap-text", "inputs"), tensors_of("clap-text", "outputs")
    clap = clap_of(parts)
    norms = [m for m in clap.model.text.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    try:
        for norm in norms:
            norm.eps = 1e-12  # what the hub's class defaults to
        assert relative(clap.embed_text(given["texts"]), expected["embeds"]) > NETWORK_RTOL
    finally:
        for norm in norms:
            norm.eps = 1e-5


def test_audio_embeddings_are_the_authors(parts):
    given, expected = tensors_of("clap-audio", "inputs"), tensors_of("clap-audio", "outputs")
    t = np.arange(round(given["seconds"] * given["rate"])) / given["rate"]
    noise = np.random.RandomState(given["noise_seed"]).standard_normal(len(t))
    wave = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 1500 * t) * np.exp(-t) + 0.03 * noise
    wave = wave.astype(np.float32)
    assert wave[:4].tolist() == pytest.approx(given["first_samples"])
    assert relative(clap_of(parts).embed_audio(wave, given["rate"]), expected["embeds"]) < NETWORK_RTOL


@pytest.mark.parametrize("case", ["ddim-eta0", "ddim-eta1"])
def test_the_authors_sampling_is_reproduced(parts, case):
    given, expected = tensors_of(case, "inputs"), tensors_of(case, "outputs")
    part = parts["ema"]
    plan = replace(part["scheduler"], eta=given["eta"]).plan(given["steps"])
    authors_steps = [t + 1 for t in range(0, 1000, 1000 // given["steps"])]
    assert plan.timesteps.tolist() == authors_steps[::-1]
    denoiser = Guided(part["unet"], given["condition"], given["null_condition"], given["guidance"])
    with torch.no_grad():
        latents = sample(denoiser, plan, given["latents"], step_noise=given.get("step_noise"))
        wave = part["vocoder"](part["vae"].decode(latents)[:, 0])
    assert (latents - expected["final_latents"]).abs().max() < TRAJECTORY_ATOL
    assert (wave - expected["waveform"]).abs().max() < TRAJECTORY_ATOL


def test_the_authors_conditions_are_those_of_their_prompt(parts):
    given = tensors_of("ddim-eta0", "inputs")
    embeds = clap_of(parts).embed_text([given["prompt"], ""])
    assert relative(embeds[:1], given["condition"]) < NETWORK_RTOL
    assert relative(embeds[1:], given["null_condition"]) < NETWORK_RTOL


def test_the_scheduler_is_the_authors(parts):
    assert parts["ema"]["scheduler"] == DDIM()


# -- side files


def test_a_full_checkpoint_without_vae_and_vocoder_is_completed_by_side_files(authors, parts, tmp_path):
    state = torch.load(authors / "musicldm-ckpt.ckpt", weights_only=True)["state_dict"]
    held = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIXES["vae"])}
    torch.save({"state_dict": held}, tmp_path / "lean.ckpt")
    sides = ["--vae", str(authors / "vae-ckpt.ckpt"), "--vocoder", str(authors / "hifigan-ckpt.ckpt")]
    assert main([str(tmp_path / "lean.ckpt"), str(tmp_path / "out"), *sides, *flags()]) == 0
    got = load_components(tmp_path / "out")
    for name, tensor in parts["ema"]["vae"].state_dict().items():
        assert torch.equal(got["vae"].state_dict()[name], tensor)
    given, expected = tensors_of("vocoder", "inputs"), tensors_of("vocoder", "outputs")
    with torch.no_grad():  # g and v folded, where the full checkpoint has the product
        assert relative(got["vocoder"](given["mel"]), expected["waveform"]) < NETWORK_RTOL


def test_the_vaes_file_can_stand_in_for_the_vocoders(authors, parts, tmp_path):
    state = torch.load(authors / "musicldm-ckpt.ckpt", weights_only=True)["state_dict"]
    held = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIXES["vae"])}
    torch.save(held, tmp_path / "bare.pt")
    side = ["--vae", str(authors / "vae-ckpt.ckpt")]
    assert main([str(tmp_path / "bare.pt"), str(tmp_path / "out"), *side, *flags()]) == 0
    got = load_components(tmp_path / "out")["vocoder"].state_dict()
    assert all(torch.equal(got[name], t) for name, t in parts["ema"]["vocoder"].state_dict().items())


def test_claps_own_file_is_read_with_or_without_module(authors, parts, tmp_path):
    state = torch.load(authors / "musicldm-ckpt.ckpt", weights_only=True)["state_dict"]
    held = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIXES["text_encoder"])}
    torch.save({"state_dict": held}, tmp_path / "lean.ckpt")
    clap = under(PREFIXES["text_encoder"], state)
    for prefix in ("module.", ""):
        named = {prefix + name: tensor for name, tensor in clap.items()}
        torch.save({"epoch": 1, "state_dict": named}, tmp_path / "clap.pt")
        out = tmp_path / f"out-{prefix}"
        assert (
            main([str(tmp_path / "lean.ckpt"), str(out), "--clap", str(tmp_path / "clap.pt"), *flags()]) == 0
        )
        got = read_tensors(out / "text_encoder" / "model.safetensors")
        full = read_tensors(authors / "ema" / "text_encoder" / "model.safetensors")
        assert got.keys() == full.keys()
        assert all(torch.equal(got[name], full[name]) for name in full)


# -- round trips


@pytest.fixture(scope="module")
def inverted(authors, converted):
    """Both folders turned back into the authors' names: "ema" and "raw" -> file."""
    for which, folder in converted.items():
        assert main([str(folder), str(authors / f"{which}.ckpt"), "--inverse"]) == 0
    return {which: authors / f"{which}.ckpt" for which in converted}


@pytest.mark.parametrize("which", ["ema", "raw"])
def test_original_to_hub_to_original_is_bit_exact(authors, inverted, which):
    back = read_checkpoint(inverted[which]).tensors
    original = read_checkpoint(authors / "musicldm-ckpt.ckpt").tensors
    unet = PREFIXES["unet" if which == "raw" else "ema"]
    for prefix in (unet, PREFIXES["vae"], PREFIXES["text_encoder"]):
        got, expected = under(prefix, back), under(prefix, original)
        tables = (original_layout.CLAP, original_layout.vae(3))
        dropped = [name for name in expected if any(t.why_ignored(name) for t in tables)]
        kept = expected.keys() - dropped | {name for name in expected if name.startswith("vocoder.")}
        assert got.keys() == kept - {"decay", "num_updates"}
        for name, tensor in got.items():
            assert torch.equal(tensor, expected[name]), name
            assert tensor.dtype == expected[name].dtype
    assert back["scale_factor"] == original["scale_factor"]


def test_the_inverse_also_holds_the_averages_that_the_authors_code_samples_with(inverted):
    back = read_checkpoint(inverted["raw"]).tensors
    raw, averages = under(PREFIXES["unet"], back), under(PREFIXES["ema"], back)
    assert len(raw) == len(averages) == 686
    for name, tensor in raw.items():
        assert torch.equal(tensor, averages[f"diffusion_model{name}".replace(".", "")])


def test_a_converted_inverse_is_the_same_folder_again(converted, inverted, tmp_path):
    assert main([str(inverted["ema"]), str(tmp_path / "again"), *flags()]) == 0
    for network in NETWORKS:
        for path in (converted["ema"] / network).iterdir():
            assert path.read_bytes() == (tmp_path / "again" / network / path.name).read_bytes(), path
