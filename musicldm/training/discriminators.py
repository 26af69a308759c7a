"""HiFi-GAN's judges of waveforms: sub-discriminators on periods, and on scales, of the signal.

Every one gives its score map and the feature maps of all its layers, which feature matching compares.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

__all__ = ["PERIODS", "Judgement", "PeriodDiscriminator", "ScaleDiscriminator", "WaveDiscriminators"]

PERIODS = (2, 3, 5, 7, 11)  # primes: they overlap as little as possible
SLOPE = 0.1


class Judgement(NamedTuple):
    """scores: (b, ...), near 1 for what is taken for real. features: (b, c, ...) after each layer."""

    scores: Tensor
    features: tuple[Tensor, ...]


class PeriodDiscriminator(nn.Module):
    """Sees a wave folded into rows of `period` samples, and convolves along columns alone.

    width: channels of the widest layer; 1024 gives 8,218,433 weights and biases.
    Source: Kong et al. 2020 (arXiv 2010.05646), section 2.3; jik876/hifi-gan 4769534, DiscriminatorP, whose
    widths (32, 128, 512, 1024, 1024) are not the text's.
    """

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width // 32, width // 8, width // 2, width, width)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(widths[k], widths[k + 1], (5, 1), (3 if k < 4 else 1, 1), (2, 0)))
            for k in range(5)
        )
        self.score = weight_norm(nn.Conv2d(width, 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> Judgement:
        """wave: (b, s); what is missing of a last row is reflected."""
        wave = F.pad(wave[:, None], (0, -wave.shape[1] % self.period), "reflect")
        return _judged(rearrange(wave, "b c (t p) -> b c t p", p=self.period), self.convs, self.score)


class ScaleDiscriminator(nn.Module):
    """Sees a wave as it is, through strided and grouped convolutions.

    width: channels of the widest layer; 1024 gives 9,870,209 weights and biases. spectral: spectral norm in
    place of weight norm, for the one on the raw wave.
    Source: Kong et al. 2020, section 2.3, after Kumar et al. 2019 (arXiv 1910.06711); jik876/hifi-gan
    4769534, DiscriminatorS.
    """

    def __init__(self, width: int, *, spectral: bool) -> None:
        super().__init__()
        norm = spectral_norm if spectral else weight_norm
        w = width
        layers = (  # channels in and out, kernel, stride, groups
            (1, w // 8, 15, 1, 1),
            (w // 8, w // 8, 41, 2, 4),
            (w // 8, w // 4, 41, 2, 16),
            (w // 4, w // 2, 41, 4, 16),
            (w // 2, w, 41, 4, 16),
            (w, w, 41, 1, 16),
            (w, w, 5, 1, 1),
        )
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(c_in, c_out, kernel, stride, kernel // 2, groups=groups))
            for c_in, c_out, kernel, stride, groups in layers
        )
        self.score = norm(nn.Conv1d(w, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> Judgement:
        """wave: (b, s)."""
        return _judged(wave[:, None], self.convs, self.score)


def _judged(x: Tensor, convs: nn.ModuleList, score: nn.Module) -> Judgement:
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        features.append(x)
    x = score(x)
    return Judgement(x, (*features, x))


class WaveDiscriminators(nn.Module):
    """All judges of a wave: five periods, and three scales, each half as fine as the one before.

    width: channels of each one's widest layer, 1024 in the paper. Raises ValueError unless 128 divides it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 128 or width % 128:
            raise ValueError(
                f"WaveDiscriminators: got width {width}, expected a multiple of 128 (1024 in the paper), so "
                "that the grouped convolutions split into 16 groups"
            )
        self.periods = nn.ModuleList(PeriodDiscriminator(period, width) for period in PERIODS)
        self.scales = nn.ModuleList(ScaleDiscriminator(width, spectral=k == 0) for k in range(3))

    def forward(self, wave: Tensor) -> list[Judgement]:
        """wave: (b, s) -> eight judgements."""
        judged = [period(wave) for period in self.periods]
        for k, scale in enumerate(self.scales):
            if k:
                wave = F.avg_pool1d(wave[:, None], 4, 2, padding=2)[:, 0]
            judged.append(scale(wave))
        return judged
