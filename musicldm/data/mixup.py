"""Beat-synchronous mixup: pure functions on tensors and beat times. Nothing here knows a network or a file.

Source: Chen et al. 2023, MusicLDM, arXiv 2308.01546, "beat-synchronous mixup"; the authors' code where the
paper is silent (karchkha/mt-musicldm, AudiostockDataset; RetroCirce/MusicLDM, MusicLDM.get_input).
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "align",
    "audio_mixup",
    "authors_padding",
    "drift_bound",
    "exact_tempo",
    "fit_length",
    "latent_mixup",
    "mixing_weight",
    "residual_offsets",
    "tempo",
]

Times = NDArray[np.float64]


def exact_tempo(beats: Times) -> float:
    """beats: (n,) seconds -> mean beats per minute from the first to the last; 0 with less than two."""
    if len(beats) < 2:
        return 0.0
    return float((len(beats) - 1) / (beats[-1] - beats[0]) * 60)


def tempo(beats: Times) -> int:
    """beats: (n,) seconds -> whole beats per minute, as the authors' `process_mixup_dict` counts them."""
    return round(exact_tempo(beats))


def mixing_weight(rng: np.random.Generator, alpha: float = 5.0) -> float:
    """lambda ~ Beta(alpha, alpha): the share of the first of the two. At 5: mean 0.5, variance 1/44."""
    return float(rng.beta(alpha, alpha))


def align(
    downbeats: tuple[Times, Times],
    lengths: tuple[float, float],
    seconds: float,
    rng: np.random.Generator,
    *,
    whole_clip: bool = True,
) -> tuple[float, float]:
    """Downbeats (n,), (m,) and lengths of two tracks, in seconds -> where to cut each.

    Each is drawn uniformly from the track's downbeats, the last one left out, as the authors draw it.
    whole_clip: from those that leave a clip of `seconds`, where there are any; the authors do not ask this.
    Raises ValueError with fewer than two downbeats in a track, or none before its end.
    """
    return (
        _downbeat(downbeats[0], lengths[0], seconds, rng, whole_clip),
        _downbeat(downbeats[1], lengths[1], seconds, rng, whole_clip),
    )


def _downbeat(
    times: Times, length: float, seconds: float, rng: np.random.Generator, whole_clip: bool
) -> float:
    if len(times) < 2:
        raise ValueError(f"align: got {len(times)} downbeats, expected two or more in each track")
    choice = times[:-1][times[:-1] < length]
    if not len(choice):
        raise ValueError(f"align: the first downbeat is at {times[0]:g} s, and the track {length:g} s long")
    fitting = choice[choice + seconds <= length] if whole_clip else choice
    choice = fitting if len(fitting) else choice
    return float(choice[rng.integers(len(choice))])


def audio_mixup(wave_a: Tensor, wave_b: Tensor, lam: float | Tensor) -> Tensor:
    """wave_a, wave_b: (s,) or (b, s); lam: a number or (b,) -> lam * a + (1 - lam) * b, of the same shape.

    BAM where both waves begin on a downbeat, plain mixup where they begin anywhere.
    """
    return _convex(wave_a, wave_b, lam)


def latent_mixup(latents_a: Tensor, latents_b: Tensor, lam: float | Tensor) -> Tensor:
    """latents_a, latents_b: (b, c, t, f) of two aligned clips; lam: a number or (b,) -> (b, c, t, f). BLM.

    An item with lam = 1 stays what it was.
    """
    return _convex(latents_a, latents_b, lam)


def _convex(a: Tensor, b: Tensor, lam: float | Tensor) -> Tensor:
    if a.shape != b.shape:
        raise ValueError(f"mixup: got shapes {tuple(a.shape)} and {tuple(b.shape)}, expected one shape")
    if isinstance(lam, Tensor):
        if lam.shape not in ((), a.shape[:1]):
            raise ValueError(
                f"mixup: got lam of shape {tuple(lam.shape)}, expected one per item, {a.shape[:1]}"
            )
        lam = lam.to(a).reshape(-1, *[1] * (a.ndim - 1)) if lam.ndim else lam.to(a)
    return lam * a + (1 - lam) * b


def fit_length(wave: Tensor, samples: int) -> Tensor:
    """wave: (b, s) from the vocoder, which emits a few samples too many -> (b, samples), cut or
    zero-padded."""
    return F.pad(wave[..., :samples], (0, max(0, samples - wave.shape[-1])))


def authors_padding(wave: Tensor, samples: int) -> Tensor:
    """wave: (b, s) decoded mixes -> (b, samples), of which the last tenth is silence. For comparison.

    The authors' CLAP hears this in BLM: their decoded wave is longer than the clip, and they keep 90 % of the
    clip's length. `fit_length` is the default.
    """
    return fit_length(wave[..., : int(samples * 0.9)], samples)


def drift_bound(tempo_a: float, tempo_b: float, seconds: float) -> float:
    """How far apart, in seconds, equally numbered beats of two constant tempi are at the end of an aligned
    clip.

    Beat n falls at 60 n / tempo; while the later of the two lies inside the clip, they differ by at most
    seconds * |tempo_a - tempo_b| / max(tempo_a, tempo_b).
    """
    return seconds * abs(tempo_a - tempo_b) / max(tempo_a, tempo_b)


def residual_offsets(
    beats: tuple[Times, Times], starts: tuple[float, float], seconds: float
) -> NDArray[np.float64]:
    """Beats (n,), (m,) of two tracks, cut at `starts` -> (k,) seconds: b's beat minus a's.

    For each beat in a clip of `seconds` of the track that has fewer there, the other's nearest beat anywhere,
    so that tempi in the ratio 1 : 2 are in step. Empty if one of them has no beat in the clip.
    """
    ours, theirs = beats[0] - starts[0], beats[1] - starts[1]
    inside = [(times >= -1e-6) & (times < seconds) for times in (ours, theirs)]
    if not inside[0].any() or not inside[1].any():
        return np.zeros(0)
    swapped = inside[0].sum() > inside[1].sum()
    few, many = (theirs[inside[1]], ours) if swapped else (ours[inside[0]], theirs)
    nearest = many[np.abs(many[None] - few[:, None]).argmin(axis=1)]
    return few - nearest if swapped else nearest - few
