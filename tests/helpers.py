"""What many tests share: golden cases, distances, noise."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"
TINY = GOLDENS / "tiny-hub"
PATIENCE = 3600  # seconds for a process of a test: it ends a hang, and no slow or busy machine


@dataclass(frozen=True)
class Case:
    """One call of a reference: `inputs` and `outputs` with the stored tensors put in."""

    name: str
    kind: str
    inputs: dict[str, Any]
    outputs: dict[str, Tensor]
    scheduler_config: dict[str, Any]


def reference_cases(kind: str) -> list[Any]:
    """The cases of tests/goldens/tiny-hub-expected of one kind, as pytest parameters."""
    folder = GOLDENS / "tiny-hub-expected"
    tensors = load_file(folder / "expected.safetensors")
    found = [
        case for case in json.loads((folder / "cases.json").read_text())["cases"] if case["kind"] == kind
    ]
    assert found, kind
    return [
        pytest.param(
            Case(
                name=case["name"],
                kind=kind,
                inputs={k: tensors.get(v, v) if isinstance(v, str) else v for k, v in case["inputs"].items()},
                outputs={k: tensors[v] for k, v in case["outputs"].items()},
                scheduler_config=case.get("scheduler_config", {}),
            ),
            id=case["name"],
        )
        for case in found
    ]


def relative(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    assert got.shape == expected.shape
    return ((got - expected).abs().max() / expected.abs().max()).item()


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Unit-variance noise that depends on nothing else."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def little_work(seconds: float) -> Iterator[None]:
    """Fails if a block takes more of this process's CPU time, which a busy machine does not lengthen, than this."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < seconds
