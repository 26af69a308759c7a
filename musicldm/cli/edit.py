"""`musicldm edit`: a sound file to another."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

from .options import add_model_options, add_sampling_options, add_speed_options, load_pipeline
from .prompts import add_prompt_options, read_request

__all__ = ["add", "run"]

VARIATIONS, STRENGTH = 4, 0.5  # of --vary, unless said otherwise


def add(commands: Any) -> None:
    """Add the command to the parser."""
    edit = commands.add_parser(
        "edit",
        help="change a clip, fill it in, or carry it on",
        description="Change a clip, fill parts of it in, or carry it on. Without a prompt, the clip's own "
        "sound is the prompt: the model was trained on such.",
    )
    edit.set_defaults(run=run)
    edit.add_argument("input", type=Path, metavar="IN", help="a sound file, of any rate, mono or not")
    edit.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                      help=".wav, .flac or .ogg; several variations are FILE-1, FILE-2, ...")  # fmt: skip
    edit.add_argument(
        "--float32", action="store_true", help="write a WAV of 32-bit floats, not 16-bit integers"
    )
    edit.add_argument("--prompt", help="what it should sound like; default: as it does")
    kinds = edit.add_argument_group("what to do, one of")
    kinds.add_argument("--strength", type=float, metavar="S",
                       help="make it anew, 0 (as it is) to 1 (ignoring it)")  # fmt: skip
    kinds.add_argument("--vary", type=int, nargs="?", const=VARIATIONS, metavar="N",
                       help=f"make N variations of it (default: {VARIATIONS}), of --strength "
                       f"(default: {STRENGTH})")  # fmt: skip
    kinds.add_argument("--inpaint", action="append", default=[], type=_span("seconds"), metavar="FROM-TO",
                       help="make these seconds anew, as in 2.5-4.0, 8- or -1.5; repeatable")  # fmt: skip
    kinds.add_argument("--band", action="append", default=[], type=_span("Hz"), metavar="LOW-HIGH",
                       help="make these frequencies anew, as in 4000-; with --inpaint, in those seconds; "
                       "repeatable")  # fmt: skip
    kinds.add_argument("--extend", type=float, metavar="SECONDS", help="carry it on for so long")
    kinds.add_argument("--before", type=float, metavar="SECONDS",
                       help="begin so long before it; goes with --extend")  # fmt: skip
    kinds.add_argument("--reprompt", nargs="?", const="", metavar="AS_IT_IS",
                       help="keep where things happen, change what they are: to noise under these words for "
                       "the clip (default: its own sound), back under --prompt")  # fmt: skip
    add_prompt_options(edit)
    add_model_options(edit)
    add_sampling_options(edit, seed="a whole number that names the result; default: a new one")
    add_speed_options(edit)


def run(options: argparse.Namespace) -> int:
    """Make the edit, write it, say what came out."""
    kind = _kind(options)
    outputs = _outputs(options)

    from tqdm import tqdm

    from musicldm import audio

    wave, rate = audio.read(options.input)
    audio.warn_if_silent(wave, str(options.input))
    pipe = load_pipeline(options)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tqdm(unit="step", leave=False, disable=not sys.stderr.isatty()) as bar:
        request = read_request(options, pipe, seed, bar.update)
        output = _EDITS[kind](pipe, wave, rate, request, options)
    made_rate = pipe.vocoder.config.sampling_rate
    for path, made, candidate in zip(outputs, output.audios, output.order[0], strict=False):
        audio.write(path, made, made_rate, float32=options.float32)
        print(f"{path}: {len(made) / made_rate:g} s at {made_rate} Hz, seed {seed + int(candidate)}")
    return 0


def _kind(options: argparse.Namespace) -> str:
    """Which edit the options ask for. Raises ValueError if it is not one."""
    asked = {
        "--vary": options.vary is not None,
        "--strength": options.strength is not None and options.vary is None,
        "--inpaint or --band": bool(options.inpaint or options.band),
        "--extend or --before": options.extend is not None or options.before is not None,
        "--reprompt": options.reprompt is not None,
    }
    kinds = [name for name, wanted in asked.items() if wanted]
    if len(kinds) != 1:
        raise ValueError(
            f"edit: got {' and '.join(kinds) or 'nothing to do'}, expected one of --strength, --vary, "
            "--inpaint or --band, --extend or --before, --reprompt"
        )
    if options.reprompt is not None and options.prompt is None:
        raise ValueError("edit: --reprompt leads from one prompt to another; say the other with --prompt")
    if options.vary is not None and options.candidates != 1:
        raise ValueError(
            "edit: got --candidates with --vary, whose variations are the candidates; give N to it"
        )
    return kinds[0]


def _outputs(options: argparse.Namespace) -> list[Path]:
    """The files to write. Raises ValueError if they cannot be."""
    from musicldm.audio import check_suffix

    path, count = options.output, 1 if options.vary is None else options.vary
    if count < 1:
        raise ValueError(f"--vary: got {count}, expected 1 or more")
    check_suffix(path, options.float32)
    if not path.parent.is_dir():
        raise ValueError(f"--output {path}: there is no folder {path.parent}")
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{k + 1}") for k in range(count)]


def _strength(pipe: Any, wave: Any, rate: int, request: Any, options: argparse.Namespace) -> Any:
    from musicldm.editing import audio_to_audio

    return audio_to_audio(pipe, wave, rate, request, strength=options.strength)


def _vary(pipe: Any, wave: Any, rate: int, request: Any, options: argparse.Namespace) -> Any:
    from musicldm.editing import vary

    strength = STRENGTH if options.strength is None else options.strength
    return vary(pipe, wave, rate, request, count=options.vary, strength=strength)


def _inpaint(pipe: Any, wave: Any, rate: int, request: Any, options: argparse.Namespace) -> Any:
    from musicldm.editing import Region, inpaint

    regions = [
        Region(start=start, end=end, low=low, high=high)
        for start, end in options.inpaint or [(0.0, None)]
        for low, high in options.band or [(0.0, None)]
    ]
    return inpaint(pipe, wave, rate, request, regions=regions)


def _extend(pipe: Any, wave: Any, rate: int, request: Any, options: argparse.Namespace) -> Any:
    from musicldm.editing import extend

    before, after = options.before or 0.0, options.extend or 0.0
    return extend(pipe, wave, rate, request, after=after, before=before)


def _reprompt(pipe: Any, wave: Any, rate: int, request: Any, options: argparse.Namespace) -> Any:
    from musicldm.editing import reprompt

    return reprompt(pipe, wave, rate, request, source_prompt=options.reprompt or None)


_EDITS = {
    "--strength": _strength,
    "--vary": _vary,
    "--inpaint or --band": _inpaint,
    "--extend or --before": _extend,
    "--reprompt": _reprompt,
}


def _span(unit: str) -> Any:
    """A reader of FROM-TO, FROM- and -TO."""

    def read(text: str) -> tuple[float, float | None]:
        low, dash, high = text.partition("-")
        try:
            if not dash or not (low or high):
                raise ValueError
            return float(low or 0), float(high) if high else None
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"got {text!r}, expected {unit} as FROM-TO, FROM- or -TO"
            ) from None

    return read
