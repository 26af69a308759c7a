"""What every metric asks of its arrays, and how it says what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ClipRows", "Rows", "clip_rows", "pairs", "rows", "same_width", "stacked", "unit_rows"]

Rows = NDArray[np.float64]
ClipRows = Rows | Sequence[Rows]  # one row a clip (n, d), or a clip's frames (t, d) each


def rows(array: ArrayLike, who: str, what: str, *, at_least: int = 1) -> Rows:
    """(n, d) in float64, n >= at_least. Raises ValueError naming the rows that are not finite."""
    checked = np.asarray(array, np.float64)
    if checked.ndim != 2 or not checked.shape[1]:
        raise ValueError(f"{who}: {what} has shape {checked.shape}, expected (n, d): one row a clip")
    if len(checked) < at_least:
        raise ValueError(f"{who}: {what} has {len(checked)} rows, and at least {at_least} are needed")
    finite = np.isfinite(checked).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(
            f"{who}: {what} has NaN or infinity in {len(bad)} of {len(checked)} rows: "
            f"{', '.join(map(str, bad[:5]))}{more}; find out what these clips are, or leave them out by name"
        )
    return checked


def clip_rows(clips: ClipRows, who: str, what: str, *, at_least: int = 1) -> list[Rows]:
    """A (t, d) array for each of n clips, t = 1 where there is one row a clip. Raises as `rows`."""
    if isinstance(clips, np.ndarray):
        return [row[None] for row in rows(clips, who, what, at_least=at_least)]
    if len(clips) < at_least:
        raise ValueError(f"{who}: {what} has {len(clips)} clips, and at least {at_least} are needed")
    checked = [rows(clip, who, f"clip {i} of {what}") for i, clip in enumerate(clips)]
    widths = {clip.shape[1] for clip in checked}
    if len(widths) > 1:
        raise ValueError(f"{who}: the clips of {what} have rows of widths {sorted(widths)}, expected one")
    return checked


def stacked(clips: Sequence[Rows], pick: NDArray[np.integer]) -> Rows:
    """The rows of these clips, in this order."""
    return np.concatenate([clips[i] for i in pick])


def same_width(a: Rows, b: Rows, who: str, names: str) -> None:
    """Raises ValueError unless rows have one width: other widths are other features."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{who}: {names} have widths {a.shape[1]} and {b.shape[1]}; both must come from one feature"
        )


def pairs(a: Rows, b: Rows, who: str, names: str) -> None:
    """Raises ValueError unless row i of one belongs to row i of the other."""
    same_width(a, b, who, names)
    if len(a) != len(b):
        raise ValueError(
            f"{who}: {names} have {len(a)} and {len(b)} rows; row i of one is compared with row i of the "
            "other, so name the pairs that are missing and leave them out of both"
        )


def unit_rows(array: ArrayLike, who: str, what: str, *, at_least: int = 1) -> Rows:
    """`rows`, each divided by its norm. Raises ValueError too for a row of zeros, which has no direction."""
    checked = rows(array, who, what, at_least=at_least)
    norms = np.sqrt(np.einsum("nd,nd->n", checked, checked))[:, None]
    if not norms.all():
        zero = np.flatnonzero(norms[:, 0] == 0)
        raise ValueError(
            f"{who}: rows {', '.join(map(str, zero[:5]))} of {what} are zero: no cosine is defined"
        )
    return checked / norms
