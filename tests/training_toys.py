"""A toy stage and its data: two networks that take turns, small enough for a step in a millisecond."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from musicldm.training.log import read_log
from musicldm.training.settings import Data, Evaluate, Loop, Previews, RunConfig, Save
from musicldm.training.stage import Batch, Draws, Loss, Preview, Stage, Turn, warmup


class ToyData:
    """Vectors that follow from (epoch, index); `spoil` may change an item or raise."""

    def __init__(self, n: int = 8, spoil: Callable[[int, int, dict[str, Any]], None] | None = None) -> None:
        self.n, self.spoil = n, spoil

    def __len__(self) -> int:
        return self.n

    def item(self, epoch: int, index: int) -> Mapping[str, Any]:
        x = torch.randn(6, generator=torch.Generator().manual_seed(1000 * epoch + index))
        item = {"x": x, "file": f"clip{index}.wav"}
        if self.spoil:
            self.spoil(epoch, index, item)
        return item


class ToyStage(Stage):
    """A generator that has to copy its input, noise added, and a judge of its copies; dropout in both."""

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = {
                name: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, out))
                for name, out in (("generator", 6), ("judge", 1))
            }
        self.networks = nn.ModuleDict(made)
        self.averaged = ("generator",)
        self.scale = 1.0
        self.seen: list[Sequence[str]] = []
        self.turns = (
            Turn("judge", torch.optim.Adam(made["judge"].parameters(), lr=1e-2), self.judge_loss, starts=2),
            Turn(
                "generate",
                torch.optim.Adam(made["generator"].parameters(), lr=1e-2),
                self.generator_loss,
                warmup(3),
            ),
        )

    def prepare(self, share: Sequence[tuple[Batch, Draws]]) -> None:
        self.scale = float(share[0][0]["x"][0].norm())

    def fake(self, batch: Batch, draws: Draws) -> Tensor:
        return self.networks["generator"](batch["x"] + 0.1 * draws.normal(6))

    def judge_loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        fake = self.fake(batch, draws)
        assert not fake.requires_grad
        real, made = self.networks["judge"](batch["x"]), self.networks["judge"](fake)
        return Loss((1 - real).relu().mean() + (1 + made).relu().mean())

    def generator_loss(self, batch: Batch, step: int, draws: Draws) -> Loss:
        self.seen.append(batch.files)
        fake = self.fake(batch, draws)
        copy = (fake - batch["x"]).square().mean()
        return Loss(copy - 0.01 * self.networks["judge"](fake).mean(), {"copy": copy})

    def evaluate(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        return {"loss": (self.fake(batch, draws) - batch["x"]).square().mean()}

    def previews(self, batch: Batch) -> list[Preview]:
        return [
            Preview(name, np.zeros((8, 4), np.float32), np.full(160, 0.1, np.float32), 16000)
            for name in batch.files
        ]

    def save(self, folder: Path) -> None:
        torch.save(self.networks["generator"].state_dict(), folder / "generator.pt")

    def facts(self) -> dict[str, float]:
        return {"scale": self.scale}

    def restore(self, facts: Mapping[str, float]) -> None:
        self.scale = facts["scale"]


def toy_config(output: Path, *, steps: int = 8, **changes: Any) -> RunConfig:
    loop = {"batch_size": 4, "log_every": 1, **changes.pop("loop", {})}
    tables = {"save": Save(every=3, keep=2), "evaluate": Evaluate(), "preview": Previews(), **changes}
    return RunConfig(output=str(output), data=Data(manifest="toys"), loop=Loop(steps=steps, **loop), **tables)


def write_clips(folder: Path, n: int = 8, seconds: float = 1.0, rate: int = 16000) -> Path:
    """n short tones with beats, each unlike the others, and a manifest of them; two more are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    time = np.arange(round(seconds * rate)) / rate
    for k in range(n + 2):
        tone = np.sin(2 * np.pi * 110 * 2 ** (k / 6) * time) * (0.2 + 0.8 * ((time * (2 + k)) % 1 < 0.5))
        soundfile.write(folder / f"clip{k}.wav", (0.5 * tone).astype(np.float32), rate)
        beats = [round(0.05 * b, 3) for b in range(int(seconds / 0.05))]
        rows.append({
            "path": f"clip{k}.wav", "caption": f"tone number {k}", "beats": beats, "downbeats": beats[::4],
            "split": "train" if k < n else "test",
        })  # fmt: skip
    manifest = folder / "clips.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def weights(stage: Stage) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in stage.networks.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def curve(folder: Path) -> list[dict[str, Any]]:
    """A run's log without what the machine adds to it."""
    measured = ("seconds", "cpu_seconds", "memory_mb")
    return [{k: v for k, v in line.items() if k not in measured} for line in read_log(folder / "log.jsonl")]
