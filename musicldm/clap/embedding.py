"""Prompts and clips -> conditions: unit-norm CLAP embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm import audio

from .front_end import FrontEnd
from .model import ClapModel
from .text import PAD
from .tokenizer import Tokenizer

__all__ = ["CLAP"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CLAP:
    """Text and audio in one 512-d space: the model, its tokenizer, and the front end of its audio side.

    What differs from transformers' calls: long prompts are cut with a warning that names what was lost;
    clips are cut by a rule (the middle), never by numpy's global random state; every embedding has unit norm.
    """

    model: ClapModel
    tokenizer: Tokenizer
    front_end: FrontEnd

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.model.dim

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """b prompts -> (b, d) unit-norm embeddings, on the model's device and in its dtype.

        A prompt over the tokenizer's limit (512 in the published model) is cut, with a warning.
        """
        return self.encode_text(texts)

    @torch.no_grad()
    def embed_audio(self, wave: np.ndarray | Tensor, rate: int) -> Tensor:
        """wave: (b, s) or (s,) at `rate` Hz -> (b, d) unit-norm embeddings.

        Resampled to the model's rate (48 kHz) by soxr. A clip over 10 s is cut to its middle 10 s; a shorter
        one is repeated, then padded with silence, as in CLAP's training.
        """
        return self.encode_audio(self.features(wave, rate))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """`embed_text` with gradients, for training."""
        ids, mask = self._tokens(texts)
        return F.normalize(self.model.text(ids.to(self.model.device), mask.to(self.model.device)), dim=-1)

    def encode_audio(self, mel: Tensor) -> Tensor:
        """What `features` gave -> (b, d) unit-norm embeddings, with gradients."""
        return F.normalize(self.model.audio(mel.to(self.model.device, self.model.dtype)), dim=-1)

    def features(self, wave: np.ndarray | Tensor, rate: int) -> Tensor:
        """wave: (b, s) or (s,) at `rate` Hz -> (b, 1, t, f) dB on the CPU, without gradients.

        `musicldm.editing.hearing` has the way with gradients. Raises ValueError for any other shape.
        """
        waves = np.atleast_2d(torch.as_tensor(wave).detach().float().cpu().numpy())
        if waves.ndim != 2 or not waves.shape[1]:
            raise ValueError(f"CLAP: got {waves.shape}, expected (b, s) or (s,) mono samples")
        waves = audio.resample(waves, rate, self.front_end.sampling_rate)
        return self.front_end(torch.from_numpy(np.ascontiguousarray(waves))).float()

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """b prompts -> ids (b, n), padded to the longest, and where they are prompt: (b, n) bool."""
        limit = min(self.tokenizer.max_length, self.model.config.text.max_tokens)
        rows = [torch.tensor(self._cut(ids, limit)) for ids in self.tokenizer(texts)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]

    def _cut(self, ids: list[int], limit: int) -> list[int]:
        if len(ids) <= limit:
            return ids
        lost = self.tokenizer.text(ids[limit - 1 : -1])
        dots = "..." * (len(lost) > 200)
        log.warning("prompt of %d tokens cut to %d; lost: %r%s", len(ids), limit, lost[:200], dots)
        return [*ids[: limit - 1], ids[-1]]
