"""Audio files: read, resample, write. Samples are float32 in [-1, 1]; files are never silently wrong.

This file alone imports soundfile and soxr, and only when a file is opened or a rate changed: without them the
package still makes clips as arrays.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .io.files import atomic

__all__ = [
    "FORMATS",
    "SILENCE",
    "Header",
    "MissingLibraryError",
    "NonFiniteError",
    "blocks",
    "check_finite",
    "check_resampler",
    "check_suffix",
    "encode",
    "header",
    "read",
    "resample",
    "resample_blocks",
    "to_int16",
    "warn_if_silent",
    "write",
]

log = logging.getLogger(__name__)

FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
SILENCE = 1e-3  # peak, -60 dB of full scale
BLOCK = 1 << 16  # samples a call: libsndfile's Vorbis encoder keeps a whole call on its stack
# s decoded before a part of an Ogg file and thrown away: after a seek into Vorbis, libsndfile 1.2.2 may give
# a wrong first block (its issue 885), and in the last page samples of another place (as measured)
RUN_UP = 2.0

Samples = NDArray[np.float32]


def write(path: str | os.PathLike[str], wave: Samples, rate: int, *, float32: bool = False) -> None:
    """wave: (s,) mono or (s, c) -> a .wav, .flac or .ogg file, by its suffix; it appears whole or not at all.

    WAV and FLAC hold 16-bit integers; `float32` writes a WAV of the samples as they are.
    Raises what `check_suffix` raises, and NonFiniteError, a ValueError, for non-finite samples.
    """
    path = Path(path)
    data = encode(path.name, wave, rate, float32=float32)
    with atomic(path, durable=False) as file:
        file.write(data)


def encode(name: str, wave: Samples, rate: int, *, float32: bool = False) -> bytes:
    """The bytes of the file that `write` makes for that name."""
    kind = check_suffix(Path(name), float32)
    check_finite(wave, name)
    data = to_int16(wave) if kind[1] == "PCM_16" else np.asarray(wave, np.float32)
    channels = 1 if data.ndim == 1 else data.shape[1]
    encoded = io.BytesIO()
    with _soundfile().SoundFile(encoded, "w", rate, channels, kind[1], format=kind[0]) as file:
        for start in range(0, len(data), BLOCK):
            file.write(data[start : start + BLOCK])
    return encoded.getvalue()


def check_suffix(path: Path, float32: bool = False) -> tuple[str, str]:
    """libsndfile's format and subtype for a file name that can be written here, whatever the samples.

    Raises ValueError for a suffix that is not offered, MissingLibraryError without soundfile.
    """
    _soundfile()
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"{path.name}: cannot write {path.suffix or 'a name without suffix'}, expected "
            f"one of {', '.join(FORMATS)}"
        )
    if float32 and kind[0] != "WAV":
        raise ValueError(f"{path.name}: 32-bit float samples go into .wav files, not {path.suffix}")
    return ("WAV", "FLOAT") if float32 else kind


def to_int16(wave: Samples) -> NDArray[np.int16]:
    """Samples in [-1, 1], clipped, times 32767: 1.0 is 32767, never -32768."""
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)


class MissingLibraryError(ImportError):
    """A library is not installed that this call needs and most of the package does not."""


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, its libsndfile is not
        raise _missing("soundfile", "reading or writing a sound file", error) from error
    return soundfile


def _soxr() -> Any:
    try:
        import soxr
    except ImportError as error:
        raise _missing("soxr", "changing a sampling rate", error) from error
    return soxr


def _missing(name: str, what: str, error: Exception) -> MissingLibraryError:
    return MissingLibraryError(
        f"musicldm.audio: {what} needs {name}, which cannot be imported here ({error}); pip install {name}. "
        "Without it a pipeline still makes clips: MusicLDMPipeline's call gives them as arrays at their rate"
    )


def check_resampler(rate: int, to_rate: int) -> None:
    """Raises MissingLibraryError if `resample` could not make the one rate of the other."""
    if rate != to_rate:
        _soxr()


class NonFiniteError(ValueError):
    """Samples that are NaN or infinite."""


@dataclass(frozen=True)
class Header:
    """What a sound file says of itself: samples per channel, rate in Hz; format as libsndfile names it."""

    samples: int
    rate: int
    channels: int
    format: str

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.rate


def header(path: str | os.PathLike[str]) -> Header:
    """Read the header alone. Raises ValueError naming the file if it is no audio."""
    with _opened(path) as file:
        return Header(file.frames, file.samplerate, file.channels, file.format)


def read(path: str | os.PathLike[str], start: int = 0, stop: int | None = None) -> tuple[Samples, int]:
    """A file that libsndfile can read -> (s,) mono float32, channels averaged; and its rate in Hz.

    start, stop: samples of the file, as in a slice; only these are decoded, and past the end there are none.
    Raises ValueError naming the file if it is no audio, empty, or holds non-finite samples.
    """
    with _opened(path) as file:
        rate = int(file.samplerate)
        run_up = min(start, round(RUN_UP * rate)) if file.format == "OGG" else 0
        if start > run_up:
            file.seek(min(start - run_up, file.frames))
        count = -1 if stop is None else max(0, stop - start) + run_up
        data = file.read(count, dtype="float32", always_2d=True)[run_up:]
    if not len(data) and not start and stop != 0:
        raise ValueError(f"{os.fspath(path)}: holds no samples")
    check_finite(data, os.fspath(path))
    return data.mean(axis=1), rate


def blocks(path: str | os.PathLike[str], size: int = BLOCK) -> Iterator[Samples]:
    """The whole file as `read` gives it, in pieces of up to `size` samples: its length costs no memory."""
    with _opened(path) as file:
        while len(data := file.read(size, dtype="float32", always_2d=True)):
            check_finite(data, os.fspath(path))
            yield data.mean(axis=1)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"{os.fspath(path)}: not an audio file that can be read ({error})") from error


def resample(wave: NDArray[Any], rate: int, to_rate: int) -> NDArray[Any]:
    """wave: (..., s) at `rate` Hz -> (..., round(s * to_rate / rate)), by soxr in high quality.

    Raises MissingLibraryError without soxr, unless the rates are the same.
    """
    if rate == to_rate:
        return wave
    return np.moveaxis(_soxr().resample(np.moveaxis(wave, -1, 0), rate, to_rate, quality="HQ"), 0, -1)


def resample_blocks(pieces: Iterator[Samples], rate: int, to_rate: int) -> Iterator[Samples]:
    """Mono pieces at `rate` Hz -> the pieces of what `resample` makes of the whole."""
    if rate == to_rate:
        yield from pieces
        return
    stream = _soxr().ResampleStream(rate, to_rate, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def check_finite(wave: Samples, what: str) -> None:
    """Raises NonFiniteError, a ValueError, if a sample is NaN or infinite: never turned into silence."""
    if not np.isfinite(wave).all():
        raise NonFiniteError(
            f"{what}: {np.count_nonzero(~np.isfinite(wave))} samples are NaN or infinite; in half "
            "precision the networks can overflow: use float32 or bfloat16"
        )


def warn_if_silent(wave: Samples, what: str) -> None:
    """Logs a warning if nobody would hear it."""
    peak = float(np.abs(wave).max(initial=0.0))
    if peak < SILENCE:
        log.warning("%s is nearly silent: peak %.2g of full scale", what, peak)
