"""What is asked for, from the command line: text, clips beside it, and how to sample."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .options import file_and_number

__all__ = ["add_prompt_options", "read_request"]


def add_prompt_options(command: argparse.ArgumentParser) -> None:
    """--audio-prompt, --blend."""
    group = command.add_argument_group("audio prompts")
    group.add_argument("--audio-prompt", type=file_and_number, action="append", default=[],
                       metavar="FILE[:WEIGHT]", help="a clip that it should sound like, beside the text, "
                       "whose weight is 1, or in its place; repeatable (default weight: 1)")  # fmt: skip
    group.add_argument("--blend", choices=("slerp", "linear"), default="slerp",
                       help="how text and clips are mixed: along the sphere (default), or as a sum, where a "
                       "weight may be negative")  # fmt: skip


def read_request(options: argparse.Namespace, pipe: Any, seed: int, advance: Callable[[], object]) -> Any:
    """The `Request` that prompts, sampling and speed options describe. advance: called at every step."""
    from musicldm.hub import usual_guidance
    from musicldm.stages import Request

    def callback(step: int, timestep: float, latents: Any) -> None:
        advance()

    prompt, embeds = _read_prompt(options, pipe)
    return Request(
        prompt=prompt,
        prompt_embeds=embeds,
        num_inference_steps=options.steps,
        guidance_scale=usual_guidance(options.model) if options.guidance is None else options.guidance,
        negative_prompt=options.negative,
        num_waveforms_per_prompt=options.candidates,
        eta=options.eta,
        seed=seed,
        guidance_interval=options.guidance_interval,
        feature_reuse=options.feature_reuse,
        callback=callback,
    )


def _read_prompt(options: argparse.Namespace, pipe: Any) -> tuple[str | None, Any]:
    """The text alone, or None and the embedding (1, d) of text and clips together.

    Raises ValueError for a file that is no audio, or for weights that leave nothing.
    """
    if not options.audio_prompt:
        return options.prompt, None

    from musicldm import audio
    from musicldm.blending import blend

    parts = [] if options.prompt is None else [(pipe.embed_text(options.prompt), 1.0)]
    for path, weight in options.audio_prompt:
        wave, rate = audio.read(path)
        audio.warn_if_silent(wave, f"audio prompt {path}")
        parts.append((pipe.embed_audio(wave, rate), weight))
    return None, blend(parts, how=options.blend)
