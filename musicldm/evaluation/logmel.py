"""An embedding without weights, for finding copies: which mel bands rise and fall together.

Two clips of one recording agree in it at any level (a factor is a constant of the logarithm, and goes with
the mean) and, but for what enters and leaves, at any start. It knows nothing of music: another performance of
a piece is another clip to it, and so is the clip at another pitch. Not from the paper; CLAP is, and both can
be asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from musicldm.mel import MelConfig, log_mel

from .features import CallableFeature, Rows, Wave

__all__ = ["log_mel_covariance", "log_mel_feature"]

MEL = MelConfig(
    sampling_rate=16000, n_fft=1024, hop_length=320, n_mels=64, f_min=0.0, f_max=8000.0, floor=1e-30
)
RANGE = 5.0  # natural logarithm, 43 dB: quieter bands count as so quiet, so that faint noise has no say


def log_mel_covariance(waves: Sequence[Wave]) -> Rows:
    """waves: n clips (s,) at 16 kHz -> (n, 2080): covariances over time of a clip's 64 log-mel bands.

    A clip of silence gives zeros, which have no cosine: leave such clips out by name.
    """
    rows = np.empty((len(waves), MEL.n_mels * (MEL.n_mels + 1) // 2))
    upper = np.triu_indices(MEL.n_mels)
    for i, wave in enumerate(waves):
        padded = F.pad(
            torch.from_numpy(np.ascontiguousarray(wave, np.float32)), (0, max(0, MEL.n_fft - len(wave)))
        )
        mels = log_mel(padded.double()[None], MEL)[0, 0].numpy()  # t f
        mels = np.maximum(mels, mels.max() - RANGE)
        mels = mels - mels[0]  # exactly 0 where nothing changes, which the mean alone would miss by rounding
        centred = mels - mels.mean(axis=0)
        rows[i] = (centred.T @ centred / len(centred))[upper]
    return rows


def log_mel_feature() -> CallableFeature:
    """`log_mel_covariance` as a `Feature`."""
    return CallableFeature(
        log_mel_covariance, name="logmel-covariance", version="1: 64 bands, 43 dB", rate=16000, dim=2080
    )
