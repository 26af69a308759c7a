"""Error of each solver against the number of model evaluations: a table (JSON) and a picture (PNG).

The problem needs no weights: data is a mixture of Gaussians, so the noise prediction is known exactly, and
the error is the solver's alone. The solution is 4,000 steps of Heun's method, even in log sigma. The error is
the median over samples, because the few that start between two components may end in either. The last
step, down to no noise, is a single Euler step for most solvers: it makes the slopes on the left and the floor
on the right.

    python benchmarks/solver_error.py [--steps 4,5,7,10,14,20,30,50,70,100,150,200] [--samples 256]

Writes results/solver_error.json and .png. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import results, save
from torch import Tensor

from musicldm.sampling import iterate
from musicldm.schedulers import (
    DDIM,
    LMS,
    PNDM,
    DPMSolver,
    DPMSolverSinglestep,
    Euler,
    Heun,
    Scheduler,
    UniPC,
)

STEPS = (4, 5, 7, 10, 14, 20, 30, 50, 70, 100, 150, 200)
COMPONENTS = 4
SPREAD = 0.5  # of a component; their centres have a spread of about 1, as latents do
SHAPE = (1, 4, 4)  # c, t, f
SEED = 0

# Both start at the noisiest timestep, at every number of steps.
TRAILING = {"timestep_spacing": "trailing"}
KARRAS = {"timestep_spacing": "linspace", "use_karras_sigmas": True}
PANELS: dict[str, dict[str, Scheduler]] = {
    "timestep_spacing trailing": {
        "DDIM": DDIM(**TRAILING, set_alpha_to_one=True),
        "Euler": Euler(**TRAILING),
        "Heun": Heun(**TRAILING),
        "LMS": LMS(**TRAILING),
        "PNDM": PNDM(**TRAILING, set_alpha_to_one=True),
        "PNDM, skip_prk": PNDM(**TRAILING, set_alpha_to_one=True, skip_prk_steps=True),
        "DPM++ 2M": DPMSolver(**TRAILING),
        "DPM++ 3M": DPMSolver(**TRAILING, solver_order=3),
        "UniPC 2": UniPC(**TRAILING),
        "UniPC 3": UniPC(**TRAILING, solver_order=3),
    },
    "use_karras_sigmas": {
        "Euler": Euler(**KARRAS),
        "Heun": Heun(**KARRAS),
        "LMS": LMS(**KARRAS),
        "DPM++ 2M": DPMSolver(**KARRAS),
        "DPM++ 3M": DPMSolver(**KARRAS, solver_order=3),
        "DPM++ 2S": DPMSolverSinglestep(use_karras_sigmas=True),
        "UniPC 2": UniPC(**KARRAS),
        "UniPC 3": UniPC(**KARRAS, solver_order=3),
    },
}
NAMES = list(dict.fromkeys(name for solvers in PANELS.values() for name in solvers))
DASHED = ("Euler", "UniPC 3")  # lie on another line for much of the way


class Mixture:
    """Noise prediction for a mixture of equal Gaussians, at the noise levels of a plan."""

    def __init__(self, levels: list[float], centres: Tensor) -> None:
        self.levels = iter(levels)
        self.centres = centres

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        """x: (b, c, t, f) -> (b, c, t, f) noise."""
        ratio = next(self.levels)
        alpha = 1 / (1 + ratio**2) ** 0.5
        sigma = ratio * alpha
        variance = alpha**2 * SPREAD**2 + sigma**2
        away = x[:, None] - alpha * self.centres  # b m c t f
        weight = (-away.flatten(2).square().sum(2) / (2 * variance)).softmax(1)
        return sigma / variance * (weight[:, :, None, None, None] * away).sum(1)


def solve(solver: Scheduler, steps: int, noise: Tensor, centres: Tensor) -> tuple[Tensor, int]:
    """noise: (b, c, t, f) -> (b, c, t, f) sample, number of evaluations."""
    plan = solver.plan(steps)
    levels = (-plan.table[:, -1, -1]).tolist()  # x0 = ... - sigma / alpha * model output
    if plan.init_scale != 1:  # start all solvers from the same point of the trajectory
        noise = noise * (1 + levels[0] ** 2) ** 0.5 / plan.init_scale
    *_, last = iterate(Mixture(levels, centres), plan, noise)
    return last.x, len(plan)


def solution(noise: Tensor, centres: Tensor) -> Tensor:
    """noise: (b, c, t, f) at timestep 999 -> (b, c, t, f), the end of the exact trajectory."""
    top = float((1 / DDIM().noise_schedule.alphas_cumprod[-1] - 1).sqrt())
    levels = [top * (1e-4 / top) ** (k / 4000) for k in range(4001)]
    x = noise * (1 + top**2) ** 0.5  # x0 + sigma eps
    for now, then in zip(levels, [*levels[1:], 0.0], strict=True):

        def slope(point: Tensor, level: float) -> Tensor:
            return Mixture([level], centres)(point / (1 + level**2) ** 0.5, torch.zeros(()))

        first = slope(x, now)
        ahead = x + (then - now) * first
        x = ahead if then == 0 else x + (then - now) / 2 * (first + slope(ahead, then))
    return x


def measure(counts: Sequence[int], samples: int) -> list[dict[str, object]]:
    """One row per solver and number of steps: evaluations, error."""
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(samples, *SHAPE, generator=generator, dtype=torch.float64)
    centres = torch.randn(COMPONENTS, *SHAPE, generator=generator, dtype=torch.float64)
    exact = solution(noise, centres)
    rows: list[dict[str, object]] = []
    for panel, solvers in PANELS.items():
        for name, solver in solvers.items():
            for steps in counts:
                got, evaluations = solve(solver, steps, noise, centres)
                error = float((got - exact).flatten(1).square().mean(1).sqrt().median())
                rows.append(
                    {
                        "levels": panel,
                        "solver": name,
                        "steps": steps,
                        "evaluations": evaluations,
                        "error": error,
                    }
                )
    return rows


def draw(rows: list[dict[str, object]], samples: int, path: Path) -> None:
    """rows: of `measure`. Error against evaluations, both logarithmic, one labelled line per solver."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, len(PANELS), figsize=(13, 5.6), sharey=True, constrained_layout=True)
    colours = (*plt.get_cmap("tab10").colors, (0.1, 0.1, 0.4))
    for axes, panel in zip(both, PANELS, strict=True):
        ends = []
        for name in PANELS[panel]:
            points = [
                (row["evaluations"], row["error"])
                for row in rows
                if (row["levels"], row["solver"]) == (panel, name)
            ]
            style, colour = "--" if name in DASHED else "-", colours[NAMES.index(name)]
            axes.loglog(
                *zip(*points, strict=True), style, marker="o", markersize=3.5, linewidth=1.5, color=colour
            )
            ends.append((math.log10(points[-1][1]), points[-1], name, colour))
        _label(axes, sorted(ends, key=lambda end: end[0]))
        axes.set_xticks([5, 10, 20, 50, 100, 200, 400], labels=["5", "10", "20", "50", "100", "200", "400"])
        axes.minorticks_off()
        axes.set_xlabel("model evaluations")
        axes.set_title(panel, fontsize=10.5)
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel(f"error of a sample (root mean square, median of {samples})")
    figure.suptitle(
        "Distance to the exact solution: Gaussian-mixture data of unit scale, exact noise prediction, "
        "MusicLDM's noise schedule", fontsize=11.5
    )  # fmt: skip
    figure.savefig(path, dpi=130)


def _label(axes: Any, ends: list[tuple[float, tuple[float, float], str, Any]]) -> None:
    """Names at the ends of the lines, lowest first, pushed apart where they would overlap."""
    gap = 0.26  # decades: the height of a line of text
    places = [end[0] for end in ends]
    for _ in range(300):
        for k in range(1, len(places)):
            overlap = gap - (places[k] - places[k - 1])
            if overlap > 0:
                places[k - 1] -= overlap / 2
                places[k] += overlap / 2
    right = max(end[1][0] for end in ends) * 1.3
    for place, (_, point, name, colour) in zip(places, ends, strict=True):
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6}
        axes.annotate(
            name, point, xytext=(right, 10**place), color=colour, va="center", fontsize=9, arrowprops=arrow
        )
    axes.set_xlim(right=right * 3)


def main() -> None:
    """Measure, write solver_error.json and solver_error.png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="separated by commas")
    parser.add_argument("--samples", type=int, default=256)
    options = parser.parse_args()
    rows = measure([int(steps) for steps in options.steps.split(",")], options.samples)
    save("solver_error", rows, dtype="float64", seed=SEED, samples=options.samples)
    draw(rows, options.samples, results() / "solver_error.png")


if __name__ == "__main__":
    main()
