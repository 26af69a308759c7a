"""`musicldm generate`: a prompt to a sound file."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from .options import (
    add_form_options,
    add_length_option,
    add_model_options,
    add_sampling_options,
    add_speed_options,
    load_pipeline,
    read_form,
)
from .prompts import add_prompt_options, read_request

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    generate = commands.add_parser(
        "generate",
        help="make a clip from a prompt",
        description="Make a clip from a prompt, or from prompts along time. A clip longer than the model's "
        "training clips is made in overlapping windows of that length, in memory that does not grow.",
    )
    generate.set_defaults(run=run)
    generate.add_argument("prompt", nargs="?", help="what it should sound like")
    generate.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".wav, .flac or .ogg"
    )
    generate.add_argument(
        "--float32", action="store_true", help="write a WAV of 32-bit floats, not 16-bit integers"
    )
    add_length_option(generate)
    add_prompt_options(generate)
    add_model_options(generate)
    add_sampling_options(generate, seed="a whole number that names the clip; default: a new one")
    add_form_options(generate)
    add_speed_options(generate)


def run(options: argparse.Namespace) -> int:
    """Make the clip, write it, say what came out."""
    from musicldm.audio import check_suffix

    check_suffix(options.output, options.float32)
    prompted = options.prompt is not None or bool(options.audio_prompt)
    if prompted == (options.timeline is not None):
        raise ValueError(
            f"got {'both' if prompted else 'neither'} of a prompt (text or --audio-prompt) and --timeline: "
            "give one"
        )
    if not options.output.parent.is_dir():
        raise ValueError(f"--output {options.output}: there is no folder {options.output.parent}")

    from tqdm import tqdm

    from musicldm.audio import write
    from musicldm.editing.long_form import compose

    form = read_form(options)
    pipe = load_pipeline(options)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    total = len(pipe.scheduler.plan(options.steps))
    start = time.perf_counter()
    with tqdm(total=total, unit="step", leave=False, disable=not sys.stderr.isatty()) as bar:
        request = read_request(options, pipe, seed, bar.update)
        output = compose(pipe, request, form)
    elapsed = time.perf_counter() - start
    wave, rate = output.audios[0], pipe.vocoder.config.sampling_rate
    write(options.output, wave, rate, float32=options.float32)
    seconds = len(wave) / rate
    print(f"{options.output}: {seconds:g} s at {rate} Hz, seed {seed + int(output.order[0, 0])}")
    print(f"{elapsed:.1f} s of work, real-time factor {elapsed / seconds:.2f} on {pipe.device}")
    if output.scores is not None:
        pairs = zip(output.order[0], output.scores[0], strict=True)
        print("candidates, best first: " + ", ".join(f"seed {seed + k} ({score:.3f})" for k, score in pairs))
    return 0
