"""CLAP's loss: a pure function of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["contrastive", "retrieval"]


def contrastive(audio: Tensor, text: Tensor, log_scale: Tensor) -> Tensor:
    """audio, text: (b, d) unit-norm embeddings of pairs; log_scale: () -> () symmetric cross entropy.

    Item i of either side should be closer to item i of the other than to any item j.
    Source: Radford et al. 2021 (arXiv 2103.00020), figure 3; Wu et al. 2023 (arXiv 2211.06687), equation 2.
    """
    logits = log_scale.float().exp() * audio.float() @ text.float().T
    pairs = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs))


def retrieval(audio: Tensor, text: Tensor) -> Tensor:
    """-> () share of clips whose own caption is the nearest of the batch's."""
    nearest = (audio @ text.T).argmax(dim=1)
    return (nearest == torch.arange(len(audio), device=audio.device)).float().mean()
