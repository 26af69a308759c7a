"""Prompts that change along time: a small file, and the condition at each moment."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicldm.blending import blend

__all__ = ["Cue", "Timeline", "TimelineError", "parse", "parse_json", "read", "seconds_of"]

EXAMPLE = "one cue per line, a time and a prompt, as in '0:30 techno, 120 bpm'"
TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")  # h:mm:ss.s, m:ss.s, s.s


class TimelineError(ValueError):
    """A timeline that cannot be read; the message names the place and what was expected there."""


@dataclass(frozen=True)
class Cue:
    """From this second on, this prompt."""

    seconds: float
    prompt: str


@dataclass(frozen=True)
class Timeline:
    """Cues in order, the first at 0."""

    cues: tuple[Cue, ...]

    @property
    def prompts(self) -> list[str]:
        """Of all cues, in order."""
        return [cue.prompt for cue in self.cues]

    def check(self, seconds: float, times: Sequence[float]) -> None:
        """Raises TimelineError for a cue that would not be heard.

        A clip of `seconds` is made of windows, each under the condition of the moment in its middle, `times`.
        """
        ends = [cue.seconds for cue in self.cues[1:]] + [seconds]
        for cue, end in zip(self.cues, ends, strict=True):
            if cue.seconds >= seconds:
                raise TimelineError(
                    f"timeline: {cue.prompt!r} begins at {cue.seconds:g} s, but the clip ends at "
                    f"{seconds:g} s; make the clip longer, or leave the cue out"
                )
            if not any(cue.seconds <= time < end for time in times):
                middles = ", ".join(f"{time:.1f}" for time in sorted(times))
                raise TimelineError(
                    f"timeline: {cue.prompt!r} lasts from {cue.seconds:g} to {end:g} s, and no window has "
                    f"its middle in that: they are at {middles} s; make it longer, or the windows shorter or "
                    "more overlapping"
                )

    def conditions(
        self, embeds: Tensor, times: Sequence[float], transition: float, loop_seconds: float | None = None
    ) -> Tensor:
        """embeds: (m, d), one per cue; times: n seconds -> (n, d), the condition at each time.

        Between two cues the embedding turns from one to the other (`blend`) over `transition` seconds, half
        before and half after the second one's time. loop_seconds: the length of a loop, in which the last
        cue turns into the first.
        """
        return torch.stack([self._at(embeds, time, transition, loop_seconds) for time in times])

    def _at(self, embeds: Tensor, time: float, transition: float, loop_seconds: float | None) -> Tensor:
        starts = [cue.seconds for cue in self.cues]
        around = [(start, k) for k, start in enumerate(starts)]
        if loop_seconds is not None:
            around = [(start + turn * loop_seconds, k) for turn in (-1, 0, 1) for start, k in around]
        condition = embeds[around[0][1]]
        for start, k in around[1:]:
            share = (time - start) / transition + 0.5 if transition > 0 else float(time >= start)
            condition = _between(condition, embeds[k], min(max(share, 0.0), 1.0))
        return condition


def _between(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The point at `share` of the way from a to b; at the ends they themselves, bit for bit."""
    if share in (0.0, 1.0):
        return b if share else a
    return blend([(a, 1 - share), (b, share)])


def read(path: str | Path) -> Timeline:
    """A timeline from a file: JSON if it is called .json, otherwise text. Raises TimelineError, OSError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TimelineError(f"{path}: not a text file in UTF-8 ({error.reason} at {error.start})") from None
    return parse_json(text, str(path)) if path.suffix.lower() == ".json" else parse(text, str(path))


def parse(text: str, name: str = "timeline") -> Timeline:
    """Lines of a time and a prompt; empty lines and lines that begin with # are left out.

    Times are seconds, m:ss or h:mm:ss, with a decimal point if wanted. Raises TimelineError.
    """
    cues = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        where = f"{name}, line {number}"
        if len(words) < 2:
            raise TimelineError(f"{where}: got {line.strip()!r} alone, expected {EXAMPLE}")
        cues.append((where, Cue(seconds_of(words[0], where), words[1].strip())))
    return _checked(cues, name)


def parse_json(text: str, name: str = "timeline") -> Timeline:
    """A list of objects with "time" (seconds, or a string as in a text file) and "prompt".

    Raises TimelineError.
    """
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise TimelineError(f"{name}, line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(entries, list):
        raise TimelineError(f'{name}: expected a list such as [{{"time": "0:30", "prompt": "techno"}}]')
    cues = []
    for number, entry in enumerate(entries, start=1):
        where = f"{name}, entry {number}"
        if not isinstance(entry, dict) or set(entry) != {"time", "prompt"}:
            raise TimelineError(
                f'{where}: got {json.dumps(entry)[:80]}, expected an object with "time" and "prompt" alone'
            )
        if not isinstance(entry["prompt"], str):
            raise TimelineError(f"{where}: got the prompt {entry['prompt']!r}, expected a string")
        cues.append((where, Cue(seconds_of(entry["time"], where), entry["prompt"])))
    return _checked(cues, name)


def seconds_of(time: Any, where: str = "time") -> float:
    """A number of seconds, or "s", "m:ss", "h:mm:ss" -> seconds. Raises TimelineError."""
    expected = "seconds or m:ss or h:mm:ss, such as 90 or 1:30"
    if isinstance(time, (int, float)) and not isinstance(time, bool):
        if not (math.isfinite(time) and time >= 0):
            raise TimelineError(f"{where}: got the time {time!r}, expected {expected}, not negative")
        return float(time)
    match = TIME.fullmatch(time.removesuffix("s")) if isinstance(time, str) else None
    if match is None:
        raise TimelineError(f"{where}: got the time {time!r}, expected {expected}")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    if (match[2] and seconds >= 60) or (match[1] and minutes >= 60):
        raise TimelineError(f"{where}: got the time {time!r}, expected less than 60 after a colon")
    return 3600 * hours + 60 * minutes + seconds


def _checked(cues: list[tuple[str, Cue]], name: str) -> Timeline:
    if not cues:
        raise TimelineError(f"{name}: holds no cue, expected {EXAMPLE}")
    where, first = cues[0]
    if first.seconds != 0:
        raise TimelineError(f"{where}: the first cue begins at {first.seconds:g} s, expected 0")
    for (_, before), (where, cue) in pairwise(cues):
        if cue.seconds <= before.seconds:
            raise TimelineError(
                f"{where}: got {cue.seconds:g} s after {before.seconds:g} s, expected times that increase"
            )
    return Timeline(tuple(cue for _, cue in cues))
