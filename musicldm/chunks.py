"""Long clips in less memory: the VAE's decoder and the vocoder, piece by piece, with the result of the whole.

The vocoder is local: a sample depends on some 30 frames around it, so pieces overlap by that. The decoder is
not: its group norms have statistics over the whole clip, and the attention in its middle sees every position.
So the middle runs whole, at the lowest resolution; after it each layer takes its statistics over the whole
clip and then works by pieces, which keeps two feature maps in memory where the plain decoder keeps six.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .vae import VAE, ResBlock, Stage, Upsample
from .vocoder import HiFiGAN, VocoderConfig

__all__ = ["decode", "receptive_frames", "vocode"]


def vocode(vocoder: HiFiGAN, mel: Tensor, frames: int) -> Tensor:
    """mel: (b, t, f) -> (b, s), what `vocoder(mel)` gives, made `frames` at a time.

    All pieces have one size (a compiled vocoder needs one graph): frames, and the receptive field on both
    sides. Clips up to that size are made at once.
    """
    hop, t = vocoder.config.hop_length, mel.shape[1]
    halo = receptive_frames(vocoder.config)
    size = frames + 2 * halo
    if t <= size:
        return vocoder(mel)
    wave = []
    for first in range(0, t, frames):
        last = min(first + frames, t)
        start = min(max(first - halo, 0), t - size)
        piece = vocoder(mel[:, start : start + size])
        wave.append(piece[:, (first - start) * hop : (last - start) * hop if last < t else None])
    return torch.cat(wave, dim=1)


def receptive_frames(config: VocoderConfig) -> int:
    """Mel frames to either side on which a sample may depend, rounded up at each stage."""
    reach = 3  # conv_post, kernel 7, in samples of the last stage
    residual = max(
        sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations)
        for kernel, dilations in zip(
            config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
        )
    )
    for rate, kernel in zip(
        reversed(config.upsample_rates), reversed(config.upsample_kernel_sizes), strict=True
    ):
        reach = -(-(reach + residual + kernel) // rate)
    return reach + 3  # conv_pre


def decode(vae: VAE, latents: Tensor, rows: int, whole: int | None = None) -> Tensor:
    """latents: (b, c, t, f) at unit scale -> (b, 1, 4t, 4f), what `vae.decode(latents)` gives.

    rows: latent rows worked on at a time. whole: clips up to this length, None `rows`, are decoded at once.
    Longer ones without gradients, which would need the memory that this is to save.
    """
    if latents.shape[2] <= (rows if whole is None else whole):
        return vae.decode(latents)
    with torch.no_grad():
        decoder = vae.decoder
        x = latents.contiguous(memory_format=torch.channels_last) / vae.config.scaling_factor
        x = decoder.mid(decoder.conv_in(vae.post_quant(x)))
        for stage in decoder.stages:
            for block in cast(Stage, stage).res:
                x = _res_block(cast(ResBlock, block), x, rows)
            if isinstance(stage.resample, Upsample):
                x = _by_pieces(stage.resample, x, rows, scale=2)
                rows *= 2
        return _normed(decoder.norm_out, decoder.conv_out, x, rows)


def _res_block(block: ResBlock, x: Tensor, rows: int) -> Tensor:
    y = _normed(block.norm1, block.conv1, x, rows)
    y = _normed(block.norm2, block.conv2, y, rows)
    for mine, theirs in zip(torch.split(y, rows, dim=2), torch.split(x, rows, dim=2), strict=True):
        mine += block.skip(theirs)
    return y


def _normed(norm: nn.GroupNorm, conv: nn.Conv2d, x: Tensor, rows: int) -> Tensor:
    """conv(silu(norm(x))) with statistics of the whole of x; conv is 3x3."""
    groups = x.chunk(norm.num_groups, dim=1)  # one at a time: the float32 copy stays small
    moments = [torch.var_mean(_wide(group), dim=(1, 2, 3), correction=0) for group in groups]
    var, mean = (torch.stack(list(each), dim=1) for each in zip(*moments, strict=True))  # (b, groups)
    width = x.shape[1] // norm.num_groups
    scale = norm.weight * torch.rsqrt(var + norm.eps).repeat_interleave(width, dim=1)
    shift = norm.bias - scale * mean.repeat_interleave(width, dim=1)

    def piece(x: Tensor) -> Tensor:
        return conv(F.silu((x * scale[..., None, None] + shift[..., None, None]).to(x.dtype)))

    return _by_pieces(piece, x, rows)


def _by_pieces(function: Callable[[Tensor], Tensor], x: Tensor, rows: int, scale: int = 1) -> Tensor:
    """x: (b, c, t, f) -> function(x), made `rows` at a time; function sees one row to either side."""
    t = x.shape[2]
    for first in range(0, t, rows):
        last = min(first + rows, t)
        start = max(first - 1, 0)
        piece = function(x[:, :, start : min(last + 1, t)])
        piece = piece[:, :, (first - start) * scale : (last - start) * scale]
        if not first:
            shape = (*piece.shape[:2], t * scale, piece.shape[3])
            whole = piece.new_empty(shape).contiguous(memory_format=torch.channels_last)
        whole[:, :, first * scale : last * scale] = piece
    return whole


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
