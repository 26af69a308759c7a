"""A checkpoint of the published size with random weights that matter, in the hub's layout.

    python benchmarks/published.py FOLDER

The published weights cannot be shipped; what is slow or fast does not depend on their values. Weights have
unit gain through each layer and norms lie away from 1, so that outputs are of the size that music has.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from musicldm import MusicLDMPipeline
from musicldm.clap import ClapConfig, ClapModel
from musicldm.presets import CLAP_16K, UNET_16K, VAE_16K, VOCODER_16K
from musicldm.unet import UNet
from musicldm.vae import VAE
from musicldm.vocoder import HiFiGAN
from weights_convert.clap_layout import clap_facts

TINY = Path(__file__).parents[1] / "tests" / "goldens" / "tiny-hub"
SEED = 20261122
GAINS: dict[str, dict[str, float]] = {  # by network: parts of names whose default would drown what they do
    "unet": {".qkv.": 1.5, "cond_embed.": 8.0},  # attention that is not uniform; a prompt that is heard
    "vae": {".qkv.": 1.5, "decoder.conv_out.": 4.0},  # mels of the size that music has
    "vocoder": {},
    "text_encoder": {".qkv.": 1.5, ".query.": 1.5, ".key.": 1.5, "text.words": 8.0},
}


def make(folder: Path) -> Path:
    """Write the checkpoint into `folder`, unless one is there; returns the folder."""
    if (folder / "model_index.json").is_file():
        return folder
    generator = torch.Generator().manual_seed(SEED)
    networks = untrained()
    for name, network in networks.items():
        enliven(network.eval(), generator, GAINS[name])
    MusicLDMPipeline(**{**MusicLDMPipeline.from_pretrained(TINY).components, **networks}).save_pretrained(
        folder
    )
    return folder


def untrained() -> dict[str, nn.Module]:
    """The four networks at the published size, with the head counts of the converted checkpoint."""
    clap = ClapModel(ClapConfig.from_facts(clap_facts(CLAP_16K, "published.py")))
    clap.reset_parameters()
    return {
        "unet": UNet(replace(UNET_16K, heads=(0, 8, 8, 8))),
        "vae": VAE(VAE_16K),
        "vocoder": HiFiGAN(VOCODER_16K),
        "text_encoder": clap,
    }


@torch.no_grad()
def enliven(module: nn.Module, generator: torch.Generator, gains: Mapping[str, float]) -> None:
    """Give every path weights that matter: unit gain through each layer times the `gains` of its name.

    Raises ValueError for a gain that no weight's name holds: figures would shift without a word.
    """
    unused = set(gains)
    for name, p in [*module.named_parameters(), *module.named_buffers()]:
        if not p.is_floating_point():
            continue
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("running_var"):
            p.copy_(0.5 + noise.abs())
        elif p.ndim <= 1:
            p.add_(0.1 * noise)
        else:
            found = [part for part in gains if part in name]
            unused.difference_update(found)
            gain = gains[found[0]] if found else 1.0
            p.copy_(gain * noise / p[0].numel() ** 0.5)
    if unused:
        raise ValueError(
            f"enliven: no weight of {type(module).__name__} has {', '.join(sorted(unused))} in its name"
        )


def main() -> None:
    """Print where the checkpoint lies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="2 GB; left as it is if a checkpoint is there")
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()
