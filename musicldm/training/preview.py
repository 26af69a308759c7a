"""What a run makes of its own progress: sound files and mel pictures, a pair for each preview and step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from musicldm import audio
from musicldm.io.files import atomic, slug
from musicldm.io.picture import log_mel_picture

from .stage import Preview

__all__ = ["write_previews"]


def write_previews(folder: Path, previews: Iterable[Preview], step: int) -> None:
    """`step-00001000-NAME.wav` and `.png`; the picture alone where there is no sound. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for preview in previews:
        stem = f"step-{step:08d}-{slug(preview.name)}"
        with atomic(folder / f"{stem}.png") as file:
            file.write(log_mel_picture(preview.mel))
        if preview.wave is not None:
            audio.write(folder / f"{stem}.wav", preview.wave, preview.rate)
