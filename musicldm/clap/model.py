"""CLAP's two towers and their temperature, as one module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from .audio import AudioTower, AudioTowerConfig
from .text import TextTower, TextTowerConfig

__all__ = ["ClapConfig", "ClapModel"]


@dataclass(frozen=True, kw_only=True)
class ClapConfig:
    """Both towers. `logit_scale_init_value` is the inverse temperature at which training starts."""

    text: TextTowerConfig
    audio: AudioTowerConfig
    logit_scale_init_value: float = 1 / 0.07

    def __post_init__(self) -> None:
        if self.text.projection_dim != self.audio.projection_dim:
            raise ValueError(
                f"ClapConfig: text is projected to {self.text.projection_dim} channels, audio to "
                f"{self.audio.projection_dim}"
            )

    @classmethod
    def from_facts(cls, facts: Mapping[str, Mapping[str, Any]]) -> ClapConfig:
        """What `weights_convert.clap_layout.clap_facts` says of a hub config."""
        joint = {"projection_dim": facts["joint"]["projection_dim"]}
        return cls(
            text=TextTowerConfig(**facts["text"], **joint),
            audio=AudioTowerConfig(**facts["audio"], **joint),
            logit_scale_init_value=facts["joint"]["logit_scale_init_value"],
        )

    def facts(self) -> dict[str, dict[str, Any]]:
        """What `weights_convert.clap_layout.clap_to_hub` takes."""
        text, audio = asdict(self.text), asdict(self.audio)
        del audio["projection_dim"]
        joint = {
            "projection_dim": text.pop("projection_dim"),
            "logit_scale_init_value": self.logit_scale_init_value,
        }
        return {"text": text, "audio": audio, "joint": joint}


class ClapModel(nn.Module):
    """`text`, `audio`, and the logarithms of the inverse temperature of each direction.

    Source: transformers, modeling_clap.py, ClapModel without fusion.
    """

    def __init__(self, config: ClapConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextTower(config.text)
        self.audio = AudioTower(config.audio)
        scale = math.log(config.logit_scale_init_value)
        self.logit_scale_a = nn.Parameter(torch.tensor(scale))
        self.logit_scale_t = nn.Parameter(torch.tensor(scale))

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.config.text.projection_dim

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.logit_scale_a.device

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes."""
        return self.logit_scale_a.dtype

    def reset_parameters(self) -> None:
        """Draw fresh weights for both towers from torch's global generator."""
        self.text.reset_parameters()
        self.audio.reset_parameters()
