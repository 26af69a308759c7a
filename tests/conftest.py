"""Fixtures that many tests share."""

from __future__ import annotations

import pytest
import torch
from editing_clips import cheap
from helpers import TINY

from musicldm import MusicLDMPipeline

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
