"""Features that cost nothing, and folders of clips: what the tests of `musicldm evaluate` share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from musicldm import audio
from musicldm.batch.folder import Folder
from musicldm.batch.record import Record, open_record
from musicldm.batch.rows import PromptFile, Row
from musicldm.evaluation.features import FeatureId, Features
from musicldm.evaluation.panns import Cnn14

RATE = 16000
BANDS = 12


class Spectrum:
    """Energies in 12 bands: the magnitudes of a clip's spectrum, unit norm; prompts are numbers of a band."""

    rate, dim, classes = 8000, BANDS, 0

    def __init__(self, name: str = "spectrum") -> None:
        self.id = FeatureId(
            name, hashlib.sha256(name.encode()).hexdigest(), "its name", "12 bands up to 4 kHz"
        )

    def __call__(self, waves: Sequence[np.ndarray]) -> Features:
        return Features(np.stack([self.one(wave) for wave in waves]))

    def one(self, wave: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(wave[: len(wave) // 2 * 2].astype(np.float64)))
        bands = np.array([np.sqrt(np.square(part).sum()) for part in np.array_split(power, BANDS)])
        return bands / np.linalg.norm(bands)


class SpectrumWithText(Spectrum):
    def text(self, prompts: Sequence[str]) -> np.ndarray:
        rows = np.full((len(prompts), BANDS), 0.1)
        for row, prompt in zip(rows, prompts, strict=True):
            row[int(prompt.split()[-1])] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Tagger(Spectrum):
    """With logits and frames, as VGGish and PANNs have them."""

    classes = BANDS

    def __call__(self, waves: Sequence[np.ndarray]) -> Features:
        clips = [self.one(wave) for wave in waves]
        frames = tuple(np.stack([self.one(part) for part in np.array_split(wave, 4)]) for wave in waves)
        return Features(np.stack(clips), frames, 5 * np.stack(clips))


class Broken(Spectrum):
    def one(self, wave: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such luck")


spectrum, with_text, tagger, broken = (
    Spectrum(),
    SpectrumWithText("with-text"),
    Tagger("tagger"),
    Broken("broken"),
)
number = 7


def tone(band: int, seed: int = 0, seconds: float = 1.5, rate: int = RATE, noise: float = 0.05) -> np.ndarray:
    """In the middle of a band of `Spectrum`, with some noise of its own."""
    generator = np.random.default_rng([band, seed])
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * (band + 0.5) * 4000 / BANDS * time + generator.uniform(0, 6))
    return (wave + noise * generator.standard_normal(len(time))).astype(np.float32)


def write_folder(folder: Path, n: int, seed: int, **tones: float) -> Path:
    """n tones, band by band: clip3.wav, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        audio.write(folder / f"clip{k}.wav", tone(k % BANDS, seed + k, **tones), RATE)
    return folder


def write_manifest(folder: Path, n: int, split: str = "test") -> Path:
    """Of what `write_folder` wrote, with captions that `SpectrumWithText` understands."""
    path = folder / "manifest.jsonl"
    rows = [{"path": f"clip{k}.wav", "caption": f"band {k % BANDS}", "split": split} for k in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_batch(folder: Path, n: int, seed: int, *, ids: bool = True, candidates: int = 1) -> Path:
    """As `musicldm batch` leaves it."""
    prompts = folder.parent / "prompts.jsonl"
    rows = [Row(index=k, prompt=f"band {k % BANDS}", id=f"clip{k}" if ids else None) for k in range(n)]
    prompts.write_text("".join(json.dumps({"prompt": row.prompt}) + "\n" for row in rows))
    run = open_record(folder, Record({"steps": 5}, prompts, PromptFile(prompts).survey()))
    batch = Folder(folder, run, ".wav")
    for row in rows:
        clip = audio.encode("x.wav", tone(row.index % BANDS, seed + row.index), RATE)
        about = {
            "id": row.id,
            "prompt": row.prompt,
            "seed": 1000 + row.index,
            "candidates": [{"seed": 1, "score": None}] * candidates,
        }
        batch.save(row, [clip], about)
    return folder


def published_names(network: Cnn14) -> dict[str, torch.Tensor]:
    """The state of a Cnn14 under the names of the published file, constants and all."""
    named = {"norm": "bn0", "hidden": "fc1", "tags": "fc_audioset"}
    theirs = {"spectrogram_extractor.stft.conv_real.weight": torch.zeros(257, 1, 512),
              "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(257, 1, 512),
              "logmel_extractor.melW": torch.zeros(257, 64)}  # fmt: skip
    for name, tensor in network.state_dict().items():
        first, rest = name.split(".", 1)
        if first == "blocks":
            number, rest = rest.split(".", 1)
            theirs[f"conv_block{int(number) + 1}.{rest}"] = tensor
        else:
            theirs[f"{named[first]}.{rest}"] = tensor
    return theirs
