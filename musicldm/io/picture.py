"""A log-mel spectrogram as a small PNG: 64 colours, no drawing library."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from musicldm.mel import MUSICLDM_16K, log_mel

__all__ = ["RATE", "log_mel_picture", "mel_picture", "png"]

RATE = MUSICLDM_16K.sampling_rate
WIDTH = 384  # columns at most: what a page shows
QUIET, LOUD = -9.0, 2.0  # natural log of mel magnitude, first and last colour; the same for every clip

# Night blue over violet and orange to pale yellow, even in lightness: dark is quiet, in grey print too.
_ANCHORS = np.array(
    [(13, 14, 33), (62, 24, 98), (137, 38, 108), (212, 72, 66), (248, 149, 64), (252, 244, 190)]
)
_STOPS = np.linspace(0, 63, len(_ANCHORS))
PALETTE = np.stack([np.interp(np.arange(64), _STOPS, channel) for channel in _ANCHORS.T], axis=1).astype(
    np.uint8
)


def mel_picture(wave: NDArray[np.float32]) -> bytes:
    """wave: (s,) at `RATE` Hz -> a PNG, 64 mel bins high (low ones at the bottom), time to the right."""
    least = MUSICLDM_16K.n_fft // 2 + 1
    padded = np.pad(wave, (0, max(0, least - len(wave))))
    return log_mel_picture(log_mel(torch.from_numpy(padded)[None])[0, 0].numpy())


def log_mel_picture(mel: NDArray[np.float32]) -> bytes:
    """mel: (t, f) natural log-mel -> a PNG, f pixels high (low ones at the bottom), time to the right."""
    edges = np.linspace(0, len(mel), min(WIDTH, len(mel)) + 1).astype(int)
    columns = np.stack([mel[a:b].max(axis=0) for a, b in pairwise(edges)])
    levels = np.clip((columns.T[::-1] - QUIET) / (LOUD - QUIET), 0, 1) * (len(PALETTE) - 1)
    return png(np.round(levels).astype(np.uint8), PALETTE)


def png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """pixels: (height, width) indices into palette: (n, 3) RGB -> a PNG file.

    Source: PNG (W3C, third edition), sections 5 and 11: signature, IHDR, PLTE, IDAT, IEND.
    """
    height, width = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)  # each line: filter 0, indices
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(lines.tobytes(), 9))]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
