"""Best of n: the candidates of a prompt, ordered by how well CLAP hears the prompt in them."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

__all__ = ["rank"]


def rank(audio_embeds: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
    """audio_embeds: (b n, d); prompt_embeds: (b, d), both unit norm -> scores, order (b, n), best first.

    Each prompt's candidates stand together (prompt-major) and are compared with each other alone. `order[i,
    j]` is the candidate, 0 to n - 1, that came j-th for prompt i; equal scores keep the candidates' order.

    Source: MusicLDM (arXiv 2308.01546), generation with re-ranking. Differs: Diffusers 0.33.1 sorts every
    prompt's candidates together and can return one prompt's clip under another's name.
    """
    candidates = rearrange(audio_embeds.float(), "(b n) d -> b n d", b=len(prompt_embeds))
    scores = torch.einsum("bnd,bd->bn", candidates, prompt_embeds.float())
    return torch.sort(scores, dim=1, descending=True, stable=True)
