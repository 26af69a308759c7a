"""U-Net of MusicLDM: noisy latents, a timestep and a CLAP condition -> the model output (predicted noise).

The condition is one vector, so it enters where the timestep does: projected, *concatenated* to the time
embedding, and added inside every residual block. Both attentions of a transformer block are self-attention.

Needs torch and einops only; this file can be copied out and used alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["UNet", "UNetConfig", "sinusoid"]

TRANSFORMER_NORM_EPS = 1e-6  # the group norm in front of a transformer; its layer norms have torch's 1e-5


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What a state dict of the U-Net cannot show, and the widths that it can.

    `heads` counts attention heads per level, 0 = no attention; the middle block has the last level's.
    `sample_size` is the number of latent rows of a training clip, 256 = 10.24 s in the published model.
    """

    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    heads: tuple[int, ...]
    layers_per_block: int
    cond_dim: int
    norm_num_groups: int
    norm_eps: float
    sample_size: int

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.block_out_channels):
            raise ValueError(
                f"UNetConfig: got {len(self.heads)} head counts for {len(self.block_out_channels)} levels; "
                "give one per level, 0 where a level has no attention"
            )
        for channels, heads in zip(self.block_out_channels, self.heads, strict=True):
            if channels % self.norm_num_groups:
                raise ValueError(
                    f"UNetConfig: {channels} channels do not split into {self.norm_num_groups} norm groups"
                )
            if heads and channels % heads:
                raise ValueError(f"UNetConfig: {channels} channels do not split into {heads} heads")


class UNet(nn.Module):
    """Predicts the noise in latents, given the timestep and a CLAP embedding.

    Source: RetroCirce/MusicLDM c8100b5, openaimodel.py, UNetModel (with `film_emb` as the condition).
    Differs: q, k, v in one linear; the transformer's 1x1 convolutions are linears over positions; any number
    of latent rows is accepted (an upsampling takes the size of the skip that it meets, as Diffusers does).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.block_out_channels
        time_dim = 4 * widths[0]
        emb_dim = 2 * time_dim  # [time | condition]
        groups, eps, layers = config.norm_num_groups, config.norm_eps, config.layers_per_block

        self.time_embed = TimeEmbedding(widths[0], time_dim)
        self.cond_embed = nn.Linear(config.cond_dim, time_dim)
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)

        self.down = nn.ModuleList()
        skips = [widths[0]]  # channels of what the way up will meet, in order of production
        for level, (width, heads) in enumerate(zip(widths, config.heads, strict=True)):
            last = level == len(widths) - 1
            self.down.append(DownStage(skips[-1], width, layers, heads, emb_dim, groups, eps, last))
            skips += [width] * (layers + (not last))

        self.mid = MidStage(widths[-1], config.heads[-1], emb_dim, groups, eps)

        self.up = nn.ModuleList()
        channels = widths[-1]
        for level, (width, heads) in reversed(list(enumerate(zip(widths, config.heads, strict=True)))):
            met = [skips.pop() for _ in range(layers + 1)]
            self.up.append(UpStage(channels, met, width, heads, emb_dim, groups, eps, level == 0))
            channels = width

        self.norm_out = nn.GroupNorm(groups, channels, eps)
        self.conv_out = nn.Conv2d(channels, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor | float, cond: Tensor) -> Tensor:
        """x: (b, c, t, f) noisy latents; timestep: () or (b,); cond: (b, d) -> (b, c, t, f) model output.

        Raises ValueError if a shape does not fit the config.
        """
        self._check(x, cond)
        emb = self.embed(timestep, cond)
        x = self.conv_in(x)
        skips = [x]
        for stage in self.down:
            x, made = stage(x, emb)
            skips += made
        x = self.mid(x, emb)
        for stage in self.up:
            x = stage(x, skips, emb)
        return self.conv_out(F.silu(self.norm_out(x)))

    def embed(self, timestep: Tensor | float, cond: Tensor) -> Tensor:
        """timestep: () or (b,); cond: (b, d) -> (b, 2e), [time | condition], for every residual block."""
        timestep = torch.as_tensor(timestep, device=cond.device).expand(cond.shape[0])
        return torch.cat([self.time_embed(timestep, cond.dtype), self.cond_embed(cond)], dim=-1)

    def _check(self, x: Tensor, cond: Tensor) -> None:
        c, d = self.config.in_channels, self.config.cond_dim
        if x.ndim != 4 or x.shape[1] != c:
            raise ValueError(
                f"UNet: got latents of shape {tuple(x.shape)}, expected (b, {c}, t, f); "
                "a mel spectrogram goes through VAE.encode first"
            )
        if cond.shape != (x.shape[0], d):
            raise ValueError(
                f"UNet: got a condition of shape {tuple(cond.shape)}, expected ({x.shape[0]}, {d}), "
                "one CLAP embedding per item of the batch"
            )


def sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """timestep: (b,) -> (b, dim) float32, cosines first, frequencies 10000^(-i / (dim / 2)).

    Source: Ho et al. 2020 (arXiv 2006.11239), after Vaswani et al. 2017, section 3.5.
    Differs: cosine half first, as the authors' `timestep_embedding` has it.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
    angles = timestep.float()[:, None] * torch.exp(-math.log(10000) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoid and two linears."""

    def __init__(self, sinusoid_dim: int, dim: int) -> None:
        super().__init__()
        self.sinusoid_dim = sinusoid_dim
        self.fc1 = nn.Linear(sinusoid_dim, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """timestep: (b,) -> (b, d)."""
        return self.fc2(F.silu(self.fc1(sinusoid(timestep, self.sinusoid_dim).to(dtype))))


class DownStage(nn.Module):
    """One level on the way down: residual blocks, each with a transformer where the level has heads."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        layers: int,
        heads: int,
        emb_dim: int,
        groups: int,
        eps: float,
        last: bool,
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * (layers - 1)
        self.res = nn.ModuleList(ResBlock(width, channels, emb_dim, groups, eps) for width in widths)
        self.attn = nn.ModuleList(_transformer(channels, heads, groups) for _ in widths)
        self.downsample = nn.ModuleList([] if last else [nn.Conv2d(channels, channels, 3, 2, 1)])

    def forward(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x: (b, c_in, t, f); emb: (b, d) -> x (b, c, t/2, f/2) and every skip that this level made."""
        skips = []
        for res, attn in zip(self.res, self.attn, strict=True):
            x = attn(res(x, emb))
            skips.append(x)
        for downsample in self.downsample:
            x = downsample(x)
            skips.append(x)
        return x, skips


class MidStage(nn.Module):
    """Residual block, transformer, residual block at the lowest resolution."""

    def __init__(self, channels: int, heads: int, emb_dim: int, groups: int, eps: float) -> None:
        super().__init__()
        self.res1 = ResBlock(channels, channels, emb_dim, groups, eps)
        self.attn = _transformer(channels, heads, groups)
        self.res2 = ResBlock(channels, channels, emb_dim, groups, eps)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x: (b, c, t, f); emb: (b, d) -> (b, c, t, f)."""
        return self.res2(self.attn(self.res1(x, emb)), emb)


class UpStage(nn.Module):
    """One level on the way up: each residual block takes one skip off the stack."""

    def __init__(
        self,
        channels_in: int,
        skip_channels: list[int],
        channels: int,
        heads: int,
        emb_dim: int,
        groups: int,
        eps: float,
        last: bool,
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * (len(skip_channels) - 1)
        self.res = nn.ModuleList(
            ResBlock(width + skip, channels, emb_dim, groups, eps)
            for width, skip in zip(widths, skip_channels, strict=True)
        )
        self.attn = nn.ModuleList(_transformer(channels, heads, groups) for _ in widths)
        self.upsample = nn.ModuleList([] if last else [nn.Conv2d(channels, channels, 3, padding=1)])

    def forward(self, x: Tensor, skips: list[Tensor], emb: Tensor) -> Tensor:
        """x: (b, c_in, t, f); skips: stack, popped; emb: (b, d) -> (b, c, 2t, 2f), the next skip's size."""
        for res, attn in zip(self.res, self.attn, strict=True):
            x = attn(res(torch.cat([x, skips.pop()], dim=1), emb))
        for upsample in self.upsample:
            x = upsample(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        return x


class ResBlock(nn.Module):
    """Group norm, SiLU, 3x3 convolution, twice, the embedding added in between."""

    def __init__(self, channels_in: int, channels: int, emb_dim: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.emb = nn.Linear(emb_dim, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x: (b, c_in, t, f); emb: (b, d) -> (b, c, t, f)."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.emb(F.silu(emb))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return self.skip(x) + y


def _transformer(channels: int, heads: int, groups: int) -> nn.Module:
    return Transformer(channels, heads, groups) if heads else nn.Identity()


class Transformer(nn.Module):
    """One transformer block over all positions of a feature map, with a residual around the whole.

    Source: RetroCirce/MusicLDM c8100b5, attention.py, SpatialTransformer with depth 1 and no context.
    """

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, TRANSFORMER_NORM_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = SelfAttention(
            channels, heads
        )  # "cross" attention of the original, never given a context
        self.norm3 = nn.LayerNorm(channels)
        self.ff = GEGLU(channels, 4 * channels)
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, c, t, f) -> (b, c, t, f)."""
        t, f = x.shape[-2:]
        y = self.proj_in(rearrange(self.norm(x), "b c t f -> b (t f) c"))
        y = y + self.attn1(self.norm1(y))
        y = y + self.attn2(self.norm2(y))
        y = y + self.ff(self.norm3(y))
        return x + rearrange(self.proj_out(y), "b (t f) c -> b c t f", t=t, f=f)


class SelfAttention(nn.Module):
    """Multi-head self-attention, q, k, v from one product."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, n, c) -> (b, n, c)."""
        q, k, v = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class GEGLU(nn.Module):
    """Feed-forward gated by an exact (erf) GELU. Source: Shazeer 2020 (arXiv 2002.05202), section 2."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)  # first half value, second half gate
        self.out = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (b, n, c) -> (b, n, c)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return self.out(value * F.gelu(gate))
