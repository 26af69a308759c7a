"""What the commands have in common: which model, how to sample, and loading by those options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = [
    "add_form_options",
    "add_length_option",
    "add_model_options",
    "add_sampling_options",
    "add_speed_options",
    "file_and_number",
    "load_pipeline",
    "read_form",
]

SCHEDULERS = {  # name on the command line -> class in `schedulers`
    "ddim": "DDIM",
    "dpm++": "DPMSolver",
    "dpm++-singlestep": "DPMSolverSinglestep",
    "euler": "Euler",
    "euler-ancestral": "EulerAncestral",
    "heun": "Heun",
    "lms": "LMS",
    "pndm": "PNDM",
    "unipc": "UniPC",
}
DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(command: argparse.ArgumentParser) -> None:
    """--model, --device, --dtype, --heads, --lora."""
    group = command.add_argument_group("model")
    group.add_argument("--model", default="demo", metavar="ID_OR_FOLDER",
                       help="checkpoint in the hub's layout; ucsd-reach/musicldm: the published weights, "
                       "2 GB (default: %(default)s, the small model of this package)")  # fmt: skip
    group.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one"
    )
    group.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="precision of the networks (default: %(default)s)"
    )
    group.add_argument("--heads", choices=("as-config", "as-trained"), default="as-config",
                       help="of the U-Net: as its config says (default), or one per 32 channels")  # fmt: skip
    group.add_argument("--lora", type=file_and_number, action="append", default=[], metavar="FILE[:SCALE]",
                       help="adapter for the U-Net, SCALE times as strong (default: 1); "
                       "repeatable")  # fmt: skip


def add_sampling_options(command: argparse.ArgumentParser, *, seed: str) -> None:
    """--steps, --guidance, --negative, --seed, --scheduler, --eta, --candidates."""
    group = command.add_argument_group("sampling")
    group.add_argument(
        "--steps", type=int, default=30, help="solver steps (default: %(default)s; ddim needs 100 to 200)"
    )
    group.add_argument(
        "--guidance",
        type=float,
        help="how strictly to follow the prompt; 1 is off (default: 2, with the demo model 4)",
    )
    group.add_argument("--negative", metavar="PROMPT", help="what it should not sound like")
    group.add_argument("--seed", type=int, help=seed)
    group.add_argument("--scheduler", choices=("as-config", *SCHEDULERS), default="dpm++",
                       help="solver; as-config: the checkpoint's own (default: %(default)s)")  # fmt: skip
    group.add_argument(
        "--eta",
        type=float,
        default=0.0,
        help="share of ancestral noise, 0 to 1, for ddim (default: %(default)s)",
    )
    group.add_argument(
        "--candidates", type=int, default=1, metavar="N", help="make N clips, keep the best by CLAP"
    )


def add_length_option(command: argparse.ArgumentParser) -> None:
    """--seconds."""
    command.add_argument("--seconds", type=float, help="length; default: that of the model's training clips")


def add_form_options(command: argparse.ArgumentParser) -> None:
    """--timeline, --loop, --window, --transition."""
    group = command.add_argument_group("long clips")
    group.add_argument("--timeline", type=Path, metavar="FILE", help="prompts along time, in place of a "
                       "prompt: lines such as '0:30 techno, 120 bpm', the first at 0")  # fmt: skip
    group.add_argument("--loop", action="store_true", help="let the end lead into the beginning")
    group.add_argument("--window", type=float, metavar="SECONDS", help="make a longer clip in overlapping "
                       "windows of this length (default: that of the model's training clips); as long as the "
                       "clip, the network runs on the whole")  # fmt: skip
    group.add_argument("--transition", type=float, default=4.0, metavar="SECONDS",
                       help="from one prompt of the timeline to the next (default: %(default)s)")  # fmt: skip


def read_form(options: argparse.Namespace) -> Any:
    """The `Form` that `add_form_options` and `--seconds` describe. Raises ValueError, OSError."""
    from musicldm.editing.long_form import Form
    from musicldm.editing.timeline import read

    return Form(
        seconds=options.seconds,
        timeline=None if options.timeline is None else read(options.timeline),
        loop=options.loop,
        window=options.window,
        transition=options.transition,
    )


def file_and_number(text: str) -> tuple[Path, float]:
    """FILE, with the number 1, or FILE:NUMBER. A colon that no number follows belongs to the file's name."""
    name, colon, scale = text.rpartition(":")
    try:
        return (Path(name), float(scale)) if colon else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0


def add_speed_options(command: argparse.ArgumentParser) -> None:
    """--compile, and the approximations --guidance-interval and --feature-reuse."""
    group = command.add_argument_group("speed")
    group.add_argument(
        "--compile", action="store_true", help="compile the networks first: minutes once, for many clips"
    )
    group.add_argument("--guidance-interval", type=_interval, metavar="LOW-HIGH",
                       help="guide between these timesteps only (0 clean, 999 noise), as in 200-800: faster, "
                       "another clip; default: everywhere")  # fmt: skip
    group.add_argument("--feature-reuse", type=int, default=1, metavar="N",
                       help="compute the deep levels of the network at every N-th step only: faster, "
                       "another clip; default: at every step")  # fmt: skip


def _interval(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    if not dash:
        raise ValueError(f"{text}: expected LOW-HIGH")
    return float(low), float(high)


def load_pipeline(options: argparse.Namespace) -> Any:
    """The pipeline that `add_model_options` and `--scheduler` describe, on its device."""
    import torch

    from musicldm import schedulers
    from musicldm.hub import DEMO, PUBLISHED
    from musicldm.pipeline import MusicLDMPipeline

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = MusicLDMPipeline.from_pretrained(
        options.model,
        torch_dtype=getattr(torch, options.dtype),
        heads=None if options.heads == "as-config" else options.heads,
    ).to(device)
    for file, scale in options.lora:
        pipe.load_lora(file, scale)
    if options.model == DEMO:
        print(
            f"the demo model, a small one; the published weights (2 GB): --model {PUBLISHED}", file=sys.stderr
        )
    if options.scheduler != "as-config":
        pipe.scheduler = getattr(schedulers, SCHEDULERS[options.scheduler]).from_config(pipe.scheduler)
    return pipe.compile() if options.compile else pipe
