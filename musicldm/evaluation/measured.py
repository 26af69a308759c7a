"""What metrics are made of, and what they add to: features of the sets, results, lists, distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .features import Feature, Features
from .handling import Excerpt
from .intervals import SHORT, Interval, mean_interval
from .results import LeftOut, Result

__all__ = ["GEN", "REF", "TRAIN", "Cut", "Draws", "Entry", "Figure", "Heard", "Measured", "Ranked", "Values"]

Values = NDArray[np.float64]
Cut = Mapping[str, Sequence[Excerpt]]
GEN, REF, TRAIN = "GENERATED", "REFERENCE", "TRAIN"


@dataclass(frozen=True)
class Draws:
    """seed: of all that is drawn. bootstrap: resamplings, 0: none. thresholds: of SIM_AA."""

    seed: int
    bootstrap: int
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Heard:
    """One feature of all sets. texts: role -> the places of clips with prompts, and the prompts (n, d)."""

    name: str
    feature: Feature
    generated: Features
    reference: Features | None = None
    train: Features | None = None
    texts: Mapping[str, tuple[Sequence[int], Values]] = field(default_factory=dict)

    @property
    def judged(self) -> list[tuple[str, Features]]:
        """The generated clips, and the reference beside them where there is one."""
        return [(GEN, self.generated), *([] if self.reference is None else [(REF, self.reference)])]


@dataclass(frozen=True)
class Entry:
    """A value and the clips that it is of: (role, place among the role's excerpts)."""

    value: float
    clips: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Ranked:
    """Clips worth a listen, most so first."""

    name: str
    heading: str
    text: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Figure:
    """A distribution: what `charts.histogram` draws."""

    title: str
    series: Sequence[tuple[str, Values]]
    marks: Sequence[tuple[float, str]] = ()


@dataclass
class Measured:
    """All that came out. columns: name -> a value for each generated clip."""

    draws: Draws
    results: list[Result] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    lists: list[Ranked] = field(default_factory=list)

    def add(
        self,
        section: str,
        metric: str,
        feature: str,
        of: str,
        found: float | Interval,
        n: str,
        better: str = "",
        **details: Any,
    ) -> None:
        """A number, with its interval where there is one."""
        value, low, high = (
            (found.value, found.low, found.high) if isinstance(found, Interval) else (found, None, None)
        )
        if isinstance(found, Interval):
            names = ("error", "bias", "level", "replicates", "seed")
            details["bootstrap"] = {name: getattr(found, name) for name in names}
        self.results.append(
            Result(
                section=section,
                metric=metric,
                feature=feature,
                of=of,
                value=float(value),
                low=low,
                high=high,
                n=n,
                better=better,
                details=details,
            )
        )

    def sure(
        self,
        value: Callable[[], float],
        interval: Callable[..., Interval],
        *args: Any,
        costly: bool = False,
        **kw: Any,
    ) -> float | Interval:
        """The interval if any is wanted, else the value. costly: each resampling is a decomposition."""
        wanted = min(self.draws.bootstrap, SHORT) if costly else self.draws.bootstrap
        return interval(*args, **kw, replicates=wanted, seed=self.draws.seed) if wanted >= 2 else value()

    def mean(self, values: Values) -> float | Interval:
        """Of the clips' values; one value has no interval."""
        if len(values) < 2:
            return float(values.mean())
        return self.sure(lambda: float(values.mean()), mean_interval, values)

    def leave_out(self, metric: str, why: str) -> None:
        """Say what was not computed."""
        self.left_out.append(LeftOut(metric, why))
