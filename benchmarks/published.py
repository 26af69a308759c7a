"""A checkpoint of the published size with random weights that matter, in the hub's layout.

The published weights cannot be shipped; what is slow or fast does not depend on their values. Weights have
unit gain through each layer and norms lie away from 1, so that outputs are of the size that music has.

python benchmarks/published.py FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from transformers import ClapConfig, ClapModel

from musicldm import MusicLDMPipeline
from musicldm.presets import CLAP_16K, UNET_16K, VAE_16K, VOCODER_16K
from musicldm.unet import UNet
from musicldm.vae import VAE
from musicldm.vocoder import HiFiGAN

TINY = Path(__file__).parents[1] / "tests" / "goldens" / "tiny-hub"
SEED = 20261122
GAINS = {
    "attn": 1.5,
    "cond_embed": 8.0,
    "decoder.conv_out": 4.0,
    "word_embeddings": 8.0,
    "query": 1.5,
    "key": 1.5,
}


def make(folder: Path) -> Path:
    """Write it, unless it is there."""
    if (folder / "model_index.json").is_file():
        return folder
    generator = torch.Generator().manual_seed(SEED)
    tiny = MusicLDMPipeline.from_pretrained(TINY)
    parts = {
        "unet": UNet(replace(UNET_16K, heads=(0, 8, 8, 8))),
        "vae": VAE(VAE_16K),
        "vocoder": HiFiGAN(VOCODER_16K),
        "text_encoder": ClapModel(ClapConfig(**CLAP_16K)),
    }
    for module in parts.values():
        enliven(module.eval(), generator)
    MusicLDMPipeline(**{**tiny.components, **parts}).save_pretrained(folder)
    return folder


def enliven(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Random weights with which every path matters."""
    with torch.no_grad():
        for name, p in [*module.named_parameters(), *module.named_buffers()]:
            if not p.is_floating_point():
                continue
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("running_var"):
                p.copy_(0.5 + noise.abs())
            elif p.ndim <= 1:
                p.add_(0.1 * noise)
            else:
                gain = next((value for part, value in GAINS.items() if part in name), 1.0)
                p.copy_(gain * noise / p[0].numel() ** 0.5)


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
