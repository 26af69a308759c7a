"""The 64 prompts that judge a model trained on this corpus: written by hand, no template says any of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Prompt", "evaluation_prompts"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt and what it asks for; None where it does not say.

    `bpm`: beats per minute. `lead`: a name of `instruments.INSTRUMENTS`.
    """

    prompt: str
    style: str
    bpm: int | None
    drums: bool | None
    lead: str | None


def evaluation_prompts() -> list[Prompt]:
    """Four for each style, in a fixed order; read from evaluation_prompts.jsonl."""
    text = files(__package__).joinpath("evaluation_prompts.jsonl").read_text(encoding="utf-8")
    return [Prompt(**json.loads(line)) for line in text.splitlines()]
