"""Time from prompt to waveform against the clip's length, the batch and the number of steps; JSON and a picture.

    python benchmarks/bench_pipeline.py [--folder DIR] [--compiled] [--dtype float32] [--rounds 1]

Steps and batch are fitted by a line, whose R^2 says how straight it is. So that a CPU is done within ten
minutes, the series of lengths and batches take few steps and those of batches and steps a short clip: the
axis titles say which. A guided step's own cost is a column. The floor is that of results/roofline.json, if it
is there: local operations grow with length and batch, attention with the length's square.

--compiled compiles each new length and batch, not in the times: minutes each on a CPU (--series steps has one).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from harness import figures, peak_mb, save_speed, seconds
from published import make
from workload import DTYPES, MODULES, exact_float32, load, noise

from musicldm import MusicLDMPipeline

PROMPT = "melodic techno with a fast beat and synths"
VARIED = {"length": "seconds_of_audio", "batch": "batch", "steps": "steps"}


def once(pipe: MusicLDMPipeline, length: float, batch: int, steps: int) -> tuple[float, float]:
    """Seconds from the prompts to latents, and from those to the waveform on the CPU."""
    made: dict[str, Any] = {}

    def sampling() -> None:
        made["latents"] = pipe(
            [PROMPT] * batch, length, steps, latents=noise(pipe, length, batch), output_type="latent"
        ).audios

    def decoding() -> None:
        with torch.no_grad():
            made["wave"] = pipe.decode(torch.as_tensor(made["latents"]).to(pipe.device)).float().cpu()

    spent = seconds(sampling), seconds(decoding)
    if not torch.isfinite(made["wave"]).all():
        raise FloatingPointError(f"{length} s, batch {batch}, {steps} steps: the waveform is not finite")
    return spent


def point(
    pipe: MusicLDMPipeline, series: str, values: tuple[float, int, int], options: Any
) -> dict[str, Any]:
    """One row: the medians of `rounds` runs, after others where the first would compile."""
    length, batch, steps = values
    warmup = 3 if options.compiled else int(torch.cuda.is_available())  # graphs: compiled, recorded, replayed
    for _ in range(warmup):
        once(pipe, length, batch, min(steps, 5))
    runs = [once(pipe, length, batch, steps) for _ in range(options.rounds)]
    totals = figures([sum(run) for run in runs])
    sampling = figures([run[0] for run in runs])["median_s"]
    return {
        "series": series, "seconds_of_audio": length, "batch": batch, "steps": steps, **totals,
        "sampling_s": sampling, "decoding_s": figures([run[1] for run in runs])["median_s"],
        "per_step_s": round(sampling / steps, 5),
        "real_time_factor": round(totals["median_s"] / length / batch, 4), "peak_mb": round(peak_mb()),
    }  # fmt: skip


def line(rows: list[dict[str, Any]], field: str) -> dict[str, Any]:
    """The straight line through a series' times: slope, intercept, R^2 (1 is straight)."""
    x, y = (np.array([row[name] for row in rows], dtype=float) for name in (field, "median_s"))
    slope, intercept = np.polyfit(x, y, 1)
    left, all_ = ((y - slope * x - intercept) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    fit = {"slope_s": slope, "intercept_s": intercept, "r_squared": 1 - left / all_ if all_ else 1.0}
    return {key: round(float(value), 5) for key, value in fit.items()}


def floor(roofline: list[dict[str, Any]], row: dict[str, Any], dtype: str) -> float | None:
    """Seconds that the operations of one run take at the measured ceilings; None if it was not measured."""
    rates = {
        each["ceiling"]: each["gflop_per_s"]
        for each in roofline
        if "gflop_per_s" in each and "ceiling" in each and each["dtype"] == dtype
    }
    networks = {each["what"]: each for each in roofline if "what" in each}
    if not {"matrix product", "convolution"} <= rates.keys() or set(networks) != set(MODULES):
        return None
    spent = 0.0
    for what, each in networks.items():
        longer = row["seconds_of_audio"] / each["seconds_of_audio"]
        gflop = each["gflop_by_kind"]
        local = gflop["convolution"] / rates["convolution"] + gflop["linear"] / rates["matrix product"]
        attention = gflop["attention"] / rates["matrix product"]
        calls = row["steps"] if what == MODULES[0] else 1
        spent += calls * row["batch"] * (local * longer + attention * longer**2)
    return round(spent, 6)


def draw(rows: list[dict[str, Any]], fits: dict[str, Any], about: str, path: Path) -> None:
    """Time against length, batch and steps, side by side, with the floor and the fitted lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [series for series in VARIED if any(row["series"] == series for row in rows)]
    figure, panels = plt.subplots(
        1, len(shown), figsize=(4.6 * len(shown), 4.2), squeeze=False, layout="constrained"
    )
    for axes, series in zip(panels[0], shown, strict=True):
        points = [row for row in rows if row["series"] == series]
        first, field = points[0], VARIED[series]
        x = [row[field] for row in points]
        axes.plot(x, [row["median_s"] for row in points], "o-", label="prompt to waveform")
        axes.plot(
            x, [row["decoding_s"] for row in points], "s--", markersize=4, label="of it VAE and vocoder"
        )
        if all(row["floor_s"] is not None for row in points):
            axes.plot(
                x, [row["floor_s"] for row in points], ":", color="black", label="floor of this machine"
            )
        if series in fits:
            axes.plot([], [], " ", label=f"straight line: R² = {fits[series]['r_squared']:.4f}")
        fixed = {
            "length": f"length of the clip in s ({first['steps']} steps, batch {first['batch']})",
            "batch": f"batch ({first['steps']} steps, clips of {first['seconds_of_audio']:g} s)",
            "steps": f"steps (one clip of {first['seconds_of_audio']:g} s)",
        }
        axes.set_xlabel(fixed[series])
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    panels[0][0].set_ylabel("seconds")
    figure.suptitle(about, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"wrote {path}")


def points_of(options: argparse.Namespace) -> list[tuple[str, tuple[float, int, int]]]:
    """(series, (length, batch, steps)) in the order in which they are measured."""
    few, clip = options.few_steps, options.clip
    every = {
        "length": [(length, 1, few) for length in options.lengths],
        "batch": [(clip, int(batch), few) for batch in options.batches],
        "steps": [(clip, 1, int(steps)) for steps in options.steps],
    }
    return [(series, values) for series in options.series for values in every[series]]


def numbers(text: str) -> list[float]:
    """Of a list with commas."""
    return [float(word) for word in text.split(",")]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folder", type=Path, help="a checkpoint; default: one of the published size is made")
    add("--compiled", action="store_true")
    add("--mode", help='torch.compile\'s; "reduce-overhead" for CUDA graphs')
    add("--backend", default="inductor", help="torch.compile's; aot_eager to test this program")
    add("--dtype", choices=list(DTYPES), default="float32")
    add("--series", default=",".join(VARIED), help="some of length,batch,steps")
    add("--lengths", type=numbers, default=[5, 10, 20, 40, 60], help="seconds")
    add("--batches", type=numbers, default=[1, 2, 4, 8])
    add("--steps", type=numbers, default=[5, 10, 20, 40])
    add("--few-steps", type=int, default=2, help="in the series of lengths and batches")
    add("--clip", type=float, default=5.0, help="seconds of the clips in the series of batches and steps")
    add("--rounds", type=int, default=1)
    add(
        "--name",
        default="bench_pipeline",
        help="of the JSON file; the picture is scaling.png, or scaling-NAME.png",
    )
    options = parser.parse_args()
    options.series = options.series.split(",")
    if not set(options.series) <= set(VARIED):
        parser.error(f"--series: got {', '.join(options.series)}, expected some of {', '.join(VARIED)}")
    return options


def main() -> None:
    """Measure, save after every point, then draw."""
    options = arguments()
    exact_float32()
    path = harness.speed_results() / "roofline.json"
    roofline = json.loads(path.read_text())["rows"] if path.is_file() else []
    dtype, how = DTYPES[options.dtype], "compiled" if options.compiled else "eager"
    rows: list[dict[str, Any]] = []
    fits: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        pipe = load(make(options.folder or Path(temporary)), dtype)
        if options.compiled:
            pipe.compile(mode=options.mode, backend=options.backend)
        else:
            once(pipe, pipe.grid.seconds(pipe.unet.config.sample_size // 4), 1, 1)  # the machine wakes up
        for series, values in points_of(options):
            row = point(pipe, series, values, options)
            row["floor_s"] = floor(roofline, row, options.dtype)
            rows.append(row)
            print(row, flush=True)
            same = [each for each in rows if each["series"] == series]
            if series != "length" and len(same) > 2:
                fits[series] = line(same, VARIED[series])
            save_speed(options.name, rows, how=how, dtype=options.dtype, fits=fits)
    print(fits)
    picture = "scaling" if options.name == "bench_pipeline" else f"scaling-{options.name}"
    about = (
        f"MusicLDM, {how} {options.dtype}, {harness.machine()['gpu'] or harness.processor().split(' (')[0]}"
    )
    try:
        draw(rows, fits, about, harness.speed_results() / f"{picture}.png")
    except ModuleNotFoundError as error:  # a GPU machine need not have matplotlib: the JSON is what matters
        print(f"no picture: {error}")


if __name__ == "__main__":
    main()
