"""CLAP's audio tower: HTSAT and a projection, weights held here, run by transformers.

The one file that imports transformers, and it does so when the first clip is heard: a prompt becomes music
without the four seconds that this import takes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from weights_convert.clap_layout import audio_tensors, audio_to_hub

__all__ = ["AudioTower", "AudioTowerConfig"]


@dataclass(frozen=True, kw_only=True)
class AudioTowerConfig:
    """Sizes, under the hub's names. `projection_dim` is the width of the space shared with text."""

    patch_embeds_hidden_size: int
    depths: tuple[int, ...]
    num_attention_heads: tuple[int, ...]
    window_size: int
    num_mel_bins: int
    patch_size: int
    patch_stride: tuple[int, int]
    spec_size: int
    mlp_ratio: float
    layer_norm_eps: float
    projection_dim: int
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.0

    @property
    def max_frames(self) -> int:
        """Mel frames that can be heard: time is folded into the rows of a square picture."""
        return self.spec_size * (self.spec_size // self.num_mel_bins)


class AudioTower(nn.Module):
    """Mel spectrograms in dB -> one embedding a clip, not normalised.

    Parameters and buffers have transformers' names, and are handed to a ClapAudioModelWithProjection that has
    none of its own for the length of a call: they are saved, moved, trained and counted like any others.

    Source: Chen et al. 2022 (HTS-AT, arXiv 2202.00874); transformers, modeling_clap.py. Differs: the batch
    norm over mel bins keeps its statistics in training too.
    """

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.config = config
        for name, tensor in audio_tensors(asdict(config), config.projection_dim).items():
            *path, leaf = name.split(".")
            owner: nn.Module = self
            for step in path:
                if step not in dict(owner.named_children()):
                    owner.add_module(step, nn.Module())
                owner = owner.get_submodule(step)
            value = torch.empty(tensor.shape, dtype=tensor.dtype)
            if leaf.startswith("running_") or not value.is_floating_point():
                owner.register_buffer(leaf, value)
            else:
                owner.register_parameter(leaf, nn.Parameter(value))

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean (f,) and variance (f,) of each mel bin, in dB, by which clips are normalised."""
        norm = "audio_model.audio_encoder.batch_norm"
        return self.get_buffer(f"{norm}.running_mean"), self.get_buffer(f"{norm}.running_var")

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (b, 1, t, f) dB -> (b, d). Raises ValueError if there are more frames than can be heard."""
        if mel.shape[2] > self.config.max_frames:
            raise ValueError(
                f"AudioTower: got {mel.shape[2]} frames, expected at most {self.config.max_frames}"
            )
        code = self._code.train(self.training)
        code.audio_model.audio_encoder.batch_norm.eval()
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        embeds: Tensor = functional_call(code, state, (mel,)).audio_embeds
        return embeds

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw fresh weights from torch's global generator, as transformers does."""
        self.load_state_dict(_built(self.config).state_dict())

    @cached_property
    def _code(self) -> Any:
        """transformers' module, without values; not one of our submodules, which would be saved."""
        return _with_true_gradients(_built(self.config)).to("meta")


def _built(config: AudioTowerConfig) -> Any:
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    return ClapAudioModelWithProjection(
        ClapAudioConfig(**audio_to_hub(asdict(config), config.projection_dim))
    )


def _with_true_gradients(model: Any) -> Any:
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
