"""CLAP as a `Feature`: audio and text of a loaded pipeline, of a checkpoint, or of a CLAP of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from musicldm.checkpoint import load_front_end, load_network
from musicldm.clap import CLAP, build_model, load_feature_extractor, load_tokenizer
from musicldm.hub import resolve
from weights_convert.diffusers_layout import CLAP as CLAP_TABLE
from weights_convert.hub_folder import find_weights

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
        extractor = clap.feature_extractor
        self.rate, self.dim = int(extractor.sampling_rate), clap.dim
        seconds = extractor.nb_max_samples / self.rate
        settings = (
            f"{self.rate} Hz mono, middle {seconds:g} s, shorter ones repeated; "
            f"{extractor.feature_size} mels {extractor.frequency_min}-{extractor.frequency_max} Hz; "
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
        if (folder / "config.json").is_file():
            files = find_weights(folder, "text_encoder")
            tensors = {k: v for k, v in files.read().items() if not CLAP_TABLE.why_ignored(k)}
            tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
            model = build_model(folder, tensors, files.where).float()
            clap = CLAP(model, load_tokenizer(folder), load_feature_extractor(folder))
        else:
            root = resolve(id_or_folder)
            front = load_front_end(root)
            clap = CLAP(load_network(root, "text_encoder"), front["tokenizer"], front["feature_extractor"])
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
