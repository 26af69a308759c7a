"""Fixtures that many tests share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from editing_clips import cheap
from helpers import TINY

from musicldm import MusicLDMPipeline

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

torch.set_num_threads(1)  # on networks this small a second thread spends its time waiting


@pytest.fixture(scope="session")
def tiny() -> MusicLDMPipeline:
    """The tiny checkpoint, shared: whoever changes a part of it works on a copy."""
    return MusicLDMPipeline.from_pretrained(TINY)


@pytest.fixture
def pipe(tiny: MusicLDMPipeline) -> MusicLDMPipeline:
    """A pipeline of one's own over the shared networks: set its scheduler freely."""
    return MusicLDMPipeline(**tiny.components)


@pytest.fixture
def quick(pipe: MusicLDMPipeline, monkeypatch: pytest.MonkeyPatch) -> MusicLDMPipeline:
    """`pipe` with a cheap function in the U-Net's place."""
    monkeypatch.setattr(pipe.unet, "forward", cheap)
    return pipe


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a benchmark whose results go to tmp_path; afterwards nothing of it is left."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("MUSICLDM_RESULTS", str(tmp_path))
    before = set(sys.modules)
    for path in BENCHMARKS.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield importlib.import_module
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags
    for path in BENCHMARKS.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)
