"""CLAP's ear: waveform -> log-mel spectrogram in dB, with gradients.

Not that of the latent diffusion model (`musicldm.mel`): 48 kHz, power of the spectrum, decibels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm.mel import MelConfig, mel_filterbank
from weights_convert.hub_config import front_end_to_hub
from weights_convert.writing import write_json

__all__ = ["FrontEnd"]

FLOOR = 1e-10  # power under which all is silence, -100 dB


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Settings, and the spectrogram that they make of clips at `sampling_rate` Hz.

    mel: the analysis; its `floor` is a power here. max_length_s: seconds that are heard, whole ones.

    Source: transformers 5, ClapFeatureExtractor with truncation "rand_trunc" and padding "repeatpad", as
    CLAP was trained. Differs: a long clip is cut to its middle, not at random; spectra are float64
    throughout (the extractor keeps complex64 in between, 1e-3 dB away).
    """

    mel: MelConfig
    max_length_s: int

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> FrontEnd:
        """What `weights_convert.hub_config.front_end_from_hub` says of a preprocessor_config.json."""
        mel = MelConfig(
            sampling_rate=facts["sampling_rate"],
            n_fft=facts["fft_window_size"],
            hop_length=facts["hop_length"],
            n_mels=facts["feature_size"],
            f_min=facts["frequency_min"],
            f_max=facts["frequency_max"],
            floor=FLOOR,
        )
        return cls(mel=mel, max_length_s=facts["max_length_s"])

    def facts(self) -> dict[str, Any]:
        """Settings under the hub's names."""
        mel = self.mel
        return {
            "sampling_rate": mel.sampling_rate,
            "fft_window_size": mel.n_fft,
            "hop_length": mel.hop_length,
            "feature_size": mel.n_mels,
            "frequency_min": mel.f_min,
            "frequency_max": mel.f_max,
            "max_length_s": self.max_length_s,
        }

    def save_pretrained(self, folder: Path) -> None:
        """Write preprocessor_config.json, which transformers reads too."""
        write_json(folder / "preprocessor_config.json", front_end_to_hub(self.facts()))

    @property
    def sampling_rate(self) -> int:
        """Hz."""
        return self.mel.sampling_rate

    @property
    def samples(self) -> int:
        """Samples that are heard."""
        return self.max_length_s * self.mel.sampling_rate

    @property
    def frames(self) -> int:
        """Frames of every spectrogram."""
        return self.samples // self.mel.hop_length + 1

    def __call__(self, wave: Tensor) -> Tensor:
        """wave: (b, s) at `sampling_rate` -> (b, 1, t, f) float64 dB. Differentiable.

        A long clip is cut to its middle; a short one is repeated as often as it fits, then silence follows.
        Raises ValueError if the wave is not (b, s) or empty.
        """
        if wave.ndim != 2 or not wave.shape[1]:
            raise ValueError(f"CLAP: got {tuple(wave.shape)}, expected (b, s) mono samples")
        start = max(0, (wave.shape[1] - self.samples) // 2)
        wave = wave[:, start : start + self.samples].double()
        wave = wave.repeat(1, self.samples // wave.shape[1])
        wave = F.pad(wave, (0, self.samples - wave.shape[1]))
        window = torch.hann_window(self.mel.n_fft, dtype=wave.dtype, device=wave.device)
        spectrum = torch.stft(wave, self.mel.n_fft, self.mel.hop_length, window=window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()  # abs() has no slope at zero
        bank = mel_filterbank(self.mel).to(power)
        decibels = 10 * torch.log10((bank @ power).clamp_min(self.mel.floor))  # b f t
        return decibels.transpose(1, 2)[:, None]
