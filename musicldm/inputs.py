"""What a caller may ask for, checked before any work: each function returns the clean value or says what is
wrong."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor

__all__ = [
    "Grid",
    "Prompts",
    "as_conditions",
    "as_count",
    "as_embeds",
    "as_generators",
    "as_guidance",
    "as_interval",
    "as_prompts",
    "check_latents",
]


Prompts = list[str] | Tensor  # texts, or their CLAP embeddings (b, d)


@dataclass(frozen=True)
class Grid:
    """Seconds <-> samples <-> mel frames <-> latent rows, in integers.

    rate in Hz; hop: samples per mel frame; factor: mel frames per latent row.
    """

    rate: int
    hop: int
    factor: int

    def seconds(self, rows: int) -> float:
        """Length of that many latent rows."""
        return rows * self.factor * self.hop / self.rate

    def samples(self, seconds: float) -> int:
        """The exact length asked for: `round(rate * seconds)`.

        Raises TypeError if it is not a number, ValueError if it is not finite or shorter than one latent row.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"audio_length_in_s: got {seconds!r}, expected a number of seconds")
        if not math.isfinite(seconds) or seconds < self.seconds(1):
            raise ValueError(
                f"audio_length_in_s: got {seconds}, expected at least {self.seconds(1)} s, one row of latents"
            )
        return round(self.rate * seconds)

    def rows(self, samples: int) -> int:
        """Fewest latent rows that cover that many samples."""
        return -(-samples // (self.hop * self.factor))


def as_conditions(
    prompt: Any,
    negative_prompt: Any,
    prompt_embeds: Any,
    negative_prompt_embeds: Any,
    dim: int,
    clips: int = 1,
) -> tuple[Prompts, Prompts]:
    """Both sides of guidance, as texts or embeddings (b, dim); one negative may stand for all.

    clips: how many these are for; one prompt is repeated for each. Raises TypeError or ValueError.
    """
    if (prompt is None) == (prompt_embeds is None):
        raise ValueError(
            f"got {'neither' if prompt is None else 'both'} of prompt and prompt_embeds: give one"
        )
    if negative_prompt is not None and negative_prompt_embeds is not None:
        raise ValueError("got both negative_prompt and negative_prompt_embeds: give one")
    prompts: Prompts = (
        as_embeds(prompt_embeds, "prompt_embeds", dim) if prompt is None else as_prompts(prompt)
    )
    if len(prompts) == 1:
        prompts = prompts.expand(clips, -1) if isinstance(prompts, Tensor) else prompts * clips
    if clips not in (1, len(prompts)):
        raise ValueError(f"got {len(prompts)} prompts for {clips} clips, expected 1 or one each")
    negatives: Prompts = (
        as_prompts(negative_prompt or "", "negative_prompt")
        if negative_prompt_embeds is None
        else as_embeds(negative_prompt_embeds, "negative_prompt_embeds", dim)
    )
    if len(negatives) not in (1, len(prompts)):
        raise ValueError(
            f"got {len(negatives)} negative prompts for {len(prompts)} prompts, expected 1 or one each"
        )
    return prompts, negatives


def as_prompts(prompt: Any, name: str = "prompt") -> list[str]:
    """One string or a sequence of strings -> a list. Raises TypeError, or ValueError if it is empty."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, (list, tuple)) or not all(isinstance(p, str) for p in prompts):
        raise TypeError(f"{name}: got {_shown(prompt)}, expected a string or a list of strings")
    if not prompts:
        raise ValueError(f"{name}: got an empty list, expected at least one string")
    return list(prompts)


def as_count(value: Any, name: str) -> int:
    """A whole number of 1 or more. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}: got {value!r}, expected a whole number")
    if operator.index(value) < 1:
        raise ValueError(f"{name}: got {value}, expected 1 or more")
    return operator.index(value)


def as_guidance(value: Any) -> float:
    """A finite guidance scale of 0 or more. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"guidance_scale: got {value!r}, expected a number")
    if not math.isfinite(value) or value < 0:
        raise ValueError(
            f"guidance_scale: got {value}, expected a finite number of 0 or more; 1 is no guidance"
        )
    return float(value)


def as_embeds(embeds: Any, name: str, dim: int) -> Tensor:
    """(b, d) CLAP embeddings. Raises TypeError or ValueError."""
    if not isinstance(embeds, Tensor):
        raise TypeError(f"{name}: got {_shown(embeds)}, expected a tensor (b, {dim}) of CLAP embeddings")
    if embeds.ndim != 2 or embeds.shape[1] != dim or not embeds.shape[0]:
        raise ValueError(f"{name}: got shape {tuple(embeds.shape)}, expected (b, {dim}), CLAP embeddings")
    if not torch.isfinite(embeds).all():
        raise ValueError(f"{name}: holds NaN or infinity")
    return embeds


def check_latents(latents: Any, shape: tuple[int, ...]) -> None:
    """Raises TypeError or ValueError if given latents do not have the shape that the length asks for."""
    if not isinstance(latents, Tensor):
        raise TypeError(f"latents: got {_shown(latents)}, expected a tensor {shape}")
    if tuple(latents.shape) != shape:
        raise ValueError(
            f"latents: got shape {tuple(latents.shape)}, expected {shape} (prompts x waveforms, "
            "channels, rows for "
            "the length asked, mel bins / factor)"
        )
    if not torch.isfinite(latents).all():
        raise ValueError("latents: hold NaN or infinity")


def as_interval(value: Any) -> tuple[float, float] | None:
    """Two timesteps, the lower first, or None. Raises TypeError or ValueError."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"guidance_interval: got {value!r}, expected two timesteps such as (100, 900)")
    low, high = value
    if not all(isinstance(bound, (int, float)) and math.isfinite(bound) for bound in value) or low > high:
        raise ValueError(
            f"guidance_interval: got {value!r}, expected two finite timesteps, the lower first; "
            "0 is clean, 999 noise"
        )
    return float(low), float(high)


def as_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None,
    seed: int | Sequence[int] | None,
    batch: int,
) -> torch.Generator | list[torch.Generator] | None:
    """`generator` as it was given, or a CPU generator per sample from seeds; sample k of one seed has seed +
    k.

    Raises TypeError or ValueError if both are given, or the numbers of samples and generators differ.
    """
    if seed is None:
        if isinstance(generator, (list, tuple)):
            if not all(isinstance(g, torch.Generator) for g in generator):
                raise TypeError("generator: the list holds something that is not a torch.Generator")
            return _one_each(list(generator), "generator", batch)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator: got {_shown(generator)}, expected a torch.Generator or a list of them"
            )
        return generator
    if generator is not None:
        raise ValueError(
            "got both generator and seed; a seed makes a generator for each sample: give one of them"
        )
    seeds = [*seed] if isinstance(seed, (list, tuple)) else [_seed(seed) + k for k in range(batch)]
    return [torch.Generator().manual_seed(_seed(s)) for s in _one_each(seeds, "seed", batch)]


def _one_each(values: list[Any], name: str, batch: int) -> list[Any]:
    if len(values) != batch:
        raise ValueError(
            f"{name}: got a list of {len(values)} for {batch} samples (prompts x waveforms per prompt)"
        )
    return values


def _seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: got {seed!r}, expected a whole number")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}, expected 0 to 2^63 - 1")
    return seed


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {repr(value)[:60]}"
