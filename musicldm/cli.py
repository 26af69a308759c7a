"""The `musicldm` command. Nothing heavy is imported before a command has read its arguments."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for an error that was reported, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="musicldm: %(message)s")
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("musicldm: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"musicldm: error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="musicldm", description="Text to music by latent diffusion.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    generate = commands.add_parser(
        "generate",
        help="make a clip from a prompt",
        description="Make a clip from a prompt.",
    )
    generate.set_defaults(run=_generate)
    generate.add_argument("prompt", help="what it should sound like")
    generate.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".wav, .flac or .ogg"
    )
    generate.add_argument(
        "--float32", action="store_true", help="write a WAV of 32-bit floats, not 16-bit integers"
    )
    _add_model_options(generate)
    _add_sampling_options(generate, seed="a whole number that names the clip; default: a new one")
    _add_batch(commands)
    _add_report(commands)

    inspect = commands.add_parser(
        "inspect",
        help="say what a checkpoint holds",
        description="Say what a checkpoint holds: parts, sizes, hashes, head counts, what is ignored.",
    )
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("model", metavar="ID_OR_FOLDER", help="checkpoint in the hub's layout")
    inspect.add_argument("--revision", help="of a hub id")
    inspect.add_argument("--variant", help="read *.VARIANT.safetensors, such as fp16")
    inspect.add_argument("--no-hashes", action="store_true", help="leave the SHA-256 of the files out")
    return parser


def _add_batch(commands: Any) -> None:
    batch = commands.add_parser(
        "batch",
        help="make a clip from each row of a prompt file",
        description="Make a clip from each row of a prompt file. Run again, it goes on where it stopped. "
        "With torchrun --nproc-per-node N -m musicldm batch ..., N processes share the rows.",
    )
    batch.set_defaults(run=_batch)
    batch.add_argument(
        "prompts", type=Path, metavar="PROMPTS",
        help=".txt, a prompt a line; or .csv with a header, or .jsonl, with prompt and, for rows that "
        "differ, negative, seconds, steps, guidance, seed, id",
    )  # fmt: skip
    batch.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for clips and sidecars"
    )
    batch.add_argument("--batch-size", type=int, default=1, metavar="N",
                       help="rows made at once (default: %(default)s); changes no clip")  # fmt: skip
    batch.add_argument(
        "--format", choices=("wav", "flac", "ogg"), default="wav", help="of the clips (default: wav)"
    )
    batch.add_argument(
        "--float32", action="store_true", help="write WAVs of 32-bit floats, not 16-bit integers"
    )
    batch.add_argument("--keep-all", action="store_true", help="keep all candidates, not the best alone")
    batch.add_argument(
        "--overwrite", action="store_true", help="remove what other settings made in DIR; default: an error"
    )
    batch.add_argument("--columns", metavar="OURS=THEIRS,...",
                       help="read these columns alone, as in prompt=caption,id=ytid")  # fmt: skip
    batch.add_argument("--encoding", default="utf-8", help="of the prompt file (default: %(default)s)")
    batch.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    _add_model_options(batch)
    _add_sampling_options(batch, seed="a whole number that names the run's noise (default: 0)")


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="make a page to hear a batch on",
        description="Make one HTML file that plays each clip of a batch beside its prompt, its picture, "
        "its scores and its settings.",
    )
    report.set_defaults(run=_report)
    report.add_argument("folder", type=Path, metavar="DIR", help="what `musicldm batch` wrote")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page (default: DIR/report.html)"
    )
    report.add_argument(
        "--embed", action="store_true", help="put the sound into the page, so that it can be sent alone"
    )


def _add_model_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("model")
    group.add_argument("--model", default="ucsd-reach/musicldm", metavar="ID_OR_FOLDER",
                       help="checkpoint in the hub's layout (default: %(default)s)")  # fmt: skip
    group.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one"
    )
    group.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="precision of the networks (default: %(default)s)"
    )
    group.add_argument("--heads", choices=("as-config", "as-trained"), default="as-config",
                       help="of the U-Net: as its config says (default), or one per 32 channels")  # fmt: skip


def _add_sampling_options(command: argparse.ArgumentParser, *, seed: str) -> None:
    group = command.add_argument_group("sampling")
    group.add_argument("--seconds", type=float, help="length; default: that of the model's training clips")
    group.add_argument(
        "--steps", type=int, default=200, help="solver steps (default: %(default)s; 20 to 30 do for dpm++)"
    )
    group.add_argument(
        "--guidance",
        type=float,
        default=2.0,
        help="how strictly to follow the prompt (default: %(default)s; 1 is off)",
    )
    group.add_argument("--negative", metavar="PROMPT", help="what it should not sound like")
    group.add_argument("--seed", type=int, help=seed)
    group.add_argument("--scheduler", choices=SCHEDULERS, help="solver; default: the checkpoint's")
    group.add_argument(
        "--eta",
        type=float,
        default=0.0,
        help="share of ancestral noise, 0 to 1, for ddim (default: %(default)s)",
    )
    group.add_argument(
        "--candidates", type=int, default=1, metavar="N", help="make N clips, keep the best by CLAP"
    )


def _generate(options: argparse.Namespace) -> int:
    from .audio import check_suffix

    check_suffix(options.output, options.float32)
    if not options.output.parent.is_dir():
        raise ValueError(f"--output {options.output}: there is no folder {options.output.parent}")

    from tqdm import tqdm

    from .audio import write

    pipe = _load(options)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    total = len(pipe.scheduler.plan(options.steps))
    start = time.perf_counter()
    with tqdm(total=total, unit="step", leave=False, disable=not sys.stderr.isatty()) as bar:
        output = pipe(
            options.prompt,
            audio_length_in_s=options.seconds,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            negative_prompt=options.negative,
            num_waveforms_per_prompt=options.candidates,
            eta=options.eta,
            seed=seed,
            callback=lambda step, timestep, latents: bar.update(),
        )
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


def _batch(options: argparse.Namespace) -> int:
    from .batch.command import run_batch

    return run_batch(options, _load)


def _report(options: argparse.Namespace) -> int:
    from .batch.report import write_report

    path, clips = write_report(options.folder, options.output, embed=options.embed)
    print(f"{path}: {clips} clips, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from .inspection import inspect

    inspection = inspect(
        options.model, revision=options.revision, variant=options.variant, hashes=not options.no_hashes
    )
    print(inspection)
    return 1 if inspection.problems else 0


def _load(options: argparse.Namespace) -> Any:
    import torch

    from . import schedulers
    from .pipeline import MusicLDMPipeline

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = MusicLDMPipeline.from_pretrained(
        options.model,
        torch_dtype=getattr(torch, options.dtype),
        heads=None if options.heads == "as-config" else options.heads,
    ).to(device)
    if options.scheduler is not None:
        pipe.scheduler = getattr(schedulers, SCHEDULERS[options.scheduler]).from_config(pipe.scheduler)
    return pipe
