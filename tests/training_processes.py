"""Trains each stage for a few steps and keeps the weights: run alone, or by torchrun with N processes.

python training_processes.py OUT CLIPS
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers import TINY
from torch import nn
from torch.optim import SGD
from training_toys import ToyData, ToyStage, toy_config

from musicldm.io.distributed import Group
from musicldm.training import ldm, vae
from musicldm.training.config import parse
from musicldm.training.loop import Trainer
from musicldm.training.settings import Evaluate
from musicldm.training.stage import Batch, Draws, Loss, Turn

COMMON: dict[str, Any] = {"loop": {"steps": 4, "batch_size": 4, "log_every": 1, "ema": 0.5}}
UNET = {
    "in_channels": 8, "out_channels": 8, "block_out_channels": [16], "heads": [2], "layers_per_block": 1,
    "cond_dim": 512, "norm_num_groups": 4, "norm_eps": 1e-5, "sample_size": 8,
}  # fmt: skip
VAE = {
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 4, "scaling_factor": 1.0,
}  # fmt: skip


class Contrasting(ToyStage):
    """A loss that compares items with each other, and so gathers them from all processes."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group
        self.heat = nn.Parameter(torch.tensor(1.0))
        self.networks["generator"].register_parameter("heat", self.heat)
        for network in self.networks.values():
            network[2].p = 0.0
        self.turns = (Turn("contrast", SGD(self.networks["generator"].parameters(), lr=0.1), self.contrast),)

    def contrast(self, batch: Batch, step: int, draws: Draws) -> Loss:
        a = self.group.gather(self.networks["generator"](batch["x"]))
        b = self.group.gather(self.networks["generator"](batch["x"] + 0.1 * draws.normal(6)))
        logits = self.heat.exp() * a @ b.T
        return Loss(nn.functional.cross_entropy(logits, torch.arange(len(logits))))


class Apart(Group):
    """A planted defect: every process goes by its own gradients."""

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        pass


def train_all(out: Path, clips: Path, environment: Mapping[str, str]) -> None:
    """Each stage, by gradient descent and by its own optimiser, on one process or on torchrun's many."""
    with Group.opened("cpu", environment) as group:
        folder = out / f"{group.world}-processes"
        data = {"manifest": str(clips), "seconds": 0.32}
        keep(Contrasting(group), toy_config(folder / "contrast", steps=4), group, ToyData())
        for own, among in (
            ("", group),
            ("-adam", group),
            ("-adam-apart", Apart(group.rank, group.world, group.device)),
        ):
            toy = ToyStage()
            for network in toy.networks.values():  # the streams of dropout are a micro-batch's, not an item's
                network[2].p = 0.0
            about = toy_config(folder / f"toy{own}", steps=6, evaluate=Evaluate(every=6))
            keep(toy, about, among, ToyData(), ToyData(3), lr=None if own else 0.01)
        for own in ("", "-adam"):
            table = {
                **COMMON, "output": str(folder / f"ldm{own}"), "data": data,
                "parts": {"init": str(TINY), "unet": UNET}, "ldm": {"lr": 3e-4, "warmup": 0},
                "mixup": {"strategy": "blm", "probability": 0.5},
            }  # fmt: skip
            config = parse(ldm.Config, table, "test")
            stage, train, _ = ldm.build(config, group)
            keep(stage, config, group, train, lr=None if own else 0.01)
            table = {
                **COMMON, "output": str(folder / f"vae{own}"), "data": data, "parts": {"vae": VAE},
                "vae": {"lr": 4.5e-5, "judge_from": 2, "judge_channels": 8, "judge_layers": 1},
            }  # fmt: skip
            config = parse(vae.Config, table, "test")
            autoencoder, train, _ = vae.build(config, group)
            keep(autoencoder, config, group, train, lr=None if own else 0.001)


def keep(
    stage: Any, config: Any, group: Group, train: Any, held_out: Any = None, lr: float | None = 0.01
) -> None:
    """lr: of gradient descent, which sees the size of a gradient; None: the stage's own Adam, which does not.

    The rates are ten times the recipes', so that a few steps move the weights far above rounding.
    """
    if lr is not None:
        stage.turns = tuple(replace(turn, optimizer=SGD(turn.parameters(), lr=lr)) for turn in stage.turns)
    before = {name: tensor.clone() for name, tensor in stage.networks.state_dict().items()}
    Trainer(stage, config, group, train, held_out).run()
    if group.first:
        facts = {name: torch.tensor(value) for name, value in stage.facts().items()}
        after = {**stage.networks.state_dict(), **facts}
        torch.save({"before": before, "after": after}, Path(config.output) / "weights.pt")


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    train_all(Path(sys.argv[1]), Path(sys.argv[2]), os.environ)
