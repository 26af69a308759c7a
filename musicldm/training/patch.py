"""Patch discriminator: is a patch of a log-mel spectrogram real or reconstructed? For the VAE."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["PatchDiscriminator"]

GROUPS = 8


class PatchDiscriminator(nn.Module):
    """Convolutions of kernel 4, most with stride 2, and one score for every patch.

    Source: Isola et al. 2017 (arXiv 1611.07004), section 3.2.2 and appendix 6.1.2; latent diffusion's
    NLayerDiscriminator has the same shape. Differs: group norm in place of batch norm, so that a patch's
    score does not depend on what else is in the batch, nor on how many processes share it.

    Raises ValueError unless the channels split into 8 groups.
    """

    def __init__(self, channels: int, layers: int, in_channels: int = 1) -> None:
        super().__init__()
        if channels < GROUPS or channels % GROUPS or layers < 1:
            raise ValueError(
                f"PatchDiscriminator: got {channels} channels and {layers} layers, expected a multiple of "
                f"{GROUPS} and 1 or more"
            )
        widths = [channels * min(2**level, 8) for level in range(layers + 1)]
        body: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            body += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1, bias=False),
                nn.GroupNorm(GROUPS, widths[level]),
                nn.LeakyReLU(0.2),
            ]
        self.body = nn.Sequential(*body)
        self.score = nn.Conv2d(widths[-1], 1, 4, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (b, 1, t, f) log-mel -> (b, 1, t', f') scores, high for real."""
        return self.score(self.body(mel))
