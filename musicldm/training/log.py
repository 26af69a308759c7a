"""What a run says of itself: a line of JSON every few steps, TensorBoard where installed, a progress bar."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from musicldm.io.files import as_json, atomic

from .stage import Preview

__all__ = ["RunLog", "memory_mb", "read_log"]

log = logging.getLogger(__name__)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; a last line that a crash cut short is left out."""
    lines = (_line(line, path) for line in path.read_bytes().splitlines())
    return [line for line in lines if line is not None]


def _line(text: bytes, path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(text))
    except ValueError:
        log.warning("%s: a line that is no JSON is left out", path)
        return None


class RunLog:
    """The log of a run folder. A resumed run drops what was logged after the step at which it goes on."""

    def __init__(self, folder: Path, start: int, steps: int, *, bar: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        if self._path.exists():
            kept = [line for line in read_log(self._path) if line["step"] <= start]
            with atomic(self._path) as file:
                file.writelines(as_json(line) for line in kept)
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=not bar, dynamic_ncols=True)
        self._board = _board(folder / "tensorboard", start)

    def write(self, line: Mapping[str, Any]) -> None:
        """One line; its "step" counts the optimiser steps that were done."""
        with self._path.open("ab") as file:
            file.write(as_json({name: _plain(value) for name, value in line.items()}))
        if self._board is not None:
            for name, value in line.items():
                if name != "step":
                    self._board.add_scalar(name, value, line["step"])

    def advance(self, shown: str) -> None:
        """One step further on the bar, with a few words behind it."""
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update()

    def preview(self, preview: Preview, step: int) -> None:
        """A clip for TensorBoard; the files are `preview.py`'s."""
        if self._board is not None and preview.wave is not None:
            self._board.add_audio(preview.name, preview.wave[None], step, preview.rate)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
        if self._board is not None:
            self._board.close()


def memory_mb(device: torch.device) -> float:
    """Most memory that this process has held so far, MB: on the GPU what torch asked for, else all of it."""
    if sys.platform == "win32":
        return 0.0
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    import resource  # not on Windows, where the figure is left at 0

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (1e6 if sys.platform == "darwin" else 1e3), 1)  # bytes there, kB here


def _plain(value: Any) -> Any:
    """JSON has no infinity: a figure that is not finite is written as its name."""
    return value if not isinstance(value, float) or abs(value) < float("inf") else str(value)


def _board(folder: Path, start: int) -> Any:
    """TensorBoard's writer, None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
