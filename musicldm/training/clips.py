"""Clips and batches of clips: what each item of each epoch is, whoever asks, in whatever order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .collate import Batch, Clip, collate
from .manifest import Track
from .mixer import Mixer, Pair
from .mixup import audio_mixup
from .seeds import generator, permutation
from .sound import Measures, Samples, cut, cut_raw, normalise

__all__ = ["Batch", "Clip", "Clips", "collate"]

ENOUGH = 100  # samples that both tracks must have after their downbeats, in the authors' mixup


class Clips:
    """Tracks, each with one clip an epoch: `item(e, k)` depends on them, the settings, seed, e and k alone.

    sample_rate in Hz, samples per clip. training: random crops, one of the captions at random, mixing; else
    the middle of the track, the first caption, never mixed. Tracks are normalised whole before they are cut,
    short ones zero-padded at the end.
    mixer: over the same tracks. measures: shares the tracks' statistics with `check_tracks`, or keeps them on
    the disk; without it every process decodes each track once more before its first clip.
    repeat_after: epoch e brings the clips of epoch e modulo this, in an order of its own, so that caches are
    hit.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        sample_rate: int = 16000,
        samples: int = 163840,
        seed: int = 0,
        *,
        training: bool = True,
        mixer: Mixer | None = None,
        measures: Measures | None = None,
        repeat_after: int | None = None,
    ) -> None:
        if not tracks:
            raise ValueError("Clips: got no tracks")
        if samples < 1 or sample_rate < 1 or (repeat_after is not None and repeat_after < 1):
            raise ValueError(
                f"Clips: got {samples} samples at {sample_rate} Hz, repeat_after {repeat_after}; "
                "expected 1 or more"
            )
        if mixer is not None and list(mixer.tracks) != list(tracks):
            raise ValueError("Clips: the mixer was made for other tracks; make it from the same list")
        if measures is not None and measures.rate != sample_rate:
            raise ValueError(f"Clips: got measures at {measures.rate} Hz, expected {sample_rate} Hz")
        self.tracks = tracks
        self.sample_rate = sample_rate
        self.samples = samples
        self.seed = seed
        self.training = training
        self.mixer = mixer if training else None
        self.measures = measures or Measures(sample_rate)
        self.repeat_after = repeat_after

    def __len__(self) -> int:
        return len(self.tracks)

    def item(self, epoch: int, index: int) -> Clip:
        """The clip of track `index` in an epoch. Raises ValueError naming a file that cannot be read."""
        drawn = epoch % self.repeat_after if self.repeat_after else epoch
        pair: Pair | str = "off"
        if self.mixer is not None:
            chance = generator(self.seed, "mix", drawn, index)
            pair = self.mixer.draw(index, chance, self.samples / self.sample_rate, self._seconds)
        if isinstance(pair, Pair):
            mixed = self._mixed(epoch, drawn, index, pair)
            if mixed is not None:
                return mixed
            pair = "too short"
        start = self._crop(drawn, index, self.measures(self.tracks[index].path).samples)
        wave, key = self._cut(index, start)
        return self._clip(epoch, drawn, index, start, wave, key, outcome=pair)

    def _clip(
        self, epoch: int, drawn: int, index: int, start: int, wave: Tensor, key: str, *,
        outcome: str, pair: Pair | None = None, wave_b: Tensor | None = None, key_b: str = "",
        lam: float = 1.0,
    ) -> Clip:  # fmt: skip
        return Clip(
            wave=wave, caption=self._caption(drawn, index), path=self.tracks[index].path, index=index,
            epoch=epoch, start=start / self.sample_rate, key=key, outcome=outcome, pair=pair, wave_b=wave_b,
            key_b=key_b, lam=lam,
        )  # fmt: skip

    def _mixed(self, epoch: int, drawn: int, index: int, pair: Pair) -> Clip | None:
        assert self.mixer is not None
        start = round(pair.start * self.sample_rate)
        partner_start = round(pair.partner_start * self.sample_rate)
        if self.mixer.strategy == "bam" and self.mixer.crop == "authors":
            return self._authors_mix(epoch, drawn, index, pair, start, partner_start)
        wave, key = self._cut(index, start)
        other, other_key = self._cut(pair.partner, partner_start)
        if self.mixer.strategy == "blm":
            return self._clip(
                epoch, drawn, index, start, wave, key,
                outcome="mixed", pair=pair, wave_b=other, key_b=other_key, lam=pair.lam,
            )  # fmt: skip
        mix = audio_mixup(wave, other, pair.lam)
        key = _key(key, other_key, pair.lam)
        return self._clip(epoch, drawn, index, start, mix, key, outcome="mixed", pair=pair)

    def _authors_mix(
        self, epoch: int, drawn: int, index: int, pair: Pair, start: int, partner_start: int
    ) -> Clip | None:
        """All that follows the two downbeats, mixed at the files' own levels, normalised, then cut at
        random."""
        paths = self.tracks[index].path, self.tracks[pair.partner].path
        stats = self.measures(paths[0]), self.measures(paths[1])
        length = min(stats[0].samples - start, stats[1].samples - partner_start)
        if length <= ENOUGH:
            return None
        wave, other = (
            cut_raw(paths[0], stats[0], start, length),
            cut_raw(paths[1], stats[1], partner_start, length),
        )
        mix: Samples = normalise(
            audio_mixup(torch.from_numpy(wave), torch.from_numpy(other), pair.lam).numpy()
        )
        at = self._crop(drawn, index, length)
        clip = torch.zeros(self.samples)
        clip[: max(0, length - at)] = torch.from_numpy(mix[at : at + self.samples])
        key = _key(
            stats[0].sha256,
            stats[1].sha256,
            start,
            partner_start,
            at,
            pair.lam,
            self.samples,
            self.sample_rate,
        )
        return self._clip(epoch, drawn, index, start + at, clip, key, outcome="mixed", pair=pair)

    def _crop(self, drawn: int, index: int, length: int) -> int:
        spare = max(0, length - self.samples)
        if not self.training:
            return spare // 2
        return int(generator(self.seed, "crop", drawn, index).integers(spare + 1))

    def _cut(self, index: int, start: int) -> tuple[Tensor, str]:
        path = self.tracks[index].path
        stats = self.measures(path)
        wave = torch.from_numpy(cut(path, stats, start, self.samples))
        return wave, _key(stats.sha256, start, self.samples, self.sample_rate)

    def _caption(self, drawn: int, index: int) -> str:
        captions = self.tracks[index].captions
        if len(captions) < 2 or not self.training:
            return captions[0] if captions else ""
        return captions[int(generator(self.seed, "caption", drawn, index).integers(len(captions)))]

    def _seconds(self, index: int) -> float:
        return self.measures(self.tracks[index].path).seconds

    # ---- order ----

    def batches_per_epoch(self, batch_size: int) -> int:
        """Whole batches of `batch_size`, over all processes together, in an epoch."""
        return len(self) // batch_size

    def order(
        self, epoch: int, batch_size: int, rank: int = 0, world_size: int = 1, start_batch: int = 0
    ) -> Iterator[list[int]]:
        """Indices of the rank's part of each whole batch of an epoch, from batch `start_batch` on.

        batch_size is that of all processes together: global batch j is the items j * batch_size ... of the
        epoch's permutation (of the tracks' own order if not training), and rank r of w has the r-th of its w
        contiguous parts, so that w processes see in each step what one would. What does not fill a batch is
        left for another epoch's permutation; without training it makes a last, smaller batch.
        Raises ValueError if processes cannot share a batch evenly, or an epoch does not fill one.
        """
        if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"Clips: got a batch of {batch_size} for rank {rank} of {world_size}, expected a multiple of "
                f"{world_size} (it is the batch of all processes together) and a rank below it"
            )
        if self.training and len(self) < batch_size:
            raise ValueError(
                f"Clips: {len(self)} tracks do not fill a batch of {batch_size}; make it smaller, or add "
                "tracks"
            )
        indices = permutation(self.seed, epoch, len(self)) if self.training else list(range(len(self)))
        end = len(self) - len(self) % batch_size if self.training else len(self)
        part = batch_size // world_size
        for first in range(start_batch * batch_size, end, batch_size):
            mine = indices[first : first + batch_size][rank * part : (rank + 1) * part]
            if mine:
                yield mine

    def batches(
        self,
        epoch: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int = 0,
        workers: int = 0,
    ) -> Iterator[Batch]:
        """The clips of `order`, as batches. workers: processes that cut them ahead; they change nothing
        else."""
        order = self.order(epoch, batch_size, rank, world_size, start_batch)
        return self._load(([(epoch, index) for index in indices] for indices in order), workers)

    def stream(
        self, batch_size: int, rank: int = 0, world_size: int = 1, start_epoch: int = 0, start_batch: int = 0,
        workers: int = 0,
    ) -> Iterator[Batch]:  # fmt: skip
        """`batches` of one epoch after the other, without end; the workers live as long as the iterator."""

        def names() -> Iterator[list[tuple[int, int]]]:
            epoch, first = start_epoch, start_batch
            while True:
                for indices in self.order(epoch, batch_size, rank, world_size, first):
                    yield [(epoch, index) for index in indices]
                epoch, first = epoch + 1, 0

        return self._load(names(), workers)

    def _load(self, names: Iterator[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:
        if workers == 0:
            return (collate([self.item(*name) for name in batch]) for batch in names)
        # a generator of its own: DataLoader would draw from torch's global one, which the training owns
        return iter(
            DataLoader(
                _Named(self), batch_sampler=_Once(names), collate_fn=collate, num_workers=workers,
                generator=torch.Generator(),
            )
        )  # fmt: skip


class _Named(Dataset[Clip]):
    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __getitem__(self, name: tuple[int, int]) -> Clip:
        return self.clips.item(*name)


class _Once(Iterable[list[tuple[int, int]]]):
    """An iterator that DataLoader takes for a sampler."""

    def __init__(self, names: Iterator[list[tuple[int, int]]]) -> None:
        self.names = names

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.names


def _key(*parts: object) -> str:
    return hashlib.blake2b(" ".join(map(repr, parts)).encode(), digest_size=16).hexdigest()
