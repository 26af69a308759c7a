"""CLAP as a `Feature`: audio and text of a loaded pipeline, of a checkpoint, or of a CLAP of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from musicldm.checkpoint import load_clap
from musicldm.clap import CLAP

from .features import FeatureId, Features, Wave, check_waves
from .weights import state_sha256

__all__ = ["ClapFeature"]


class ClapFeature:
    """Unit-norm embeddings (n, d) of clips and prompts. Each runs alone: its numbers depend on no other.

    name: what the weights are called. The hash is of the weights as they stand in memory, in whatever file or
    folder they came.
    """

    classes = 0

    def __init__(self, clap: CLAP, name: str) -> None:
        self.clap = clap
        front, mel = clap.front_end, clap.front_end.mel
        self.rate, self.dim = front.sampling_rate, clap.dim
        settings = (
            f"{self.rate} Hz mono, middle {front.max_length_s} s, shorter ones repeated; "
            f"{mel.n_mels} mels {mel.f_min:g}-{mel.f_max:g} Hz; "
            f"unit norm; {str(clap.model.dtype).removeprefix('torch.')}"
        )
        digest = state_sha256(clap.model.state_dict())
        self.id = FeatureId(f"clap:{name}", digest, "weights in memory", settings)

    @classmethod
    def load(cls, id_or_folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> ClapFeature:
        """The CLAP of a MusicLDM checkpoint (hub id or folder), or a folder that holds a ClapModel alone.

        Such a folder has config.json, weights, tokenizer and preprocessor side by side, as transformers saves
        them: another CLAP than the one that conditions is the better judge. float32 in any case.
        Raises CheckpointError, ConfigError or ValueError if it is neither, or does not fit.
        """
        folder = Path(id_or_folder)
        clap = load_clap(id_or_folder)
        clap.model.to(device)
        return cls(clap, folder.name if folder.is_dir() else os.fspath(id_or_folder))

    def __call__(self, waves: Sequence[Wave]) -> Features:
        """waves: n clips (s,) at 48 kHz -> embeddings (n, d)."""
        check_waves(waves, self.id.name)
        rows = [self.clap.embed_audio(wave, self.rate)[0].double().cpu().numpy() for wave in waves]
        return Features(np.array(rows, np.float64).reshape(len(rows), self.dim))

    def text(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """prompts: n texts -> (n, d) unit-norm embeddings."""
        rows = [self.clap.embed_text([prompt])[0].double().cpu().numpy() for prompt in prompts]
        return np.array(rows, np.float64).reshape(len(rows), self.dim)
