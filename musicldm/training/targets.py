"""What the U-Net learns to denoise, and what CLAP hears of it: a clip's latents, or a mix of two clips'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from musicldm.vae import VAE
from musicldm.vocoder import HiFiGAN

from .distributed import Group
from .front import mel_of
from .mixup import authors_padding, fit_length, latent_mixup
from .stage import Batch, Draws
from .vae_losses import sampled

__all__ = ["PADDINGS", "ClipLatents", "MixedLatents", "latent_scale", "scaled"]

PADDINGS: dict[str, Callable[[Tensor, int], Tensor]] = {"full": fit_length, "authors": authors_padding}


class ClipLatents:
    """The latents of a clip: a draw from its posterior, at unit scale. CLAP hears the clip."""

    def __init__(self, vae: VAE) -> None:
        self.vae = vae

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """-> latents (b, c, t, f), wave (b, s)."""
        return self.encode(batch["wave"], draws), batch["wave"]

    def encode(self, wave: Tensor, draws: Draws) -> Tensor:
        """wave: (b, s) -> (b, c, t, f) at unit scale."""
        posterior = self.vae.encode(mel_of(wave))
        return sampled(posterior, draws.normal(*posterior.mean.shape[1:])) * self.vae.config.scaling_factor


class MixedLatents(ClipLatents):
    """Beat-synchronous latent mixup: the latents of two clips in step, mixed; CLAP hears the mix, decoded.

    An item with lam = 1 is a clip of its own, as in `ClipLatents`.

    Source: Chen et al. 2023 (arXiv 2308.01546), BLM; RetroCirce/MusicLDM c8100b5, musicldm.py, get_input.
    Differs: CLAP hears the whole clip (`padding`), not 90 % of it and silence; and the mixed target is the
    mix of the two aligned clips in every case, while an unmixed item is not cut at a downbeat.
    """

    def __init__(self, vae: VAE, vocoder: HiFiGAN, padding: str = "full") -> None:
        super().__init__(vae)
        self.vocoder = vocoder
        self.padding = PADDINGS[padding]

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """-> latents (b, c, t, f), wave (b, s)."""
        wave, lam = batch["wave"], batch["lam"].float()
        latents = latent_mixup(self.encode(wave, draws), self.encode(batch["wave_b"], draws), lam)
        mixed = lam < 1
        if mixed.any():
            heard = self.vocoder(self.vae.decode(latents[mixed])[:, 0]).float()
            wave = wave.clone()
            wave[mixed] = self.padding(heard, wave.shape[1]).to(wave)
        return latents, wave


@torch.no_grad()
def latent_scale(vae: VAE, batches: list[tuple[Batch, Draws]], group: Group) -> float:
    """1 / standard deviation of the latents of the first batch, over all processes.

    Source: Rombach et al. 2022 (arXiv 2112.10752), appendix G; latent diffusion's `scale_by_std`.
    """
    unscaled = ClipLatents(vae)
    sums = torch.zeros(3, dtype=torch.float64)
    for batch, draws in batches:
        latents = unscaled.encode(batch["wave"], draws).double() / vae.config.scaling_factor
        sums += torch.tensor([latents.numel(), latents.sum().item(), latents.square().sum().item()]).double()
    count, total, squares = group.sum(sums).tolist()
    variance = (squares - total**2 / count) / (count - 1)
    if not 0 < variance < float("inf"):
        raise ValueError(
            f"the latents of the first batch have variance {variance:g}: the VAE is not trained, or its "
            "weights are damaged; train it first (`musicldm train vae`)"
        )
    return float(variance**-0.5)


def scaled(vae: VAE, scale: float) -> None:
    """Give a VAE its latent scale."""
    vae.config = replace(vae.config, scaling_factor=scale)
