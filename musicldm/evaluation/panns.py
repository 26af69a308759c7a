"""PANNs Cnn14 at 16 kHz: the tagger behind FD, inception score and KL in the AudioLDM family.

Source: Kong et al. 2020 (arXiv 1912.10211), CNN14, and qiuqiangkong/audioset_tagging_cnn, class Cnn14_16k;
used as haoheliu/audioldm_eval uses it: mean of the wave subtracted, at least 2 s. Differs:
channels are averaged before, where that takes the first; soxr resamples, where that has torchaudio.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from musicldm.mel import MelConfig, mel_filterbank
from weights_convert.mapping import Table, rule

from .features import FeatureId, Features, Wave, check_waves
from .weights import Published, fill

__all__ = ["PUBLISHED", "Cnn14", "Panns", "log_mel_decibels", "table"]

PUBLISHED = Published(
    "Cnn14_16k_mAP=0.438.pth",
    "zenodo.org/records/3987831",
    "Creative Commons Attribution 4.0",
    "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
)
MEL = MelConfig(
    sampling_rate=16000, n_fft=512, hop_length=160, n_mels=64, f_min=50.0, f_max=8000.0, floor=1e-10
)
SHORTEST = 32000  # samples; what is shorter is padded with silence
Row = NDArray[np.float64]
WIDTHS = (64, 128, 256, 512, 1024, 2048)


def log_mel_decibels(wave: Tensor, config: MelConfig = MEL) -> Tensor:
    """wave: (b, s) -> (b, 1, t, f) mel powers in dB, t = s // hop + 1 centred frames, edges reflected."""
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
    power = spectrum.real**2 + spectrum.imag**2
    mels = mel_filterbank(config).to(wave) @ power  # b f t
    return (10 * mels.clamp_min(config.floor).log10()).transpose(1, 2)[:, None]


class _Block(nn.Module):
    """Two 3x3 convolutions, each normalised and rectified, then a mean over pool x pool."""

    def __init__(self, c_in: int, c_out: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, self.pool)


class Cnn14(nn.Module):
    """Log-mels (b, 1, t, 64), t >= 32 -> embedding (b, 2048), logits (b, 527). Of six blocks five halve.

    widths: channels of the blocks; the last is the embedding's width. The published ones make 80,753,615
    parameters.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, n_mels: int = 64, classes: int = 527) -> None:
        super().__init__()
        ends = (1, *widths)
        last = len(widths) - 1
        self.norm = nn.BatchNorm2d(n_mels)  # one mean and variance a mel band
        self.blocks = nn.Sequential(
            *[_Block(ends[i], ends[i + 1], 1 if i == last else 2) for i in range(len(widths))]
        )
        self.hidden = nn.Linear(widths[-1], widths[-1])
        self.tags = nn.Linear(widths[-1], classes)

    def forward(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        """mels: (b, 1, t, f) in dB, t >= 32."""
        x = self.norm(mels.transpose(1, 3)).transpose(1, 3)
        x = self.blocks(x).mean(dim=3)  # b c t
        x = F.relu(self.hidden(x.amax(dim=2) + x.mean(dim=2)))
        return x, self.tags(x)


def table(blocks: int = len(WIDTHS)) -> Table:
    """The published file's names, under its key "model", and ours."""
    return Table(
        "PANNs Cnn14",
        (
            rule("norm.{p}", "bn0.{p}"),
            *(rule(f"blocks.{i}.{{rest}}", f"conv_block{i + 1}.{{rest}}") for i in range(blocks)),
            rule("hidden.{p}", "fc1.{p}"),
            rule("tags.{p}", "fc_audioset.{p}"),
        ),
        ignore={
            "spectrogram_extractor.{rest}": "the Fourier transform written as convolutions",
            "logmel_extractor.{rest}": "the mel bank, computed anew",
        },
    )


class Panns:
    """A Cnn14 as a `Feature` with 527 classes. Each clip runs alone: its numbers depend on no other."""

    def __init__(self, network: Cnn14, sha256: str, sha256_of: str) -> None:
        self.network = network
        self.rate, self.dim, self.classes = (
            MEL.sampling_rate,
            network.tags.in_features,
            network.tags.out_features,
        )
        settings = (
            "16000 Hz mono, mean subtracted, at least 2 s; embedding before the last layer, logits; float32"
        )
        self.id = FeatureId("panns-cnn14-16k", sha256, sha256_of, settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Panns:
        """From the published file. Raises as `fill`: the message says where the file comes from."""
        network = Cnn14()
        digest = fill(network, table(), path, PUBLISHED)
        return cls(network.to(device), digest, f"file {os.path.basename(path)}")

    @torch.no_grad()
    def __call__(self, waves: Sequence[Wave]) -> Features:
        """waves: n clips (s,) at 16 kHz -> embeddings (n, 2048) and logits (n, 527)."""
        check_waves(waves, self.id.name)
        device = self.network.tags.weight.device
        rows, logits = [], []
        for wave in waves:
            centred = torch.from_numpy(np.ascontiguousarray(wave, np.float32)).to(device)
            centred = centred - centred.mean()
            padded = F.pad(centred, (0, max(0, SHORTEST - len(centred))))
            embedding, tags = self.network(log_mel_decibels(padded[None]))
            rows.append(embedding[0].double().cpu().numpy())
            logits.append(tags[0].double().cpu().numpy())
        return Features(_stack(rows, self.dim), logits=_stack(logits, self.classes))


def _stack(rows: list[Row], width: int) -> Row:
    return np.array(rows, np.float64).reshape(len(rows), width)
