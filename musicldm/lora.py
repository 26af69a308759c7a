"""Low-rank adapters on the attention projections of the U-Net: attach, scale, merge, take off.

An adapter adds `alpha / rank * up(down(x))` to a linear. q, k and v are one product here, yet each has an
adapter of its own, of that rank: rank then means what it means everywhere, and files can be exchanged (see
`lora_file`). One adapter over the fused product would tie the three to one `down`, and no other program
could read it.

The U-Net's own code does not know of it: its linears are replaced by ones that have the same parameters
under the same names.

Source: Hu et al. 2021 (arXiv 2106.09685), section 4.1. Differs: no dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .unet import SelfAttention, UNet

__all__ = [
    "PARTS",
    "LoRAConfig",
    "LoRALinear",
    "LowRank",
    "MergedLinear",
    "as_scale",
    "attach",
    "call_scale",
    "detach",
    "is_attached",
    "is_merged",
    "live",
    "merge",
    "scaled",
    "targeted",
]

PARTS = {"qkv": 3, "out": 1}  # linears of an attention that can be adapted, and what is fused in each

Linear = TypeVar("Linear", bound=nn.Linear)


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """rank: of each projection's adapter. alpha: strength is alpha / rank. targets: of "qkv" and "out"."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:
            raise ValueError(f"LoRAConfig: got rank {self.rank!r}, expected a whole number of 1 or more")
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, (int, float)) or not self.alpha > 0:
            raise ValueError(f"LoRAConfig: got alpha {self.alpha!r}, expected a number above 0")
        if not self.targets or not set(self.targets) <= set(PARTS):
            raise ValueError(f"LoRAConfig: got targets {self.targets!r}, expected some of {tuple(PARTS)}")


class LowRank(nn.Module):
    """What one adapter adds to one linear. down: (p, r, c_in); up: (p, c_out / p, r); p fused projections.

    `strength` is a tensor, so that a compiled graph need not change with it.
    """

    strength: Tensor

    def __init__(self, linear: nn.Linear, parts: int, config: LoRAConfig) -> None:
        super().__init__()
        like = linear.weight
        self.config = config
        self.down = nn.Parameter(like.new_empty(parts, config.rank, linear.in_features))
        self.up = nn.Parameter(like.new_zeros(parts, linear.out_features // parts, config.rank))
        self.register_buffer("strength", like.new_tensor(config.alpha / config.rank), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., c_in) -> (..., c_out)."""
        low = rearrange(F.linear(x, self.down.flatten(0, 1)), "... (p r) -> ... p r", p=len(self.down))
        return self.strength * torch.einsum("...pr,por->...po", low, self.up).flatten(-2)

    def delta(self) -> Tensor:
        """-> (c_out, c_in), float32 at least: what the adapter adds to the weight."""
        wide = torch.promote_types(self.up.dtype, torch.float32)
        return self.strength.to(wide) * (self.up.to(wide) @ self.down.to(wide)).flatten(0, 1)


class LoRALinear(nn.Linear):
    """A linear with adapters beside it. Its own weight and bias keep their names and their bits."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.adapters = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., c_in) -> (..., c_out)."""
        y = super().forward(x)
        for adapter in self.adapters:
            y = y + adapter(x)
        return y


class MergedLinear(nn.Linear):
    """A linear that its adapters were added into. The base's weight is kept, outside the state dict."""

    original: Tensor

    def __init__(self, live: LoRALinear) -> None:
        super().__init__(live.in_features, live.out_features, bias=live.bias is not None, device="meta")
        weight = live.weight.detach()
        merged = weight
        for adapter in live.adapters:
            assert isinstance(adapter, LowRank)
            merged = merged + adapter.delta().detach()  # in float32 at least, rounded once
        self.weight, self.bias = nn.Parameter(merged.to(weight.dtype)), live.bias
        self.register_buffer("original", weight, persistent=False)


def attach(unet: UNet, config: LoRAConfig, generator: torch.Generator | None = None) -> list[LowRank]:
    """Put a new adapter on the U-Net, which changes nothing yet: `up` is zero, `down` drawn on the CPU.

    For training it, freeze the rest first: `unet.requires_grad_(False)`. Returns its parts, in the order of
    the U-Net's modules. Raises ValueError if the U-Net holds merged adapters, or nothing to adapt.
    """
    if is_merged(unet):
        raise ValueError("LoRA: this U-Net has adapters merged into it; detach them first")
    names = targeted(unet, config.targets)
    if not names:
        raise ValueError("LoRA: this U-Net has no attention to adapt")
    added = []
    for name in names:
        linear = unet.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        if not isinstance(linear, LoRALinear):
            linear = LoRALinear(linear)
            _put(unet, name, linear)
        part = LowRank(linear, PARTS[name.rpartition(".")[2]], config)
        bound = 1 / math.sqrt(linear.in_features)  # as torch draws a linear's weight
        part.down.data.copy_(torch.empty(part.down.shape).uniform_(-bound, bound, generator=generator))
        linear.adapters.append(part)
        added.append(part)
    return added


def targeted(unet: UNet, targets: Sequence[str]) -> list[str]:
    """The names of the linears that these targets mean in this U-Net."""
    return [
        f"{name}.{target}"
        for name, module in unet.named_modules()
        if isinstance(module, SelfAttention)
        for target in PARTS
        if target in targets
    ]


def live(unet: UNet) -> dict[str, LoRALinear]:
    """The linears that adapters run beside, by name."""
    return _linears(unet, LoRALinear)


def _parts(unet: UNet) -> list[LowRank]:
    modules = (module for linear in live(unet).values() for module in linear.adapters)
    return [module for module in modules if isinstance(module, LowRank)]


def is_attached(unet: UNet) -> bool:
    """Whether adapters run beside the U-Net's projections (merged ones do not: they are its weights)."""
    return bool(live(unet))


def is_merged(unet: UNet) -> bool:
    """Whether adapters were added into its weights."""
    return bool(_linears(unet, MergedLinear))


def merge(unet: UNet) -> None:
    """Add the attached adapters, at their strengths, into the weights: no cost while sampling.

    The state dict has the base's names again, so the merged model can be saved. `detach` undoes it.
    Raises ValueError if none is attached.
    """
    if not is_attached(unet):
        raise ValueError("LoRA: no adapter is attached to this U-Net, so there is nothing to merge")
    for name, linear in live(unet).items():
        _put(unet, name, MergedLinear(linear))


def detach(unet: UNet) -> None:
    """Take all adapters off, merged or not. The base's weights are as they were, bit for bit."""
    for name, linear in live(unet).items():
        _put(unet, name, _plain(linear, linear.weight))
    for name, merged in _linears(unet, MergedLinear).items():
        _put(unet, name, _plain(merged, merged.original))


def call_scale(unet: UNet, cross_attention_kwargs: Mapping[str, Any] | None) -> float:
    """The "scale" of a pipeline call's cross_attention_kwargs; 1.0 if it says nothing.

    Raises ValueError for other keys, or if no adapter is attached that could be scaled; TypeError if it is
    no number.
    """
    if not cross_attention_kwargs:
        return 1.0
    if not is_attached(unet):
        merged = "; the merged ones cannot be scaled" if is_merged(unet) else ""
        raise ValueError(
            f"cross_attention_kwargs: got {cross_attention_kwargs}, but no adapter is loaded{merged}"
        )
    unknown = sorted(set(map(str, cross_attention_kwargs)) - {"scale"})
    if unknown:
        raise ValueError(f'cross_attention_kwargs: got {", ".join(unknown)}, expected "scale" alone')
    return as_scale(cross_attention_kwargs["scale"], "cross_attention_kwargs scale")


@contextmanager
def scaled(unet: UNet, scale: float) -> Iterator[None]:
    """All attached adapters `scale` times as strong, for a while."""
    parts = _parts(unet)
    before = [part.strength.clone() for part in parts]
    try:
        for part in parts:
            part.strength.mul_(scale)
        yield
    finally:
        for part, strength in zip(parts, before, strict=True):
            part.strength.copy_(strength)


def as_scale(value: Any, name: str) -> float:
    """A finite number. Raises TypeError or ValueError that names it `name`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: got {value!r}, expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{name}: got {value}, expected a finite number")
    return float(value)


def _linears(unet: UNet, kind: type[Linear]) -> dict[str, Linear]:
    return {name: module for name, module in unet.named_modules() if isinstance(module, kind)}


def _put(unet: UNet, name: str, linear: nn.Linear) -> None:
    where, _, target = name.rpartition(".")
    setattr(unet.get_submodule(where), target, linear)


def _plain(linear: nn.Linear, weight: Tensor) -> nn.Linear:
    base = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
    base.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight)
    base.bias = linear.bias
    return base
