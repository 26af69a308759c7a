"""Fine-tuning by a LoRA adapter: the latent diffusion model's stage, with the adapter alone trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from musicldm.lora import LoRAConfig, attach
from musicldm.lora_file import save_adapter
from musicldm.unet import UNet

from .config import key
from .stage import Batch, Draws, Preview, Stage, seed_of

__all__ = ["AdapterStage", "LoRASettings"]

FILE = "adapter.safetensors"


@dataclass(frozen=True, kw_only=True)
class LoRASettings:
    """What is trained instead of the U-Net's own weights."""

    rank: int = key("of each projection's adapter; 0: no adapter, the whole U-Net is trained", 0)
    alpha: float = key("the adapter's strength is alpha / rank; 0: alpha = rank, which every program reads "
                       "alike", 0.0)  # fmt: skip
    targets: tuple[str, ...] = key('linears of the attentions: "qkv" (three adapters), "out"', ("qkv", "out"))

    def config(self) -> LoRAConfig:
        """Raises ValueError for what means nothing."""
        return LoRAConfig(rank=self.rank, alpha=self.alpha or float(self.rank), targets=self.targets)


class AdapterStage(Stage):
    """Another stage's loss, evaluation and previews, with the gradient on an adapter of its U-Net alone.

    ldm: the stage of the whole model, whose first turn is taken. optimizer: makes one for parameters, as the
    turn's own. base_model: the name that the adapter's file gives its base. Checkpoints hold the adapter.
    """

    def __init__(
        self,
        ldm: Stage,
        unet: UNet,
        settings: LoRASettings,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        *,
        base_model: str,
        seed: int,
    ) -> None:
        self.ldm, self.unet, self.base_model = ldm, unet, base_model
        unet.requires_grad_(False).eval()
        generator = torch.Generator().manual_seed(seed_of(seed, "start", "adapter"))
        adapter = nn.ModuleList(attach(unet, settings.config(), generator))
        self.networks = nn.ModuleDict({"adapter": adapter})
        self.averaged = ("adapter",)
        (turn,) = ldm.turns
        self.turns = (replace(turn, optimizer=optimizer(adapter.parameters())),)

    def prepare(self, share: Sequence[tuple[Batch, Draws]]) -> None:
        """As the whole model's stage."""
        self.ldm.prepare(share)

    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """As the whole model's stage."""
        return self.ldm.evaluate(batch, draws)

    def previews(self, batch: Batch) -> list[Preview]:
        """As the whole model's stage."""
        return self.ldm.previews(batch)

    def save(self, folder: Path) -> None:
        """adapter.safetensors, which `pipe.load_lora` and `musicldm generate --lora` read."""
        save_adapter(folder / FILE, self.unet, base_model=self.base_model)

    def facts(self) -> dict[str, float]:
        """As the whole model's stage."""
        return self.ldm.facts()

    def restore(self, facts: Mapping[str, float]) -> None:
        """As the whole model's stage."""
        self.ldm.restore(facts)
