"""The whole call in eager mode and as one CUDA graph: time from prompt to waveform, and what comes out.

    python benchmarks/bench_graph.py [--folder DIR] [--ways eager,graph] [--dtypes bfloat16] [--steps 20,200]

Ways to make the same clip from the same noise, which run in turn:
    eager                the pipeline's call
    graph                the prompt is embedded, then one replay of all steps, the VAE's decoder and the vocoder
    graph-channels-last  the same with U-Net and VAE in that layout
    graph-compiled       the same functions through torch.compile, recorded as one graph
    step-graph           one graph of one step, replayed for each step, and one graph of the decoders
    diffusers            the eager call of Diffusers 0.33.1 with the same weights, solver, noise and precision

Each row says how far the waveform is from that of eager in the same precision (relative, root mean square) and
from that of eager float32 (log-spectral distance). Recording, and compiling, are not in the times: prepare_s.
Without a CUDA device the functions that would be recorded are called as they are, and the row says so.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from harness import figures, in_turn, peak_mb, relative, save_speed, seconds, spectral_distance
from published import make
from torch import Tensor
from workload import DEVICE, DTYPES, SECONDS, exact_float32, load, noise

from musicldm import MusicLDMPipeline, Request, stages
from musicldm.compilation import Captured
from musicldm.sampling import Denoiser, Guided, denoise_step, sample
from musicldm.schedulers.plan import Row

PROMPT = "melodic techno with a fast beat and synths"
GUIDANCE = 2.0
WAYS = ("eager", "graph", "graph-channels-last", "graph-compiled", "step-graph", "diffusers")
Run = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # noise, cond, uncond, guidance scale -> waveform


def recorded(function: Callable[..., Any], *examples: Tensor) -> Callable[..., Any]:
    """The function as a CUDA graph; where there is no CUDA, the function."""
    return Captured(function, *examples) if DEVICE == "cuda" else torch.no_grad()(function)


def clip(pipe: MusicLDMPipeline, steps: int) -> Run:
    """The part of a call that a graph can hold: of tensors on the device, which reads nothing back."""
    plan = pipe.scheduler.plan(steps).to(pipe.device)

    def run(start: Tensor, cond: Tensor, uncond: Tensor, scale: Tensor) -> Tensor:
        denoiser = Guided(pipe.unet, cond, uncond, scale)
        return pipe.decode(sample(denoiser, plan, start, step=pipe.step_functions.plain))

    return run


def clip_by_steps(pipe: MusicLDMPipeline, steps: int, *examples: Tensor) -> Run:
    """The same with one recorded step, which serves all rows of the plan, and recorded decoders."""
    plan = pipe.scheduler.plan(steps).to(pipe.device)
    start, *conditions = examples

    def one(state: Tensor, extra: Tensor, cond: Tensor, uncond: Tensor, scale: Tensor, *row: Tensor) -> Any:
        return denoise_step(Guided(pipe.unet, cond, uncond, scale), state, Row(*row), extra)

    step = recorded(one, plan.start(start), start, *conditions, *next(plan.rows()))
    decode = recorded(pipe.decode, start)

    def run(start: Tensor, cond: Tensor, uncond: Tensor, scale: Tensor) -> Tensor:
        def stepped(_: Denoiser, state: Tensor, row: Row, extra: Tensor) -> tuple[Tensor, Tensor]:
            made: tuple[Tensor, Tensor] = step(state, extra, cond, uncond, scale, *row)
            return made

        denoiser = Guided(pipe.unet, cond, uncond, scale)
        return decode(sample(denoiser, plan, start, step=stepped))

    return run


class Call:
    """Prompt to waveform on the CPU, with a `Run` in place of sampling and decoding."""

    def __init__(self, pipe: MusicLDMPipeline, steps: int, length: float) -> None:
        request = Request(prompt=PROMPT, num_inference_steps=steps, guidance_scale=GUIDANCE, seed=0)
        self.pipe, self.job, self.start = pipe, stages.check(pipe, request), noise(pipe, length)
        self.samples = pipe.grid.samples(length)
        self.scale = torch.tensor(GUIDANCE, device=DEVICE)

    @torch.no_grad()
    def examples(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the run is given for the prompt."""
        conditions = stages.condition(self.job)
        assert conditions.uncond is not None
        return self.start, conditions.cond, conditions.uncond, self.scale

    @torch.no_grad()
    def __call__(self, run: Run) -> Tensor:
        """(b, s) on the CPU. Raises FloatingPointError if a network overflowed."""
        return stages.check_overflow(self.pipe, run(*self.examples())[:, : self.samples].float()).cpu()


def eager(pipe: MusicLDMPipeline, steps: int, length: float) -> Callable[[], Tensor]:
    """The pipeline's call."""
    start = noise(pipe, length)
    return lambda: torch.as_tensor(
        pipe(PROMPT, length, steps, guidance_scale=GUIDANCE, latents=start.clone()).audios
    )


def diffusers(
    folder: Path, pipe: MusicLDMPipeline, dtype: torch.dtype
) -> Callable[..., Callable[[], Tensor]]:
    """Diffusers' pipeline, loaded once; then steps, length -> its call."""
    from vs_diffusers import theirs

    other = theirs(folder, dtype)

    def of(steps: int, length: float) -> Callable[[], Tensor]:
        start = noise(pipe, length).to(dtype)
        call = {"audio_length_in_s": length, "num_inference_steps": steps, "guidance_scale": GUIDANCE}
        return lambda: torch.as_tensor(other(PROMPT, **call, latents=start.clone()).audios)

    return of


class Contest:
    """The ways of one precision: pipelines are loaded once, functions made anew for each number of steps."""

    def __init__(self, options: argparse.Namespace, dtype: str) -> None:
        self.options, self.dtype = options, DTYPES[dtype]
        self.pipe = load(options.folder, self.dtype)
        self.others: dict[str, Any] = {}

    def other(self, way: str) -> Any:
        """A pipeline of a way's own."""
        if way not in self.others:
            if way == "diffusers":
                self.others[way] = diffusers(self.options.folder, self.pipe, self.dtype)
            else:
                pipe = load(self.options.folder, self.dtype)
                channels_last = way == "graph-channels-last"
                self.others[way] = (
                    pipe.to(memory_format=torch.channels_last)
                    if channels_last
                    else pipe.compile(backend=self.options.backend)
                )
        return self.others[way]

    def make(self, way: str, steps: int) -> Callable[[], Tensor]:
        """A function without arguments that makes the clip that way."""
        length = self.options.seconds
        if way == "eager":
            return eager(self.pipe, steps, length)
        if way == "diffusers":
            made: Callable[[], Tensor] = self.other(way)(steps, length)
            return made
        pipe = self.pipe if way in ("graph", "step-graph") else self.other(way)
        call = Call(pipe, steps, length)
        examples = call.examples()
        if way == "step-graph":
            run: Run = clip_by_steps(pipe, steps, *examples)
        else:
            run = recorded(clip(pipe, steps), *examples)
        return lambda: call(run)


@dataclass
class Prepared:
    """A way that was tried once: its function and waveform, or an error; and what preparing it cost."""

    about: dict[str, Any]
    function: Callable[[], Tensor] | None = None
    wave: Tensor = field(default_factory=lambda: torch.zeros(0))


def attempt(contest: Contest, way: str, steps: int) -> Prepared:
    """Make the function and call it once, which compiles and records."""
    found = Prepared({})

    def prepare() -> None:
        function = contest.make(way, steps)
        found.wave = function()
        found.function = function

    try:
        found.about["prepare_s"] = round(seconds(prepare), 2)
    except Exception as error:  # one way that a machine cannot go must not cost the others
        print(f"{way}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        found.about["error"] = f"{type(error).__name__}: {error}"[:300]
    return found


def group(contest: Contest, steps: int, exact: Tensor) -> list[dict[str, Any]]:
    """The rows of one precision and number of steps. exact: the waveform of eager float32."""
    options = contest.options
    prepared = {way: attempt(contest, way, steps) for way in options.ways}
    functions = {way: each.function for way, each in prepared.items() if each.function is not None}
    times = in_turn(functions, options.rounds) if functions else {}
    rows = []
    for way, each in prepared.items():
        row: dict[str, Any] = {"what": "prompt to waveform", "way": way, "dtype": options.dtype,
                               "seconds_of_audio": options.seconds, "steps": steps, **each.about}  # fmt: skip
        if "graph" in way:
            row["recorded"] = DEVICE == "cuda" or "no: without CUDA the same functions are called as they are"
        if each.function is not None:
            row |= figures(times[way], times.get("eager"))
            row["real_time_factor"] = round(row["median_s"] / options.seconds, 5)
            row["spectral_distance_db"] = spectral_distance(each.wave, exact)
            if "eager" in times:
                row["difference"] = relative(each.wave, prepared["eager"].wave)
        rows.append({**row, "peak_mb": round(peak_mb())})
        print(rows[-1], flush=True)
    return rows


def release() -> None:
    """Give the memory of graphs back that nobody holds any more."""
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows; saved after each precision and number of steps."""
    rows: list[dict[str, Any]] = []
    oracle, exact = load(options.folder), dict[int, Tensor]()
    for dtype in options.dtypes:
        options.dtype = dtype
        contest = Contest(options, dtype)
        for steps in options.steps:
            if steps not in exact:
                exact[steps] = eager(oracle, steps, options.seconds)()
            rows += group(contest, steps, exact[steps])
            save_speed(options.name, rows, guidance=GUIDANCE)
            release()
        del contest
        release()
    return rows


def listed(parser: argparse.ArgumentParser, option: str, given: str, known: tuple[str, ...]) -> list[str]:
    """A list with commas, of known words."""
    words = given.split(",")
    if unknown := [word for word in words if word not in known]:
        parser.error(f"{option}: got {', '.join(unknown)}, expected some of {', '.join(known)}")
    return words


def main() -> int:
    """Exit status 1 if a way failed; the rest is measured and saved all the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folder", type=Path, help="a checkpoint; default: one of the published size is made")
    add("--ways", default="eager,graph", help="separated by commas (default: %(default)s)")
    add("--dtypes", default="bfloat16", help="separated by commas (default: %(default)s)")
    add("--steps", default="20,200", help="separated by commas, in that order (default: %(default)s)")
    add("--seconds", type=float, default=SECONDS, help="of audio")
    add("--rounds", type=int, default=5)
    add("--backend", default="inductor", help="torch.compile's; aot_eager to test this program")
    add("--cudnn-benchmark", action="store_true", help="let cuDNN try its convolutions: all ways get it")
    add("--name", default="bench_graph", help="of the JSON file")
    options = parser.parse_args()
    options.ways = listed(parser, "--ways", options.ways, WAYS)
    options.dtypes = listed(parser, "--dtypes", options.dtypes, tuple(DTYPES))
    options.steps = [int(word) for word in options.steps.split(",")]
    exact_float32()
    torch.backends.cudnn.benchmark = options.cudnn_benchmark
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = make(options.folder or Path(temporary))
        rows = measure(options)
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
