"""An example of guidance by gradients: noise that leads to a clip of a given loudness curve.

The pattern is that of any inverse problem on this model: a chain of differentiable stations, a loss on the
last one, and steps on the noise at the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["loudness", "match_loudness"]

QUIETEST = 1e-10  # mean square, -100 dB: keeps the logarithm's slope finite in silence


def loudness(wave: Tensor, frame: int) -> Tensor:
    """wave: (b, s) -> (b, s // frame) mean power of each frame in dB of full scale."""
    power = F.avg_pool1d(wave.square()[:, None], frame)[:, 0]
    return 10 * torch.log10(power + QUIETEST)


def match_loudness(
    render: Callable[[Tensor], Tensor], noise: Tensor, target: Tensor, frame: int, *, lr: float = 0.05
) -> Iterator[tuple[float, Tensor]]:
    """Adam on the noise; yields (mean square error in dB^2, noise (b, c, t, f)) for as long as it is asked.

    render: noise -> wave (b, s), differentiable. target: (b, s // frame) dB. After each step the noise gets
    back the norm that it had: a sampler expects unit variance.
    """
    noise, norm = noise.detach().clone().requires_grad_(), noise.norm()
    adam = torch.optim.Adam([noise], lr)
    while True:
        loss = F.mse_loss(loudness(render(noise), frame), target)
        yield loss.item(), noise.detach().clone()
        (noise.grad,) = torch.autograd.grad(loss, noise)  # of the noise alone, not of all parameters
        adam.step()
        with torch.no_grad():
            noise *= norm / noise.norm()
