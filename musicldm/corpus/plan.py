"""Which clip is what: style, original or degraded copy, split. Functions of the seed and the number alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from random import Random

from .captions import captions
from .clip import Clip, cut
from .compose import compose
from .damage import KINDS
from .styles import STYLE_NAMES, style_of

__all__ = ["VERSION", "Entry", "describe", "entry", "generator", "score"]

VERSION = 1  # of the music: raise it when the same seed gives other clips
BLOCK, COPIES = 25, 2  # of every 25 clips the last two are degraded copies: 8 %
SPLITS = (("train", 0.92), ("valid", 0.96), ("test", 1.0))  # upper ends


@dataclass(frozen=True)
class Entry:
    """One clip of the corpus. `original` numbers the compositions; a copy shares its original's."""

    number: int
    original: int
    style: str
    quality: str
    split: str


def generator(seed: int, *what: object) -> Random:
    """A random generator of its own for each thing that is drawn."""
    return Random(f"musicldm corpus {VERSION} {seed} {' '.join(map(str, what))}")


def entry(seed: int, number: int) -> Entry:
    """The plan of a clip; the first ones of a larger corpus are those of a smaller."""
    block, place = divmod(number, BLOCK)
    fresh = BLOCK - COPIES
    quality = "good"
    if place >= fresh:
        drawn = generator(seed, "copies", block).sample(range(fresh), COPIES)
        quality = KINDS[(block * COPIES + place - fresh) % len(KINDS)]
        place = drawn[place - fresh]
    original = block * fresh + place
    style = STYLE_NAMES[original % len(STYLE_NAMES)]
    return Entry(number, original, style, quality, split_of(seed, original))


def split_of(seed: int, original: int) -> str:
    """By a hash of the composition, so that a copy stays with its original."""
    digest = hashlib.sha256(f"{seed} {original}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return next(name for name, end in SPLITS if share < end)


def score(seed: int, of: Entry) -> Clip:
    """The clip's notes, beats and facts."""
    rng = generator(seed, "music", of.original)
    clip = cut(compose(style_of(of.style), rng), rng)
    return replace(clip, facts=replace(clip.facts, quality=of.quality))


def describe(seed: int, of: Entry, clip: Clip) -> list[str]:
    """The clip's captions."""
    return captions(clip.facts, generator(seed, "captions", of.number))
