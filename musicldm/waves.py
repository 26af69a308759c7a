"""Clips as people hand them over -> float32 mono at the rate that is wanted, or an error that says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import audio

__all__ = ["Wave", "as_waves"]

Wave = np.ndarray | Tensor

FULL_SCALE = {torch.int16: 2**15, torch.int32: 2**31, torch.int8: 2**7, torch.uint8: 2**7}
SAMPLES = "floats, or integers of 8, 16 or 32 bits"
RATES = (1000, 1_000_000)  # Hz; outside of it something else was meant: kHz, or a number of samples
MOST_CHANNELS = 64  # more on a channel axis are samples: the axes are in another order
LOUDEST = 8.0  # 18 dB over full scale: more than a mix overshoots by, less than 16-bit samples as floats


def as_waves(wave: Wave, rate: int, to_rate: int, name: str = "wave") -> Tensor:
    """A clip or a batch of clips at `rate` Hz -> (b, s) float32 at `to_rate` Hz, s = round(samples * ratio).

    Layouts: (s,) one clip; (s, 1) or (s, 2) one clip as soundfile reads it; (b, s) mono clips; (b, c, s)
    clips of several channels, which are averaged. One stereo clip (2, s) as torchaudio has it is wave[None]:
    without a batch axis it would be two clips. Integers are divided by their full scale.

    Raises TypeError for other types, ValueError for other shapes, an empty clip, a rate that is none,
    samples that are NaN or infinite (NonFiniteError), floats that look like integers that nobody scaled.
    """
    if not isinstance(wave, (np.ndarray, Tensor)):
        raise TypeError(f"{name}: got {type(wave).__name__}, expected a numpy array or a tensor of samples")
    _check_rate(rate, name)
    samples = _as_tensor(wave, name)
    if samples.ndim == 2 and samples.shape[1] in (1, 2) and samples.shape[0] > 2:
        samples = samples.T[None]  # s c -> 1 c s
    channels = samples.shape[1] if samples.ndim == 3 else 1
    if samples.ndim not in (1, 2, 3) or not samples.numel() or channels > MOST_CHANNELS:
        raise ValueError(
            f"{name}: got shape {tuple(samples.shape)}, expected at least one sample as (s,), (b, s), "
            "(b, channels, s), or (s, channels) with up to two channels"
        )
    samples = _floats(samples, name)
    if samples.ndim == 3:
        samples = samples.mean(dim=1)
    samples = samples.reshape(-1, samples.shape[-1])
    return samples if rate == to_rate else _resampled(samples, rate, to_rate, name)


def _as_tensor(wave: Wave, name: str) -> Tensor:
    if isinstance(wave, Tensor):
        return wave
    try:  # a copy: torch knows neither foreign byte orders, nor reversed axes, nor read-only memory
        return torch.from_numpy(np.array(wave, wave.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise TypeError(f"{name}: got samples of {wave.dtype}, expected {SAMPLES}") from None


def _floats(samples: Tensor, name: str) -> Tensor:
    if samples.dtype in FULL_SCALE:
        scale = FULL_SCALE[samples.dtype]
        centre = scale if samples.dtype == torch.uint8 else 0  # 8-bit WAV files are unsigned
        return ((samples.double() - centre) / scale).float()
    if not samples.is_floating_point():
        raise TypeError(f"{name}: got samples of {samples.dtype}, expected {SAMPLES}")
    samples = samples.float()
    audio.check_finite(samples.detach().cpu().numpy(), name)
    peak = float(samples.detach().abs().max())
    if peak > LOUDEST:
        raise ValueError(
            f"{name}: got floats with a peak of {peak:g}, expected -1 to 1; divide 16-bit samples that "
            "became floats by 32768"
        )
    return samples


def _check_rate(rate: Any, name: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        raise TypeError(f"{name}: got rate {rate!r}, expected a whole number of Hz")
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"{name}: got rate {rate}, expected {RATES[0]} to {RATES[1]} Hz, such as 44100")


def _resampled(samples: Tensor, rate: int, to_rate: int, name: str) -> Tensor:
    if samples.requires_grad:
        raise ValueError(
            f"{name}: gradients do not pass the change of rate from {rate} to {to_rate} Hz; resample first"
        )
    made = audio.resample(samples.cpu().numpy(), int(rate), to_rate)
    if not made.shape[-1]:
        raise ValueError(f"{name}: {samples.shape[-1]} samples at {rate} Hz are none at {to_rate} Hz")
    return torch.from_numpy(np.ascontiguousarray(made)).to(samples.device)
