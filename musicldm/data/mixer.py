"""Who is mixed with whom, where and how much: the decision for one item, apart from any sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from .manifest import Track
from .mixup import align, exact_tempo, mixing_weight, residual_offsets, tempo
from .pairing import TempoBins, TempoNeighbours

__all__ = ["CROPS", "PAIRS", "STRATEGIES", "Mixer", "Pair"]

STRATEGIES = ("none", "plain", "bam", "blm")
PAIRS = ("neighbours", "bins")
CROPS = ("downbeat", "authors")
TRIES = 8


@dataclass(frozen=True)
class Pair:
    """What is mixed: the partner's index; where each track is cut, in seconds; lam, the anchor's share."""

    partner: int
    start: float
    partner_start: float
    lam: float


class Mixer:
    """Draws, for an item, the pair that is mixed, or says why it stays alone.

    strategy: "none"; "plain", any two tracks, cut anywhere; "bam", two of one tempo, cut at downbeats, their
    waves to be mixed; "blm", the same pairs, for their latents to be mixed.
    probability: of an item's being mixed, if it can be; the authors' value is not known. alpha: see
    `mixing_weight`. pairs: "neighbours", tempi within max_bpm (fold: half and double tempo too), or the
    authors' "bins" of 3. crop: "downbeat", the clip begins at the aligned downbeats; or "authors", a random
    clip of all that follows them (`clips`), which drifts apart where the tempi differ.
    max_offset: a pair whose beats lie further apart than this many seconds (the median over the clip, by the
    annotations) is drawn again, up to 8 times, since a track's mean tempo says little about ten seconds of
    it; infinity asks nothing. The authors ask nothing, and neither does their crop.

    Raises ValueError for a setting that does not exist, or if no two tracks can be mixed.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        strategy: str,
        *,
        probability: float = 0.5,
        alpha: float = 5.0,
        pairs: str = "neighbours",
        max_bpm: float = 1.0,
        fold: bool = False,
        crop: str = "downbeat",
        max_offset: float = 0.06,
    ) -> None:
        for name, got, known in (
            ("strategy", strategy, STRATEGIES),
            ("pairs", pairs, PAIRS),
            ("crop", crop, CROPS),
        ):
            if got not in known:
                raise ValueError(f"Mixer: got {name} {got!r}, expected one of {', '.join(known)}")
        if not 0 <= probability <= 1 or not alpha > 0:
            raise ValueError(
                f"Mixer: got probability {probability} and alpha {alpha}, expected 0 to 1 and above 0"
            )
        if not max_offset > 0:
            raise ValueError(f"Mixer: got max_offset {max_offset}, expected seconds above 0, or inf")
        self.tracks = tracks
        self.strategy = strategy
        self.probability = probability
        self.alpha = alpha
        self.crop = crop
        self.max_offset = max_offset if crop == "downbeat" else inf
        beaten = [_tempo(track) for track in tracks]
        self._partners: TempoBins | TempoNeighbours = (
            TempoBins(
                [
                    tempo(t.beats) if found and t.beats is not None else 0
                    for found, t in zip(beaten, tracks, strict=True)
                ]
            )
            if pairs == "bins"
            else TempoNeighbours(beaten, max_bpm, fold=fold)
        )
        self.alignable = sum(map(bool, beaten))
        self.paired = sum(bool(self._partners.count(index)) for index in range(len(tracks)))
        self._refuse_if_nothing_can_be_mixed(
            f"within {max_bpm:g} BPM" if pairs == "neighbours" else "in one bin"
        )

    def _refuse_if_nothing_can_be_mixed(self, near: str) -> None:
        if not self.probability or self.strategy == "none":
            return
        if self.strategy == "plain":
            if len(self.tracks) < 2:
                raise ValueError(f"Mixer: got {len(self.tracks)} track, expected two or more to mix")
        elif not self.paired:
            raise ValueError(
                f"Mixer: of {len(self.tracks)} tracks, {self.alignable} have two downbeats or more, and no "
                f"two of these have tempi {near}; find beats with `musicldm beats MANIFEST`, allow more, or "
                "use strategy 'none' or 'plain'"
            )

    def draw(
        self, index: int, rng: np.random.Generator, seconds: float, length_of: Callable[[int], float]
    ) -> Pair | str:
        """The pair for one item, or why it stays alone: "off", "not drawn", "no beats", "no partner" or
        "out of step".

        seconds: of a clip. length_of: a track's, by index. All chance is taken from rng.
        """
        if self.strategy == "none":
            return "off"
        if rng.random() >= self.probability:
            return "not drawn"
        lam = mixing_weight(rng, self.alpha)
        if self.strategy == "plain":
            return self._plain(index, rng, seconds, length_of, lam)
        if not _tempo(self.tracks[index]):
            return "no beats"
        if not self._partners.count(index):
            return "no partner"
        for _ in range(TRIES if self.max_offset < inf else 1):
            partner = self._partners.draw(index, rng)
            assert partner is not None
            try:
                starts = self._starts(index, partner, rng, seconds, length_of)
            except ValueError:  # annotations of something longer than the file
                return "no beats"
            if self._in_step(index, partner, starts, seconds):
                return Pair(partner, *starts, lam)
        return "out of step"

    def _starts(
        self,
        index: int,
        partner: int,
        rng: np.random.Generator,
        seconds: float,
        length_of: Callable[[int], float],
    ) -> tuple[float, float]:
        downbeats = self.tracks[index].downbeats, self.tracks[partner].downbeats
        assert downbeats[0] is not None and downbeats[1] is not None  # noqa: PT018 (both have a tempo)
        lengths = length_of(index), length_of(partner)
        return align((downbeats[0], downbeats[1]), lengths, seconds, rng, whole_clip=self.crop == "downbeat")

    def _in_step(self, index: int, partner: int, starts: tuple[float, float], seconds: float) -> bool:
        beats = self.tracks[index].beats, self.tracks[partner].beats
        if self.max_offset == inf or beats[0] is None or beats[1] is None:
            return True
        offsets = np.abs(residual_offsets((beats[0], beats[1]), starts, seconds))
        return bool(len(offsets)) and float(np.median(offsets)) <= self.max_offset

    def _plain(
        self,
        index: int,
        rng: np.random.Generator,
        seconds: float,
        length_of: Callable[[int], float],
        lam: float,
    ) -> Pair | str:
        if len(self.tracks) < 2:
            return "no partner"
        at = int(rng.integers(len(self.tracks) - 1))
        partner = at + (at >= index)
        starts = [max(0.0, length_of(track) - seconds) * rng.random() for track in (index, partner)]
        return Pair(partner, starts[0], starts[1], lam)


def _tempo(track: Track) -> float:
    """0 for a track that cannot be aligned."""
    if track.beats is None or track.downbeats is None or len(track.downbeats) < 2:
        return 0.0
    return exact_tempo(track.beats)
