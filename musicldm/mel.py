"""Waveform -> log-mel spectrogram, exactly as the published model was trained.

Four front ends circulate in this family of models; they differ in padding, in the power of the spectrum and
in the floor of the logarithm, and a model hears the difference (rms 0.10 between two of them). This is the
latent diffusion model's own: magnitude, centred frames, reflected edges, Slaney mel bank, natural logarithm.
CLAP has another (48 kHz, power, decibels): `clap.front_end`.

Needs torch and einops only; this file can be copied out and used alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MUSICLDM_16K", "MelConfig", "log_mel", "mel_edges", "mel_filterbank", "normalize_track"]


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """Analysis settings: rates and frequencies in Hz, lengths in samples, `floor` in linear magnitude."""

    sampling_rate: int
    n_fft: int
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float
    floor: float

    def __post_init__(self) -> None:
        if not 0 <= self.f_min < self.f_max <= self.sampling_rate / 2:
            raise ValueError(
                f"MelConfig: got f_min {self.f_min} and f_max {self.f_max} Hz, expected "
                f"0 <= f_min < f_max <= {self.sampling_rate / 2}, half the sampling rate"
            )


MUSICLDM_16K = MelConfig(
    sampling_rate=16000, n_fft=1024, hop_length=160, n_mels=64, f_min=0.0, f_max=8000.0, floor=1e-5
)


def log_mel(wave: Tensor, config: MelConfig = MUSICLDM_16K) -> Tensor:
    """wave: (b, s) -> (b, 1, t, f) natural-log mel magnitudes, t = s // hop_length. Differentiable.

    The frame that a centred transform adds at the end is dropped, so that 163,840 samples give 1,024 frames.
    Raises ValueError if the wave is not (b, s) or shorter than half a window, which reflection needs.

    Source: karchkha/mt-musicldm, AudiostockDataset and TacotronSTFT (the authors' training front end).
    Differs: short clips are for the caller to pad in samples (the authors pad the *spectrogram* with 0.0,
    which is loud: silence is ln(1e-5) = -11.5).
    """
    if wave.ndim != 2 or wave.shape[1] <= config.n_fft // 2:
        raise ValueError(
            f"log_mel: got {tuple(wave.shape)}, expected (b, s) with more than {config.n_fft // 2} samples"
        )
    window = torch.hann_window(config.n_fft, dtype=wave.dtype, device=wave.device)
    spectrum = torch.stft(
        wave,
        config.n_fft,
        config.hop_length,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    bank = mel_filterbank(config).to(wave)
    frames = (bank @ spectrum.abs()).clamp_min(config.floor).log()  # b f t
    return frames[..., : wave.shape[1] // config.hop_length].transpose(1, 2)[:, None]


def mel_filterbank(config: MelConfig) -> Tensor:
    """-> (n_mels, n_fft // 2 + 1) float32 triangles of equal area on Slaney's mel scale.

    Source: Slaney 1998, Auditory Toolbox; the values that `librosa.filters.mel(htk=False, norm="slaney")`
    has.
    """
    bins = torch.linspace(0, config.sampling_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    edges = mel_edges(config)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)).clamp_min(
        0
    )
    return (triangles * 2 / (upper - lower)).float()


def mel_edges(config: MelConfig) -> Tensor:
    """-> (n_mels + 2,) float64 Hz: mel bin k has its centre at edge k + 1, and ends at edges k and k + 2."""
    mels = torch.linspace(
        _hz_to_mel(config.f_min), _hz_to_mel(config.f_max), config.n_mels + 2, dtype=torch.float64
    )
    return _mel_to_hz(mels)


MEL_HZ = 200 / 3  # width of a mel below 1 kHz, where the scale is linear
LOG_FROM_HZ = 1000.0
LOG_STEP = math.log(6.4) / 27  # above, 27 mels take the frequency from 1 kHz to 6.4 kHz


def _hz_to_mel(hz: float) -> float:
    if hz < LOG_FROM_HZ:
        return hz / MEL_HZ
    return LOG_FROM_HZ / MEL_HZ + math.log(hz / LOG_FROM_HZ) / LOG_STEP


def _mel_to_hz(mel: Tensor) -> Tensor:
    log_from = LOG_FROM_HZ / MEL_HZ
    return torch.where(mel < log_from, mel * MEL_HZ, LOG_FROM_HZ * torch.exp(LOG_STEP * (mel - log_from)))


def normalize_track(wave: Tensor) -> Tensor:
    """wave: (..., s) -> (..., s) with zero mean and peak 0.5, the level at which the model was trained.

    Made for a whole track before it is cropped. A silent track stays silent.
    """
    wave = wave - wave.mean(dim=-1, keepdim=True)
    peak = wave.abs().amax(dim=-1, keepdim=True)
    return 0.5 * wave / torch.where(peak > 0, peak, torch.ones_like(peak))
