"""The oracles: Diffusers 0.33.1 and transformers 4.51.3, at the published size, with random weights that matter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

diffusers = pytest.importorskip(
    "diffusers", reason="parity needs its own environment: pip install '.[parity]'"
)
transformers = pytest.importorskip("transformers")

from dataclasses import asdict, replace  # noqa: E402

from musicldm.presets import CLAP_16K, UNET_16K, VAE_16K, VOCODER_16K  # noqa: E402
from weights_convert import hub_config  # noqa: E402

torch.set_num_threads(os.cpu_count() or 1)  # 490 M parameters want every core, unlike the tests above

GOLDENS = Path(__file__).parents[1] / "goldens"
SEED = 20261122


GAINS = {  # parts whose default would drown what the test is about
    "to_q": 1.5,  # uniform attention hides a wrong head count
    "to_k": 1.5,
    "query": 1.5,
    "key": 1.5,
    "class_embedding": 8.0,  # a unit-norm embedding has small entries: the prompt must matter
    "word_embeddings": 8.0,
    "decoder.conv_out": 4.0,  # mels of the size that music has
}


def enliven(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Random weights with which every path matters: unit gain through each layer, norms away from 1, biases and
    running statistics away from 0."""
    with torch.no_grad():
        for name, p in [*module.named_parameters(), *module.named_buffers()]:
            if not p.is_floating_point():
                continue
            noise = torch.randn(p.shape, generator=generator)
            gain = next((value for part, value in GAINS.items() if part in name), 1.0)
            if name.endswith("running_var"):
                p.copy_(0.5 + noise.abs())
            elif p.ndim <= 1:
                p.add_(0.1 * noise)
            else:
                p.copy_(gain * noise / p[0].numel() ** 0.5)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the published size, made and saved by the reference libraries."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    unet = diffusers.UNet2DConditionModel.from_config(
        hub_config.unet_to_hub(asdict(replace(UNET_16K, heads=(0, 8, 8, 8))))
    )
    vae = diffusers.AutoencoderKL.from_config(
        hub_config.vae_to_hub(asdict(replace(VAE_16K, scaling_factor=0.9137)))
    )
    vocoder = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(**hub_config.vocoder_to_hub(asdict(VOCODER_16K)))
    )
    clap = transformers.ClapModel(transformers.ClapConfig(**CLAP_16K))
    for module in (unet, vae, vocoder, clap):
        enliven(module.eval(), generator)
    vocoder.mean.zero_()
    vocoder.scale.fill_(1)
    tokenizer = transformers.RobertaTokenizerFast.from_pretrained(GOLDENS / "tiny-hub" / "tokenizer")
    extractor = transformers.ClapFeatureExtractor.from_pretrained(GOLDENS / "tiny-hub" / "feature_extractor")
    scheduler = diffusers.DDIMScheduler.from_pretrained(GOLDENS / "tiny-hub" / "scheduler")
    folder = tmp_path_factory.mktemp("published")
    diffusers.MusicLDMPipeline(vae, clap, tokenizer, extractor, unet, scheduler, vocoder).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def theirs(published: Path) -> diffusers.MusicLDMPipeline:
    pipe = diffusers.MusicLDMPipeline.from_pretrained(published)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def ours(published: Path):
    from musicldm import MusicLDMPipeline

    return MusicLDMPipeline.from_pretrained(published)
