"""HiFi-GAN generator: log-mel spectrogram -> waveform. Weight norm is folded when a checkpoint is read.

Needs torch and einops only; this file can be copied out and used alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["Conv1d", "ConvTranspose1d", "HiFiGAN", "VocoderConfig"]

LAST_SLOPE = 0.01  # before conv_post torch's default was left in place; every other slope is the config's


@dataclass(frozen=True, kw_only=True)
class VocoderConfig:
    """Shape of the generator. `model_in_dim` counts mel bins, `sampling_rate` is in Hz."""

    model_in_dim: int
    sampling_rate: int
    upsample_initial_channel: int
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    leaky_relu_slope: float

    def __post_init__(self) -> None:
        for a, b in (
            ("upsample_rates", "upsample_kernel_sizes"),
            ("resblock_kernel_sizes", "resblock_dilation_sizes"),
        ):
            if len(getattr(self, a)) != len(getattr(self, b)):
                raise ValueError(
                    f"VocoderConfig: {a} {getattr(self, a)} and {b} {getattr(self, b)} "
                    "must have the same length"
                )
        if self.upsample_initial_channel % 2 ** len(self.upsample_rates):
            raise ValueError(
                f"VocoderConfig: {self.upsample_initial_channel} channels cannot be halved "
                f"{len(self.upsample_rates)} times"
            )

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return prod(self.upsample_rates)


class HiFiGAN(nn.Module):
    """Upsampling by transposed convolutions, each followed by the mean of several residual blocks.

    For the published rates t frames give 160 t + 32 samples: a transposed convolution whose kernel minus
    stride is odd adds one sample.

    Source: Kong et al. 2020 (arXiv 2010.05646), generator V1; jik876/hifi-gan 4769534, models.py, Generator.
    Differs: no weight norm (folded); mel as (b, t, f).
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.upsample_initial_channel
        self.conv_pre = Conv1d(config.model_in_dim, channels, 7, padding=3)
        self.stages = nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.stages.append(Stage(config, channels, channels // 2, rate, kernel))
            channels //= 2
        self.conv_post = Conv1d(channels, 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (b, t, f) log-mel -> (b, s) waveform in (-1, 1).

        Raises ValueError if f is not the number of mel bins.
        """
        return self.unbounded(mel).tanh()

    def unbounded(self, mel: Tensor) -> Tensor:
        """As `forward`, before tanh: for losses that must see past its flat ends."""
        bins = self.config.model_in_dim
        if mel.ndim != 3:
            raise ValueError(
                f"HiFiGAN: got {tuple(mel.shape)}, expected (b, t, {bins}) log-mel; VAE.decode gives "
                "(b, 1, t, f): drop its channel axis with mel[:, 0]"
            )
        if mel.shape[-1] != bins:
            raise ValueError(
                f"HiFiGAN: got {tuple(mel.shape)}, expected (b, t, {bins}) log-mel; a decoded mel has as "
                "many bins as the latents have columns times the VAE's factor: were the latents (b, c, t, "
                "pipe.columns)?"
            )
        x = self.conv_pre(rearrange(mel, "b t f -> b f t"))
        for stage in self.stages:
            x = stage(x)
        return rearrange(self.conv_post(F.leaky_relu(x, LAST_SLOPE)), "b 1 s -> b s")


class Stage(nn.Module):
    """One upsampling and its residual blocks, whose outputs are averaged."""

    def __init__(
        self, config: VocoderConfig, channels_in: int, channels: int, rate: int, kernel: int
    ) -> None:
        super().__init__()
        self.slope = config.leaky_relu_slope
        self.up = ConvTranspose1d(channels_in, channels, kernel, stride=rate, padding=(kernel - rate) // 2)
        self.res = nn.ModuleList(
            ResBlock(channels, k, dilations, self.slope)
            for k, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c_in, t) -> (b, c, rate * t), one sample more where kernel - rate is odd."""
        x = self.up(F.leaky_relu(x, self.slope))
        first, *others = self.res
        total = first(x)
        for res in others:
            total = total + res(x)
        return total / len(self.res)


class ResBlock(nn.Module):
    """Pairs of convolutions, the first of each dilated, each pair with a residual ("ResBlock1")."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.convs1 = nn.ModuleList(
            Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2) for d in dilations
        )
        self.convs2 = nn.ModuleList(
            Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, t) -> (b, c, t)."""
        for conv1, conv2 in zip(self.convs1, self.convs2, strict=True):
            y = conv1(F.leaky_relu(x, self.slope))
            x = x + conv2(F.leaky_relu(y, self.slope))
        return x


class Conv1d(nn.Conv1d):
    """nn.Conv1d, computed as a 2-d convolution over one row.

    The same products and the same weights. But a 2-d convolution follows the layout of what it is given, and
    the mel comes channels-last (b, t, f), which the kernels of CPU and GPU like best: the whole generator
    runs in it without a copy.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c_in, t) -> (b, c, t)."""
        (stride,), (dilation,) = self.stride, self.dilation
        weight, padding = self.weight[:, :, None], (0, int(self.padding[0]))
        return F.conv2d(x[:, :, None], weight, self.bias, (1, stride), padding, (1, dilation))[:, :, 0]


class ConvTranspose1d(nn.ConvTranspose1d):
    """nn.ConvTranspose1d, computed as a 2-d one over one row; see `Conv1d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: (b, c_in, t) -> (b, c, stride * t), more or less what kernel and padding leave."""
        (stride,), padding = self.stride, (0, int(self.padding[0]))
        return F.conv_transpose2d(x[:, :, None], self.weight[:, :, None], self.bias, (1, stride), padding)[
            :, :, 0
        ]
