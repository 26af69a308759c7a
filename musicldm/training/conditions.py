"""What the U-Net is told of a clip: its CLAP audio embedding, its caption's, or now one and now the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from musicldm.clap import CLAP

from .stage import Draws

__all__ = ["Condition", "conditions", "with_nulls"]

Condition = Callable[[Tensor, Sequence[str], Draws], Tensor]  # wave (b, s), captions, draws -> (b, d)


def conditions(clap: CLAP, rate: int, text_share: float) -> dict[str, Condition]:
    """The ways to condition, by name: "audio", as the authors trained; "text"; "mix", by chance per item.

    rate: of the waves, in Hz. text_share: of items that are told their caption, in a mix.
    """
    return {
        "audio": partial(_heard, clap, rate),
        "text": partial(_read, clap),
        "mix": partial(_either, clap, rate, text_share),
    }


def _heard(clap: CLAP, rate: int, wave: Tensor, captions: Sequence[str], draws: Draws) -> Tensor:
    return clap.embed_audio(wave, rate)


def _read(clap: CLAP, wave: Tensor, captions: Sequence[str], draws: Draws) -> Tensor:
    return clap.embed_text(captions)


def _either(
    clap: CLAP, rate: int, text_share: float, wave: Tensor, captions: Sequence[str], draws: Draws
) -> Tensor:
    heard, read = clap.embed_audio(wave, rate), clap.embed_text(captions)
    told = (draws.uniform() < text_share).to(heard.device)
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
