"""The terms of the VAE's losses: pure functions of tensors.

Source: Esser et al. 2021 (arXiv 2012.09841), equations 5 to 7, and latent diffusion's LPIPSWithDiscriminator,
with which the authors trained. Differs: no perceptual term (theirs compares spectrograms by a network that
was trained on photographs); and all terms are divided by the number of mel values, which leaves their ratios,
and so Adam's steps, as they are. Latent diffusion has a log-variance of the reconstruction, which its
optimiser is never given: it stays 0 there, and is left out here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm.vae import Posterior

__all__ = ["adaptive_weight", "hinge", "kl_divergence", "reconstruction", "sampled"]


def sampled(posterior: Posterior, noise: Tensor) -> Tensor:
    """noise: (b, c, t, f) of unit variance -> a draw from the posterior, in the encoder's own units."""
    return posterior.mean + torch.exp(0.5 * posterior.logvar) * noise.to(posterior.mean)


def reconstruction(made: Tensor, mel: Tensor) -> Tensor:
    """made, mel: (b, 1, t, f) -> () mean absolute difference of log-mels."""
    return F.l1_loss(made.float(), mel)


def kl_divergence(posterior: Posterior) -> Tensor:
    """-> () divergence from the unit Gaussian, summed over an item's latents, averaged over items; in
    nats."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()


def hinge(real: Tensor, made: Tensor) -> Tensor:
    """Scores of real and reconstructed patches -> () the discriminator's loss.

    Source: Lim and Ye 2017 (arXiv 1705.02894), equation 2; halved, as in latent diffusion.
    """
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + made.float()).mean())


def adaptive_weight(reconstruction_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """Gradients of both terms at the decoder's last layer -> () what the adversarial term is weighted with.

    Source: Esser et al. 2021, equation 7, with latent diffusion's bounds.
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + 1e-4)
    return ratio.clamp(0.0, 1e4).detach()
