"""CLAP's ear with gradients: waveform -> embedding in torch alone, equal to what `CLAP.embed_audio` gives.

`CLAP.features` leaves torch twice, for soxr and for transformers' feature extractor. Both are linear but for
the power spectrum and a logarithm, so they can be said in torch: the resampler as the filter that it is, read
off soxr by an impulse; the mel bank as the extractor holds it.
"""

from __future__ import annotations

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm.clap import CLAP

__all__ = ["embed_audio", "features", "resample"]

REACH = 128  # input samples to either side that a sample of soxr's HQ depends on: 100, and some
FLOOR = 1e-10  # power under which the extractor's logarithm sees silence, -100 dB


def embed_audio(clap: CLAP, wave: Tensor, rate: int) -> Tensor:
    """wave: (b, s) at `rate` Hz -> (b, d) unit-norm embeddings. Differentiable.

    Raises what `features` raises.
    """
    return clap.encode_audio(features(clap, wave, rate))


def features(clap: CLAP, wave: Tensor, rate: int) -> dict[str, Tensor]:
    """`CLAP.features` for a tensor (b, s), with gradients: the same cut, repetition and padding.

    Raises ValueError if the wave is not (b, s), if the rate does not divide CLAP's (48 kHz), or the model is
    a fused one, which sees long clips in four crops.

    Source: transformers 5, ClapFeatureExtractor with "rand_trunc" and "repeatpad". Differs: no random crop.
    """
    extractor = clap.feature_extractor
    if clap.model.config.audio_config.enable_fusion:
        raise ValueError("hearing: a fused CLAP has no differentiable front end here; use CLAP.embed_audio")
    if wave.ndim != 2 or not wave.shape[1]:
        raise ValueError(f"hearing: got {tuple(wave.shape)}, expected (b, s) mono samples")
    wave = resample(wave, rate, extractor.sampling_rate).double()  # as the extractor computes
    longest = extractor.nb_max_samples
    start = max(0, (wave.shape[1] - longest) // 2)
    wave = wave[:, start : start + longest]
    wave = wave.repeat(1, longest // wave.shape[1])
    wave = F.pad(wave, (0, longest - wave.shape[1]))
    window = torch.hann_window(extractor.fft_window_size, dtype=wave.dtype, device=wave.device)
    spectrum = torch.stft(
        wave, extractor.fft_window_size, extractor.hop_length, window=window, return_complex=True
    )
    power = spectrum.real.square() + spectrum.imag.square()  # abs() has no slope at zero
    bank = torch.as_tensor(extractor.mel_filters_slaney, dtype=wave.dtype, device=wave.device)
    mel = 10 * torch.log10((bank.T @ power).clamp_min(FLOOR))  # b f t
    return {
        "input_features": mel.transpose(1, 2)[:, None].to(clap.model.dtype),
        "is_longer": torch.zeros(len(wave), 1, dtype=torch.bool),
    }


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
    response = soxr.resample(impulse, rate, target, quality="HQ")
    kernel = torch.as_tensor(response[REACH * ratio : 3 * REACH * ratio + 1]).to(wave)
    return F.conv_transpose1d(
        wave[:, None], kernel[None, None], stride=ratio, padding=REACH * ratio, output_padding=ratio - 1
    )[:, 0]
