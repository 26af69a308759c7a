"""Variational autoencoder of MusicLDM: log-mel spectrogram <-> latents, four times smaller in time and mel.

Needs torch and einops only; this file can be copied out and used alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["VAE", "Decoder", "Encoder", "Posterior", "VAEConfig"]

NORM_EPS = 1e-6  # of every group norm here; the U-Net's residual blocks have 1e-5
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Widths of the autoencoder, and the scale that brings its latents to unit variance.

    `scaling_factor` is learnt from data (1 / standard deviation of the first training batch's latents): two
    checkpoints of one architecture differ in it.
    """

    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int
    norm_num_groups: int
    scaling_factor: float

    def __post_init__(self) -> None:
        if any(width % self.norm_num_groups for width in self.block_out_channels):
            raise ValueError(
                f"VAEConfig: widths {self.block_out_channels} do not all split into "
                f"{self.norm_num_groups} norm groups"
            )
        if not 0 < self.scaling_factor < float("inf"):
            raise ValueError(
                f"VAEConfig: scaling_factor must be positive and finite, got {self.scaling_factor}"
            )

    @property
    def factor(self) -> int:
        """Mel frames per latent row, and mel bins per latent column."""
        return int(2 ** (len(self.block_out_channels) - 1))


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian over latents, in the encoder's own units.

    mean, logvar: (b, c, t, f). Multiply a draw by `VAEConfig.scaling_factor` for the sampler's unit scale.
    """

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """-> (b, c, t, f), the mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """-> (b, c, t, f); noise is drawn in float32 on the generator's device (CPU without one)."""
        device = generator.device if generator is not None else "cpu"
        noise = torch.randn(self.mean.shape, generator=generator, device=device)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean)


class VAE(nn.Module):
    """Encoder, decoder, and the latent scale.

    `decode` takes the sampler's unit-scale latents and divides by the scale itself. The way back is
    `encode(mel).mode() * config.scaling_factor`.

    Source: RetroCirce/MusicLDM c8100b5, autoencoder.py, AutoencoderKL; latent diffusion models,
    Rombach et al. 2022 (arXiv 2112.10752). Differs: the scale lives here, not in the diffusion model.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        z = config.latent_channels
        self.encoder = Encoder(config)
        self.quant = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant = nn.Conv2d(z, z, 1)
        self.decoder = Decoder(config)

    def encode(self, mel: Tensor) -> Posterior:
        """mel: (b, 1, t, f) log-mel -> posterior over (b, c, t/4, f/4).

        Raises ValueError if t or f is not a multiple of the factor.
        """
        factor = self.config.factor
        if mel.ndim != 4 or mel.shape[1] != self.config.in_channels:
            raise ValueError(
                f"VAE.encode: got {tuple(mel.shape)}, expected (b, {self.config.in_channels}, t, f) log-mel"
            )
        if mel.shape[2] % factor or mel.shape[3] % factor:
            raise ValueError(
                f"VAE.encode: got {mel.shape[2]} frames of {mel.shape[3]} bins, expected multiples of "
                f"{factor};"
                " pad or cut the spectrogram"
            )
        mean, logvar = self.quant(self.encoder(mel)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (b, c, t, f) at unit scale -> (b, 1, 4t, 4f) log-mel."""
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"VAE.decode: got {tuple(latents.shape)}, expected (b, {self.config.latent_channels}, t, f)"
            )
        # channels-last: the layout in which CPU and GPU convolve without reordering; it follows the input
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.decoder(self.post_quant(latents / self.config.scaling_factor))


class Encoder(nn.Module):
    """Log-mel -> mean and log-variance, still before the 1x1 `quant` convolution."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.stages = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths, start=1):
            resample = Downsample(width) if level < len(widths) else nn.Identity()
            self.stages.append(Stage(channels, width, config.layers_per_block, groups, resample))
            channels = width
        self.mid = Mid(channels, groups)
        self.norm_out = nn.GroupNorm(groups, channels, NORM_EPS)
        self.conv_out = nn.Conv2d(channels, 2 * config.latent_channels, 3, padding=1)

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (b, 1, t, f) -> (b, 2c, t/4, f/4)."""
        x = self.conv_in(mel)
        for stage in self.stages:
            x = stage(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents, already through `post_quant` -> log-mel. One residual block more per stage than the
    encoder."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        channels = widths[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, channels, 3, padding=1)
        self.mid = Mid(channels, groups)
        self.stages = nn.ModuleList()
        for level in reversed(range(len(widths))):
            resample = Upsample(widths[level]) if level else nn.Identity()
            self.stages.append(Stage(channels, widths[level], config.layers_per_block + 1, groups, resample))
            channels = widths[level]
        self.norm_out = nn.GroupNorm(groups, channels, NORM_EPS)
        self.conv_out = nn.Conv2d(channels, config.out_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """latents: (b, c, t, f) -> (b, 1, 4t, 4f)."""
        x = self.mid(self.conv_in(latents))
        for stage in self.stages:
            x = stage(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Stage(nn.Module):
    """Residual blocks of one resolution, then the change to the next."""

    def __init__(
        self, channels_in: int, channels: int, layers: int, groups: int, resample: nn.Module
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * (layers - 1)
        self.res = nn.Sequential(*(ResBlock(width, channels, groups) for width in widths))
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c_in, t, f) -> (b, c, t', f')."""
        return self.resample(self.res(x))


class Downsample(nn.Module):
    """Halves both axes; pads at the end only, as the authors' encoder does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, t, f) -> (b, c, t/2, f/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles both axes: nearest neighbour, then a 3x3 convolution, as one transposed convolution.

    Repeating a pixel is a transposed convolution with a 2x2 box; after it, the 3x3 kernel widened by that box
    to 4x4 does both, with 16 products a pixel where the original has 36.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, t, f) -> (b, c, 2t, 2f)."""
        flipped = F.pad(self.conv.weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
        kernel = F.avg_pool2d(flipped, 2, stride=1, divisor_override=1)  # sums of 2x2 windows
        return F.conv_transpose2d(x, kernel, self.conv.bias, stride=2, padding=1)


class Mid(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.res1 = ResBlock(channels, channels, groups)
        self.attn = Attention(channels, groups)
        self.res2 = ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, t, f) -> (b, c, t, f)."""
        return self.res2(self.attn(self.res1(x)))


class ResBlock(nn.Module):
    """Group norm, SiLU, 3x3 convolution, twice."""

    def __init__(self, channels_in: int, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, NORM_EPS)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels, NORM_EPS)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c_in, t, f) -> (b, c, t, f)."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return self.skip(x) + y


class Attention(nn.Module):
    """Single-head self-attention over all positions, with a residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, NORM_EPS)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, t, f) -> (b, c, t, f)."""
        t, f = x.shape[-2:]
        qkv = self.qkv(rearrange(self.norm(x), "b c t f -> b 1 (t f) c"))  # torch's fast kernels want heads
        y = self.out(F.scaled_dot_product_attention(*qkv.chunk(3, dim=-1)))
        return x + rearrange(y, "b 1 (t f) c -> b c t f", t=t, f=f)
