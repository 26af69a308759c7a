"""Keeping what was not to change: an edited clip decoded so that elsewhere it is the plain reconstruction.

Equal latents do not decode to equal audio: the decoder's group norms and its attention see the whole clip. So
both are decoded, the edited log-mel is laid over the plain one where the mask is, and the vocoder makes one
clip of that. The vocoder is local in time: beyond its receptive field the samples are the plain ones. In
frequency it is not; there the difference between the two clips is let through in the masked bands alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from musicldm.chunks import receptive_frames
from musicldm.mel import MelConfig, mel_edges
from musicldm.parts import Parts

__all__ = ["reach", "splice"]

FADE_ROWS = 2  # latent rows over which the log-mels fade into each other, outside of the mask
FADE_COLUMNS = 1


def splice(pipe: Parts, source: Tensor, latents: Tensor, mask: Tensor, mel: MelConfig) -> Tensor:
    """source, latents: (b, c, t, f), equal outside of the mask (t, f) -> (b, s) waveform.

    It is `pipe.decode(source)` further than `reach` samples away from the masked rows, and, where only some
    columns are masked, at frequencies more than a column away from those.
    """
    plain_mel, edited_mel = (pipe.decode_mel(each).float() for each in (source, latents))
    weight = _faded(mask.to(plain_mel.device), pipe.vae.config.factor)
    plain = pipe.vocode(plain_mel).float()
    edited = pipe.vocode(plain_mel + weight * (edited_mel - plain_mel)).float()
    if not (mask.any(dim=1) & ~mask.all(dim=1)).any():
        return edited  # whole rows: it is the plain clip outside of them already
    return plain + _let_through(edited - plain, weight, receptive_frames(pipe.vocoder.config), mel)


def reach(pipe: Parts) -> int:
    """Samples to either side of the masked rows in which the clip differs from its plain reconstruction."""
    frames = FADE_ROWS * pipe.vae.config.factor + receptive_frames(pipe.vocoder.config)
    return frames * pipe.vocoder.config.hop_length


def _faded(mask: Tensor, factor: int) -> Tensor:
    """(t, f) bool -> (mel frames, mel bins) weights: 1 on the mask, falling in straight lines around it."""
    weight = mask.float().repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)[None]
    for kernel, padding, steps in (((3, 1), (1, 0), FADE_ROWS), ((1, 3), (0, 1), FADE_COLUMNS)):
        for _ in range(steps * factor):
            around = F.max_pool2d(weight, kernel, stride=1, padding=padding)
            weight = torch.maximum(weight, around - 1 / (steps * factor + 1))
    return weight[0]


def _let_through(wave: Tensor, weight: Tensor, frames: int, mel: MelConfig) -> Tensor:
    """wave: (b, s); weight: (mel frames, mel bins) -> (b, s), of the wave what the weights let through.

    The weight of a mel bin is that of the frequencies around its centre; in time it is widened by so many
    frames to either side.
    """
    window = torch.hann_window(mel.n_fft, device=wave.device)
    spectrum = torch.stft(wave, mel.n_fft, mel.hop_length, window=window, return_complex=True)
    frequencies = torch.linspace(0, mel.sampling_rate / 2, mel.n_fft // 2 + 1, dtype=torch.float64)
    edges = mel_edges(mel)
    bins = torch.bucketize(frequencies, ((edges[:-1] + edges[1:]) / 2)[1:-1]).to(wave.device)
    gain = F.max_pool1d(weight.T[None], 2 * frames + 1, stride=1, padding=frames)[0]  # f t
    gain = F.pad(gain, (0, max(0, spectrum.shape[-1] - gain.shape[1])), mode="replicate")
    gain = gain[bins, : spectrum.shape[-1]]
    return torch.istft(spectrum * gain, mel.n_fft, mel.hop_length, window=window, length=wave.shape[1])
