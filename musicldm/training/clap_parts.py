"""Where the CLAP of a training run comes from: a checkpoint, or sizes, with a tokenizer of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from musicldm.checkpoint import load_feature_extractor
from musicldm.clap import CLAP, AudioTowerConfig, ClapConfig, ClapModel, FrontEnd, Tokenizer
from musicldm.presets import CLAP_16K
from weights_convert.clap_layout import clap_facts
from weights_convert.hub_config import front_end_from_hub

from .config import ConfigError
from .parts import PRESET
from .stage import seed_of
from .tokenizer import train_tokenizer

__all__ = ["CLAP_SMALL", "FRONT_END", "FRONT_END_SMALL", "start_clap"]

# Trains on one core: 4.6 million parameters with a vocabulary of 4,096. The audio tower sees a picture of
# 128 x 128, for which 10 s may have 256 frames at most: hence the other hop.
CLAP_SMALL: dict[str, Any] = {
    "text_config": {
        "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 768,
        "max_position_embeddings": 130, "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
    "audio_config": {
        "patch_embeds_hidden_size": 48, "depths": [2, 2, 2], "num_attention_heads": [3, 6, 12],
        "spec_size": 128, "enable_fusion": False, "hidden_dropout_prob": 0.0,
    },
    "projection_dim": 512,
}  # fmt: skip
FRONT_END: dict[str, Any] = {  # of transformers' ClapFeatureExtractor, where its class defaults differ
    "frequency_min": 50, "frequency_max": 14000, "truncation": "rand_trunc", "padding": "repeatpad",
}  # fmt: skip
FRONT_END_SMALL: dict[str, Any] = {**FRONT_END, "hop_length": 1920, "fft_window_size": 2048}
PRESETS = {"16k": (CLAP_16K, FRONT_END), "small": (CLAP_SMALL, FRONT_END_SMALL)}


def start_clap(
    source: str | Mapping[str, Any],
    front_end: Mapping[str, Any],
    captions: Sequence[str],
    *,
    vocab_size: int,
    seed: int,
    begun: Path | None,
) -> CLAP:
    """A CLAP from scratch.

    source: "preset:16k", "preset:small", or a hub config where it differs from transformers' defaults.
    front_end: settings of the feature extractor, on top of the preset's. begun: the folder of a run to go on
    with, whose tokenizer and feature extractor are read; None learns a tokenizer from the captions.
    Raises ConfigError for sizes that are absurd or do not fit together.
    """
    config, front = _config(source)
    where = f"parts.clap {source}" if isinstance(source, str) else "parts.clap"
    sizes = ClapConfig.from_facts(clap_facts(config, where))
    mel_bins = sizes.audio.num_mel_bins
    if begun is not None:
        tokenizer = Tokenizer.load(begun / "tokenizer")
        extractor = load_feature_extractor(begun / "feature_extractor", mel_bins)
    else:
        tokenizer = train_tokenizer(captions, vocab_size, sizes.text.max_tokens)
        settings = {**front, **front_end}
        extractor = FrontEnd.from_facts(front_end_from_hub(settings, mel_bins, "parts.feature_extractor"))
    _check_frames(extractor, sizes.audio)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "start", "clap"))
        model = ClapModel(replace(sizes, text=replace(sizes.text, vocab_size=len(tokenizer))))
        model.reset_parameters()
    return CLAP(model.eval(), tokenizer, extractor)


def _config(source: str | Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    if isinstance(source, str):
        name = source.removeprefix(PRESET)
        if name not in PRESETS:
            raise ConfigError(f"parts.clap: got {source!r}, expected {PRESET}{' or '.join(PRESETS)}")
        config, front = PRESETS[name]
    else:
        config, front = dict(source), FRONT_END
    config = deepcopy(config)
    for side in ("text_config", "audio_config"):
        config.setdefault(side, {})
    return config, front


def _check_frames(extractor: FrontEnd, audio: AudioTowerConfig) -> None:
    """The audio tower folds time into the rows of a square: what does not fit into it, it refuses."""
    if extractor.frames > audio.max_frames:
        raise ConfigError(
            f"parts.feature_extractor: {extractor.max_length_s} s are {extractor.frames} frames of "
            f"{extractor.mel.hop_length} samples, and an audio tower with spec_size {audio.spec_size} and "
            f"{audio.num_mel_bins} mel bins takes {audio.max_frames}; make hop_length larger, or "
            "max_length_s smaller"
        )
