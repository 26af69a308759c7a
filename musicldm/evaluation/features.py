"""What every feature of a clip looks like: the protocol between waveforms and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CallableFeature",
    "Feature",
    "FeatureId",
    "Features",
    "Rows",
    "TextFeature",
    "Wave",
    "check_waves",
    "merge",
]

Wave = NDArray[np.float32]
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureId:
    """What must be known to compute the same numbers again; it names cache entries and stands in reports.

    name: like "clap:ucsd-reach/musicldm". sha256: 64 hexadecimal digits, of the weights. sha256_of: what was
    hashed, "file cnn14.pth" or "weights in memory". settings: in words, all else that moves the numbers
    (rate, front end, crop, level).
    """

    name: str
    sha256: str
    sha256_of: str
    settings: str

    def __str__(self) -> str:
        return f"{self.name}@{self.sha256[:12]}"


@dataclass(frozen=True)
class Features:
    """Of n clips, float64: embeddings (n, d), one a clip.

    frames: n arrays (t, d), t differing with the clip's length, or None. logits: (n, k) of a classifier,
    before softmax or sigmoid, or None.
    """

    embeddings: Rows
    frames: tuple[Rows, ...] | None = None
    logits: Rows | None = None

    def __post_init__(self) -> None:
        n = len(self.embeddings)
        if self.embeddings.ndim != 2:
            raise ValueError(f"Features: got embeddings of shape {self.embeddings.shape}, expected (n, d)")
        for name, part in (("frames", self.frames), ("logits", self.logits)):
            if part is not None and len(part) != n:
                raise ValueError(f"Features: got {name} of {len(part)} clips, and {n} embeddings")

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def rows(self) -> Rows:
        """(m, d): all frames of all clips where there are frames, else the embeddings."""
        return self.embeddings if self.frames is None else np.concatenate(self.frames)


class Feature(Protocol):
    """Waveforms -> numbers. `rate` in Hz; `dim` the width d; `classes` k of the logits, 0 without."""

    @property
    def id(self) -> FeatureId: ...  # noqa: D102
    @property
    def rate(self) -> int: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102

    def __call__(self, waves: Sequence[Wave]) -> Features:
        """waves: n mono clips (s,) float32 at `rate`, of any lengths; each result is of its clip alone."""


@runtime_checkable
class TextFeature(Feature, Protocol):
    """A feature that embeds prompts in the same space (CLAP): cosines between both mean something."""

    def text(self, prompts: Sequence[str]) -> Rows:
        """prompts: n texts -> (n, d) unit-norm embeddings."""


class CallableFeature:
    """A user's own function as a `Feature`: it takes n mono clips (s,) at `rate` and gives an array (n, d).

    version: any text that changes when the function's results do; cache entries are found by it.
    """

    def __init__(
        self, embed: Callable[[Sequence[Wave]], Rows], *, name: str, version: str, rate: int, dim: int
    ) -> None:
        digest = hashlib.sha256(version.encode()).hexdigest()
        self.id = FeatureId(name, digest, f"version {version!r}", f"{rate} Hz mono; the user's function")
        self.embed, self.rate, self.dim, self.classes = embed, rate, dim, 0

    def __call__(self, waves: Sequence[Wave]) -> Features:
        """Raises ValueError if the function did not give (n, dim) finite numbers."""
        check_waves(waves, self.id.name)
        rows = np.asarray(self.embed(waves), np.float64)
        if rows.shape != (len(waves), self.dim) or not np.isfinite(rows).all():
            raise ValueError(
                f"{self.id.name}: the function gave shape {rows.shape} with "
                f"{np.count_nonzero(~np.isfinite(rows))} values that are not finite, expected "
                f"({len(waves)}, {self.dim}) finite ones"
            )
        return Features(rows)


def check_waves(waves: Sequence[Wave], who: str) -> None:
    """Raises ValueError naming the first clip that is not (s,), empty or not finite."""
    for i, wave in enumerate(waves):
        if wave.ndim != 1 or not len(wave):
            raise ValueError(
                f"{who}: clip {i} has shape {wave.shape}, expected (s,) mono samples, at least one"
            )
        if not np.isfinite(wave).all():
            raise ValueError(f"{who}: clip {i} has samples that are NaN or infinite; leave it out by name")


def merge(parts: Sequence[Features]) -> Features:
    """Batches of clips -> all of them, in order."""
    if not parts:
        raise ValueError("merge: got no features, expected at least one batch")
    frames = [part.frames for part in parts]
    logits = [part.logits for part in parts]
    if any(f is None for f in frames) != all(f is None for f in frames):
        raise ValueError("merge: some batches have frames and some have none; are they of one feature?")
    if any(x is None for x in logits) != all(x is None for x in logits):
        raise ValueError("merge: some batches have logits and some have none; are they of one feature?")
    return Features(
        np.concatenate([part.embeddings for part in parts]),
        None if frames[0] is None else tuple(row for f in frames if f is not None for row in f),
        None if logits[0] is None else np.concatenate([x for x in logits if x is not None]),
    )
