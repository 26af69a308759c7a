"""What the U-Net is told of a clip: its CLAP audio embedding, its caption's, or now one and now the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from musicldm.clap import CLAP
from musicldm.io.cache import network_digest

from .remembered import NOTHING, Remembered, Store
from .stage import Draws
from .targets import Target

__all__ = ["Condition", "Conditions", "with_nulls"]

Condition = Callable[[Target, Sequence[str], Draws], Tensor]  # what is heard, captions, draws -> (b, d)


class Conditions:
    """The ways to condition: `audio`, as the authors trained; `text`; `mix`, by chance for each item.

    rate: of the waves, in Hz. text_share: of items that are told their caption, in a mix. store: keeps
    embeddings of clips that come again.
    """

    def __init__(self, clap: CLAP, rate: int, text_share: float, store: Store = NOTHING) -> None:
        self.clap, self.rate, self.text_share = clap, rate, text_share
        digest = "" if store is NOTHING else network_digest(clap.model)
        self._remembered = Remembered(store, {"what": "clap audio", "network": digest, "rate": rate})

    def audio(self, target: Target, captions: Sequence[str], draws: Draws) -> Tensor:
        """-> (b, d) CLAP's embeddings of the waves."""
        wave = target.wave
        return self._remembered(
            target.keys, lambda places: self.clap.embed_audio(wave[places], self.rate), wave.device
        )

    def text(self, target: Target, captions: Sequence[str], draws: Draws) -> Tensor:
        """-> (b, d) CLAP's embeddings of the captions."""
        return self.clap.embed_text(captions)

    def mix(self, target: Target, captions: Sequence[str], draws: Draws) -> Tensor:
        """-> (b, d) either."""
        heard, read = self.audio(target, captions, draws), self.text(target, captions, draws)
        told = (draws.uniform() < self.text_share).to(heard.device)
        return torch.where(told[:, None], read, heard)


def with_nulls(cond: Tensor, null: Tensor, share: float, draws: Draws) -> Tensor:
    """cond: (b, d); null: (d,) the embedding of the empty prompt -> (b, d), by chance the null for an item.

    So the U-Net learns what guidance subtracts. In training only: the authors' conditioner does it when
    sampling too, and loses one prompt in ten.
    Source: Ho and Salimans 2022 (arXiv 2207.12598), algorithm 1; RetroCirce/MusicLDM c8100b5, modules.py,
    CLAPAudioEmbeddingClassifierFreev2.
    """
    dropped = (draws.uniform() < share).to(cond.device)
    return torch.where(dropped[:, None], null.to(cond), cond)
