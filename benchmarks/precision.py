"""What float16, bfloat16 and the approximations cost in accuracy: network by network, then in the sound.

    python benchmarks/precision.py [--folder DIR] [--seconds 2.56] [--steps 20]

networks: each alone, on one input, against exact float32: relative error of the output; the largest magnitude
that leaves any of its layers, and that over the type's largest finite number (what is inside an operation, as
q k in attention, is not seen); whether anything came out not finite.
clips: the same noise through DPM-Solver++ (2M): difference of the latents (root mean square, relative), and
log-spectral distance of the audio in dB, with bfloat16 in one network at a time and in all; then both
approximations in float32. All in eager mode, and on a clip of 2.56 s unless told otherwise.

The weights matter more here than for speed: with random ones, magnitudes are those of random ones.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from harness import relative, save_speed, spectral_distance
from published import make
from torch import Tensor, nn
from workload import DEVICE, DTYPES, MODULES, calls, exact_float32, load, networks, noise

from musicldm import MusicLDMPipeline

PROMPT = "melodic techno with a fast beat and synths"
APPROXIMATIONS: dict[str, dict[str, Any]] = {
    "guidance interval 200-800": {"guidance_interval": (200, 800)},
    "feature reuse 2": {"feature_reuse": 2},
    "feature reuse 3": {"feature_reuse": 3},
    "guidance interval 200-800, feature reuse 3": {"guidance_interval": (200, 800), "feature_reuse": 3},
}


class Watch:
    """The largest magnitude that leaves any layer of a network, and the first layer that is not finite."""

    def __init__(self, network: nn.Module) -> None:
        self.largest, self.where, self.not_finite = 0.0, "", ""
        self.hooks = [
            module.register_forward_hook(lambda _, __, output, name=name: self.see(name, output))
            for name, module in network.named_modules()
        ]

    def see(self, name: str, output: Any) -> None:
        """One layer's output; a stage's may be a tuple, whose parts were seen already."""
        if not isinstance(output, Tensor):
            return
        if not torch.isfinite(output).all():
            self.not_finite = self.not_finite or name or "the whole"
            return
        magnitude = float(output.detach().abs().max())
        if magnitude > self.largest:
            self.largest, self.where = magnitude, name or "the whole"

    def done(self) -> None:
        """No more."""
        for hook in self.hooks:
            hook.remove()


def tf32(allowed: bool) -> None:
    """On a GPU; on a CPU it changes nothing."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def each_network(pipe: MusicLDMPipeline, seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of every network in every precision. The pipeline's networks stay float32."""
    rows: list[dict[str, Any]] = []
    names = ["float32", "bfloat16", "float16", *(["float32 with TF32"] if DEVICE == "cuda" else [])]
    expected: dict[str, Tensor] = {}
    for name in names:
        dtype = DTYPES[name.split()[0]]
        other = pipe if dtype == torch.float32 else halved(pipe, dtype, MODULES)
        tf32(name.endswith("TF32"))
        for what, function in calls(other, dtype, seconds).items():
            watch = Watch(networks(other)[what])
            with torch.no_grad():
                output = function().float()
            watch.done()
            expected.setdefault(what, output)
            top = torch.finfo(dtype).max
            finite = bool(torch.isfinite(output).all())
            row = {
                "what": what, "dtype": name, "difference": relative(output, expected[what]) if finite else None,
                "largest": watch.largest, "where": watch.where, "largest_over_max": watch.largest / top,
                "float32_largest_over_max": next(
                    (each["largest"] for each in rows if each["what"] == what), watch.largest) / top,
                "first_not_finite": watch.not_finite or None,
            }  # fmt: skip
            rows.append(row)
            yield row
    tf32(False)


def halved(pipe: MusicLDMPipeline, dtype: torch.dtype, which: tuple[str, ...]) -> MusicLDMPipeline:
    """The same pipeline with some networks (of `MODULES`) in another precision, copied."""
    parts = dict(zip(MODULES, ("unet", "vae", "vocoder"), strict=True))
    changed = {parts[what]: copy.deepcopy(pipe.components[parts[what]]).to(dtype) for what in which}
    return MusicLDMPipeline(**{**pipe.components, **changed})


def clips(pipe: MusicLDMPipeline, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of whole clips, against exact float32 from the same noise."""
    half = halved(pipe, torch.bfloat16, MODULES)
    start = noise(pipe, options.seconds)

    def latents(who: MusicLDMPipeline, **extra: Any) -> Tensor:
        made = who(
            PROMPT, options.seconds, options.steps, latents=start.clone(), output_type="latent", **extra
        )
        return torch.as_tensor(made.audios)

    def wave(who: MusicLDMPipeline, made: Tensor) -> Tensor:
        with torch.no_grad():
            return who.decode(made.to(who.device))

    def mixed(*which: str) -> MusicLDMPipeline:
        changed = {name: getattr(half, name) for name in which}
        return MusicLDMPipeline(**{**pipe.components, **changed})

    exact = latents(pipe)
    clip, rounded = wave(pipe, exact), latents(half)
    made = {
        "U-Net bfloat16": (rounded, lambda: wave(pipe, rounded)),
        "VAE bfloat16": (exact, lambda: wave(mixed("vae"), exact)),
        "vocoder bfloat16": (exact, lambda: wave(mixed("vocoder"), exact)),
        "all bfloat16": (rounded, lambda: wave(half, rounded)),
    }
    about = {"steps": options.steps, "seconds_of_audio": options.seconds}
    for name, (got, decode) in made.items():
        yield {**compared(name, got, decode(), exact, clip), **about}
    for name, extra in APPROXIMATIONS.items():
        got = latents(pipe, **extra)
        yield {**compared(f"float32, {name}", got, wave(pipe, got), exact, clip), **about}


def compared(name: str, got: Tensor, sound: Tensor, exact: Tensor, clip: Tensor) -> dict[str, Any]:
    """One row."""
    return {
        "clip": name,
        "latents_difference": relative(got, exact),
        "spectral_distance_db": spectral_distance(sound, clip),
    }


def main() -> None:
    """Every row is saved as it is made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="a checkpoint; default: one of the published size is made"
    )
    parser.add_argument("--seconds", type=float, default=2.56, help="of audio")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    exact_float32()
    with tempfile.TemporaryDirectory() as temporary:
        pipe = load(make(options.folder or Path(temporary)))
        rows = []
        for row in chain(each_network(pipe, options.seconds), clips(pipe, options)):
            print(row, flush=True)
            rows.append(row)
            save_speed("precision", rows, seconds_of_audio=options.seconds)


if __name__ == "__main__":
    main()
