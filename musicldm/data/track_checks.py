"""Every file looked at before training starts, and all that is wrong said at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from musicldm import audio

from .manifest import Track
from .track_stats import Measures

__all__ = ["POLICIES", "Problem", "check_tracks", "find_problems", "report"]

log = logging.getLogger(__name__)

POLICIES = ("refuse", "skip")
SHOWN = 30  # problems in one report
SLACK = 1.0  # s that a beat may lie after the last sample: some trackers pad


@dataclass(frozen=True)
class Problem:
    """kind: "missing", "unreadable", "non-finite", "too short", "silent", "no caption" or "beats too
    late"."""

    path: Path
    kind: str
    text: str


def check_tracks(
    tracks: Sequence[Track],
    seconds: float = 1.0,
    *,
    policy: str = "refuse",
    measures: Measures | None = None,
    captions: bool = False,
    workers: int = 1,
    progress: Callable[[Iterable[Problem | None]], Iterable[Problem | None]] = iter,
) -> list[Track]:
    """The tracks that can be trained on. Arguments as in `find_problems`.

    policy: "refuse" raises ValueError with all that is wrong; "skip" logs it as a warning and leaves those
    tracks out (and raises if none is left).
    """
    if policy not in POLICIES:
        raise ValueError(f"check_tracks: got policy {policy!r}, expected one of {', '.join(POLICIES)}")
    found = find_problems(
        tracks, seconds, measures=measures, captions=captions, workers=workers, progress=progress
    )
    good = [track for track, problem in zip(tracks, found, strict=True) if problem is None]
    problems = [problem for problem in found if problem is not None]
    if problems and (policy == "refuse" or not good):
        raise ValueError(f"{report(problems, len(tracks))}\nmend them, or have them skipped")
    if problems:
        log.warning("%s\nthese are skipped", report(problems, len(tracks)))
    return good


def find_problems(
    tracks: Sequence[Track],
    seconds: float = 1.0,
    *,
    measures: Measures | None = None,
    captions: bool = False,
    workers: int = 1,
    progress: Callable[[Iterable[Problem | None]], Iterable[Problem | None]] = iter,
) -> list[Problem | None]:
    """The first thing that is wrong with each track, None if nothing is.

    seconds: a shorter track is "too short". measures: given, every sample is decoded, which finds what a
    header does not tell (cut off, silent, non-finite), and `Clips` need not do it again; else the headers
    alone are read. captions: a track without is a problem. workers: threads. progress: wraps the results as
    they come.
    """

    def look(track: Track) -> Problem | None:
        problem = _problem(track, seconds, measures, captions)
        return Problem(track.path, *problem) if problem else None

    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(progress(pool.map(look, tracks)))


def _problem(
    track: Track, seconds: float, measures: Measures | None, captions: bool
) -> tuple[str, str] | None:
    if not track.path.is_file():
        return "missing", "there is no such file"
    try:
        length, peak = audio.header(track.path).seconds, None
        if measures is not None:
            stats = measures(track.path)
            length, peak = stats.seconds, stats.peak
    except audio.NonFiniteError as error:
        return "non-finite", str(error)
    except ValueError as error:
        return "unreadable", str(error)
    if length < seconds:
        return "too short", f"{length:.2f} s, expected {seconds:g} s or more"
    if peak is not None and peak < audio.SILENCE:
        return "silent", f"peak {peak:.2g} of full scale, expected {audio.SILENCE:g} or more"
    if captions and not track.captions:
        return "no caption", "its row has no caption"
    late = [t for t in (track.beats, track.downbeats) if t is not None and len(t) and t[-1] > length + SLACK]
    if late:
        return "beats too late", f"a beat at {late[0][-1]:.1f} s, and the file ends at {length:.1f} s"
    return None


def report(problems: Sequence[Problem], tracks: int) -> str:
    """All of it: how many of each kind, then file by file, up to 30."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in problems).most_common())
    lines = [f"{len(problems)} of {tracks} tracks cannot be used: {kinds}"]
    lines += [f"  {problem.path}: {problem.kind} ({problem.text})" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more")
    return "\n".join(lines)
