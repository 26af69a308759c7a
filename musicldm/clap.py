"""Prompts and clips -> conditions: unit-norm CLAP embeddings. The only file that imports transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel
from transformers.utils import logging as transformers_logging

__all__ = [
    "CLAP",
    "build_model",
    "load_feature_extractor",
    "load_tokenizer",
    "new_feature_extractor",
    "new_model",
]

log = logging.getLogger(__name__)


class CLAP:
    """Text and audio in one 512-d space. Wraps transformers' model, tokenizer and feature extractor.

    What differs from transformers' own calls: long prompts are cut with a warning that names what was lost;
    clips are cut by a rule (the middle), never by numpy's global random state; every embedding has unit norm.
    """

    def __init__(self, model: ClapModel, tokenizer: Any, feature_extractor: ClapFeatureExtractor) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return int(self.model.config.projection_dim)

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
        tokens = self._tokenize(list(texts)).to(self.model.device)
        features = self.model.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return _unit(features)

    def encode_audio(self, features: Mapping[str, Tensor]) -> Tensor:
        """What `features` gave -> (b, d) unit-norm embeddings, with gradients for the model."""
        inputs = features["input_features"].to(self.model.device, self.model.dtype)
        return _unit(self.model.get_audio_features(inputs, is_longer=features["is_longer"].to(inputs.device)))

    def features(self, wave: np.ndarray | Tensor, rate: int) -> dict[str, Tensor]:
        """wave: (b, s) or (s,) at `rate` Hz -> "input_features" (b, 1, t, f) in dB, "is_longer" (b, 1)."""
        extractor = self.feature_extractor
        waves = np.atleast_2d(torch.as_tensor(wave).detach().float().cpu().numpy())
        if waves.ndim != 2 or not waves.shape[1]:
            raise ValueError(f"CLAP: got {waves.shape}, expected (b, s) or (s,) mono samples")
        waves = soxr.resample(waves.T, rate, extractor.sampling_rate, quality="HQ").T
        start = max(0, (waves.shape[1] - extractor.nb_max_samples) // 2)
        waves = waves[:, start : start + extractor.nb_max_samples]
        features = extractor(
            list(waves),
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
            # an unfused model takes one channel with Slaney's mel bank, whatever the file says
            truncation="fusion" if self.model.config.audio_config.enable_fusion else "rand_trunc",
        )
        return {name: features[name] for name in ("input_features", "is_longer")}

    def _tokenize(self, texts: list[str]) -> Any:
        limit = min(
            self.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings - 2
        )
        for ids in self.tokenizer(texts, verbose=False)["input_ids"]:
            if len(ids) > limit:
                lost = self.tokenizer.decode(ids[limit - 1 : -1])
                log.warning(
                    "prompt of %d tokens cut to %d; lost: %r%s",
                    len(ids),
                    limit,
                    lost[:200],
                    "..." * (len(lost) > 200),
                )
        return self.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")


def _unit(features: Any) -> Tensor:
    """transformers 4 returns the embedding, transformers 5 an output object that holds it."""
    embedding: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return F.normalize(embedding, dim=-1)


def build_model(config_folder: Path, tensors: Mapping[str, Tensor], where: str) -> ClapModel:
    """A `ClapModel` in evaluation mode from its folder's config and float32 tensors under the hub's names.

    Raises ValueError naming every tensor that is missing, unexpected or mis-shaped. `where` names the
    weights.
    """
    config = ClapConfig.from_pretrained(config_folder, local_files_only=True)
    with _quiet():
        model, info = ClapModel.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    constants = {"text_model.embeddings.position_ids", "text_model.embeddings.token_type_ids"}
    problems = [f"missing      {key}" for key in sorted(set(info["missing_keys"]) - constants)]
    problems += [f"unexpected   {key}" for key in sorted(info["unexpected_keys"])]
    problems += [f"wrong shape  {key}" for key in sorted(map(str, info["mismatched_keys"]))]
    if problems:
        raise ValueError(f"CLAP: {where} does not fit its config:\n  " + "\n  ".join(problems))
    return _with_true_gradients(model).eval()


def new_model(config: Mapping[str, Any]) -> ClapModel:
    """A `ClapModel` of a hub config, with random weights from torch's global generator."""
    return _with_true_gradients(ClapModel(ClapConfig(**config)))


def _with_true_gradients(model: ClapModel) -> ClapModel:
    """The model, with the batch norm over mel bins made to see one memory layout on both ways.

    transformers gives it (b, bins, frames, 1) transposed, where "channels last" and "contiguous" look alike,
    and torch's CPU kernel (2.13) mixes up values and gradient if the two disagree: gradients of the clip, the
    weight and the bias were wrong by their own size.
    """
    norm = model.audio_model.audio_encoder.batch_norm
    norm.register_forward_pre_hook(_contiguous_input)
    norm.register_forward_hook(_contiguous_gradient)
    return model


def _contiguous_input(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


def _contiguous_gradient(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]


def new_feature_extractor(settings: Mapping[str, Any]) -> ClapFeatureExtractor:
    """The mel front end with these settings of preprocessor_config.json."""
    return ClapFeatureExtractor(**settings)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that a folder holds."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_feature_extractor(folder: Path) -> ClapFeatureExtractor:
    """The mel front end of CLAP's audio side."""
    return ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' own loading report off: ours is an error."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
