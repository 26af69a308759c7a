"""VGGish: the embedding behind FAD, 128 numbers for each 0.96 s.

Source: Hershey et al. 2017 (arXiv 1609.09430); its front end as AudioSet's release documents it; weights by
harritaylor/torchvggish. Used as Kilgour et al. 2019 (arXiv 1812.08466) and haoheliu/audioldm_eval do: no PCA,
no quantisation, without the last rectifier. Differs: soxr resamples, not resampy; a clip under 0.975 s is
padded with silence, where others drop it; samples are not rounded to 16 bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weights_convert.mapping import Table, rule

from .features import FeatureId, Features, Wave, check_waves
from .weights import Published, fill

__all__ = ["PUBLISHED", "Vggish", "VggishNetwork", "log_mel_patches", "mel_bank", "table"]

PUBLISHED = Published(
    "vggish-10086976.pth",
    "github.com/harritaylor/torchvggish, release v0.1",
    "Apache 2.0",
    "10086976",  # torch's hub names a file by the first digits of its hash
)
RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512  # Hz; samples
BANDS, LOW, HIGH, OFFSET = 64, 125.0, 7500.0, 0.01
FRAMES = 96  # of a patch, 0.96 s; patches do not overlap
SHORTEST = WINDOW + (FRAMES - 1) * HOP  # samples of one patch
LAYERS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)  # channels of a convolution, or 0: a maximum over 2 x 2
HIDDEN, DIM = 4096, 128


def mel_bank() -> Tensor:
    """-> (64, 257) float64 triangles, straight over *mels* (HTK's), where others are over Hz; peaks of 1.

    The first bin, a constant, counts for nothing.
    """

    def mels(hz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hz / 700)

    bins = mels(torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.float64))
    low, high = mels(torch.tensor([LOW, HIGH], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bank = torch.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)).clamp_min(0)
    bank[:, 0] = 0
    return bank


def log_mel_patches(wave: Tensor) -> Tensor:
    """wave: (s,) at 16 kHz, s >= 15600 -> (n, 96, 64) patches of ln(mel magnitudes + 0.01).

    Windows of 25 ms every 10 ms, none over an edge; an unfinished patch at the end is dropped. In float64, as
    in the release.
    """
    wave = wave.double()
    window = torch.hann_window(WINDOW, dtype=wave.dtype, device=wave.device)
    magnitude = torch.fft.rfft(wave.unfold(0, WINDOW, HOP) * window, FFT).abs()
    frames = (magnitude @ mel_bank().to(wave.device).T + OFFSET).log()
    count = len(frames) // FRAMES
    return frames[: count * FRAMES].reshape(count, FRAMES, BANDS)


class VggishNetwork(nn.Module):
    """Patches (n, 96, 64) -> (n, 128). Six convolutions, four poolings, three linear layers.

    layers: channels of each convolution, 0 for a pooling. The published ones make 72,141,184 parameters.
    """

    def __init__(self, layers: Sequence[int] = LAYERS, hidden: int = HIDDEN, dim: int = DIM) -> None:
        super().__init__()
        built: list[nn.Module] = []
        channels = 1
        for width in layers:
            if width:
                built += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                built.append(nn.MaxPool2d(2))
        halved = 2 ** sum(width == 0 for width in layers)
        self.features = nn.Sequential(*built)
        self.embeddings = nn.Sequential(
            nn.Linear(FRAMES // halved * (BANDS // halved) * channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, dim),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """patches: (n, 96, 64) -> (n, dim)."""
        x = self.features(patches[:, None])
        return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))  # time, band, channel: TensorFlow's order


def table() -> Table:
    """The published file's names are ours."""
    return Table(
        "VGGish",
        (rule("features.{rest}", "features.{rest}"), rule("embeddings.{rest}", "embeddings.{rest}")),
        ignore={"pproc.{rest}": "PCA and quantisation of AudioSet's release; FAD is made before them"},
    )


class Vggish:
    """A VGGish as a `Feature`: frames (t, 128) of a clip, and their mean for an embedding. No classes."""

    classes = 0

    def __init__(self, network: VggishNetwork, sha256: str, sha256_of: str) -> None:
        self.network = network
        last = network.embeddings[-1]
        assert isinstance(last, nn.Linear)
        self.rate, self.dim = RATE, last.out_features
        settings = (
            "16000 Hz mono; 0.96 s patches without overlap, at least one; no PCA, no last ReLU; float32"
        )
        self.id = FeatureId("vggish", sha256, sha256_of, settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Vggish:
        """From the published file. Raises as `fill`: the message says where the file comes from."""
        network = VggishNetwork()
        digest = fill(network, table(), path, PUBLISHED)
        return cls(network.to(device), digest, f"file {os.path.basename(path)}")

    @torch.no_grad()
    def __call__(self, waves: Sequence[Wave]) -> Features:
        """waves: n clips (s,) at 16 kHz -> frames of each, embeddings (n, 128)."""
        check_waves(waves, self.id.name)
        device = next(self.network.parameters()).device
        frames = []
        for wave in waves:
            padded = torch.from_numpy(np.ascontiguousarray(wave, np.float32)).to(device)
            padded = F.pad(padded, (0, max(0, SHORTEST - len(padded))))
            frames.append(self.network(log_mel_patches(padded).float()).double().cpu().numpy())
        means = np.array([frame.mean(axis=0) for frame in frames], np.float64).reshape(len(frames), self.dim)
        return Features(means, frames=tuple(frames))
