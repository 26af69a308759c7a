"""Waveforms -> what networks are trained on, in full precision whatever the loop computes in."""

from __future__ import annotations

import torch
from torch import Tensor

from musicldm.mel import log_mel

__all__ = ["mel_of"]


@torch.no_grad()
def mel_of(wave: Tensor) -> Tensor:
    """wave: (b, s) -> (b, 1, t, f) float32 log-mel.

    Under autocast the mel bank's matrix product would be made in bfloat16, three digits of a value that a
    logarithm follows.
    """
    with torch.autocast(wave.device.type, enabled=False):
        return log_mel(wave.float())
