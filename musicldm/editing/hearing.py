"""CLAP's ear with gradients: waveform -> embedding in torch alone, equal to what `CLAP.embed_audio` gives.

`CLAP.features` leaves torch for soxr. A resampler is linear, so it can be said in torch: as the filter that
it is, read off soxr by an impulse.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm import audio
from musicldm.clap import CLAP

__all__ = ["embed_audio", "features", "resample"]

REACH = 128  # input samples to either side that a sample of soxr's HQ depends on: 100, and some


def embed_audio(clap: CLAP, wave: Tensor, rate: int) -> Tensor:
    """wave: (b, s) at `rate` Hz -> (b, d) unit-norm embeddings. Differentiable.

    Raises what `features` raises.
    """
    return clap.encode_audio(features(clap, wave, rate))


def features(clap: CLAP, wave: Tensor, rate: int) -> Tensor:
    """`CLAP.features` for a tensor (b, s), with gradients: -> (b, 1, t, f) float64 dB.

    Raises ValueError if the wave is not (b, s), or if the rate does not divide CLAP's (48 kHz).
    """
    if wave.ndim != 2 or not wave.shape[1]:
        raise ValueError(f"hearing: got {tuple(wave.shape)}, expected (b, s) mono samples")
    return clap.front_end(resample(wave, rate, clap.front_end.sampling_rate))


def resample(wave: Tensor, rate: int, target: int) -> Tensor:
    """wave: (b, s) at `rate` Hz -> (b, s target / rate), as soxr's HQ does it. Differentiable.

    Ratios above 4 differ from it in the first 40 samples: soxr works in two stages there.

    Raises ValueError if the target is not a multiple of the rate.
    """
    ratio, rest = divmod(target, rate) if rate > 0 else (0, 1)
    if rest:
        raise ValueError(
            f"hearing: got {rate} Hz, expected a rate that divides {target} Hz, such as the vocoder's 16000; "
            "resample first (musicldm.audio), or use CLAP.embed_audio, which takes any rate"
        )
    if ratio == 1:
        return wave
    impulse = np.zeros(4 * REACH)
    impulse[2 * REACH] = 1
    response = audio.resample(impulse, rate, target)
    kernel = torch.as_tensor(response[REACH * ratio : 3 * REACH * ratio + 1]).to(wave)
    return F.conv_transpose1d(
        wave[:, None], kernel[None, None], stride=ratio, padding=REACH * ratio, output_padding=ratio - 1
    )[:, 0]
