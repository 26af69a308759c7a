"""What the U-Net learns to denoise, and what CLAP hears of it: a clip's latents, or a mix of two clips'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from musicldm.data.mixup import authors_padding, fit_length, latent_mixup
from musicldm.io.cache import network_digest
from musicldm.io.distributed import Group
from musicldm.vae import VAE, Posterior
from musicldm.vocoder import HiFiGAN

from .front import mel_of
from .remembered import NOTHING, Remembered, Store
from .stage import Batch, Draws
from .vae_losses import sampled

__all__ = ["PADDINGS", "ClipLatents", "MixedLatents", "Target", "latent_scale", "scaled"]

PADDINGS: dict[str, Callable[[Tensor, int], Tensor]] = {"full": fit_length, "authors": authors_padding}


@dataclass(frozen=True)
class Target:
    """latents: (b, c, t, f) at unit scale, to be denoised. wave: (b, s) what CLAP hears of them.

    keys: b names of the waves, "" for one that is made here.
    """

    latents: Tensor
    wave: Tensor
    keys: tuple[str, ...]


class ClipLatents:
    """The latents of a clip: a draw from its posterior, at unit scale. CLAP hears the clip.

    store: keeps posteriors of clips that come again.
    """

    def __init__(self, vae: VAE, store: Store = NOTHING) -> None:
        self.vae = vae
        about = {"what": "posterior", "network": "" if store is NOTHING else network_digest(vae)}
        self._remembered = Remembered(store, about)

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> Target:
        """A batch with `wave` (b, s) and `key`."""
        return Target(self.encode(batch["wave"], batch["key"], draws), batch["wave"], batch["key"])

    def encode(self, wave: Tensor, keys: Sequence[str], draws: Draws) -> Tensor:
        """wave: (b, s) -> (b, c, t, f) at unit scale."""

        def make(places: list[int]) -> Tensor:
            posterior = self.vae.encode(mel_of(wave[places]))
            return torch.cat([posterior.mean, posterior.logvar], dim=1)

        mean, logvar = self._remembered(keys, make, wave.device).chunk(2, dim=1)
        noise = draws.normal(*mean.shape[1:])
        return sampled(Posterior(mean, logvar), noise) * self.vae.config.scaling_factor


class MixedLatents(ClipLatents):
    """Beat-synchronous latent mixup: the latents of two clips in step, mixed; CLAP hears the mix, decoded.

    An item with lam = 1 is a clip of its own, as in `ClipLatents`.

    Source: Chen et al. 2023 (arXiv 2308.01546), BLM; RetroCirce/MusicLDM c8100b5, musicldm.py, get_input.
    Differs: CLAP hears the whole mix (`padding`), not 90 % of it and silence.
    """

    def __init__(self, vae: VAE, vocoder: HiFiGAN, padding: str = "full", store: Store = NOTHING) -> None:
        super().__init__(vae, store)
        self.vocoder = vocoder
        self.padding = PADDINGS[padding]

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> Target:
        """A batch with `wave`, `wave_b` (b, s), `lam` (b,), `key`, `key_b`."""
        wave, lam, keys = batch["wave"], batch["lam"].float(), batch["key"]
        latents = latent_mixup(
            self.encode(wave, keys, draws), self.encode(batch["wave_b"], batch["key_b"], draws), lam
        )
        mixed = (lam < 1).nonzero()[:, 0].tolist()
        if mixed:
            heard = self.vocoder(self.vae.decode(latents[mixed])[:, 0]).float()
            wave = wave.clone()
            wave[mixed] = self.padding(heard, wave.shape[1]).to(wave)
        return Target(latents, wave, tuple("" if k in mixed else key for k, key in enumerate(keys)))


@torch.no_grad()
def latent_scale(vae: VAE, batches: Sequence[tuple[Batch, Draws]], group: Group) -> float:
    """1 / standard deviation of the latents of the first batch, over all processes.

    Source: Rombach et al. 2022 (arXiv 2112.10752), appendix G; latent diffusion's `scale_by_std`.
    Raises ValueError if the latents do not vary.
    """
    clips = ClipLatents(vae)
    sums = torch.zeros(3, dtype=torch.float64)
    for batch, draws in batches:
        latents = clips.encode(batch["wave"], [""] * len(batch), draws).double() / vae.config.scaling_factor
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
