"""What the benchmarks share: interleaved timings, memory, spectra, the machine's name, rows of JSON.

Machines are noisy. Contestants therefore run in turn, A B C A B C, and what is reported is the median of each
and the median of the ratios of one round.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TRACKED = Path(__file__).parent / "results"
VECTOR_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # the ones that decide speed, the last the most


def seconds(function: Callable[[], Any]) -> float:
    """Wall clock of one call, with the GPU's queue empty before and after."""
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(
    contestants: dict[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of every contestant in every round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.no_grad():
        for k in range(warmup + rounds):
            for name, function in contestants.items():
                spent = seconds(function)
                if k >= warmup:
                    times[name].append(spent)
    return times


def figures(times: list[float], base: list[float] | None = None) -> dict[str, Any]:
    """Median and extremes in seconds; with `base`, the median of the ratios round by round."""
    row: dict[str, Any] = {
        "median_s": round(statistics.median(times), 5),
        "min_s": round(min(times), 5),
        "max_s": round(max(times), 5),
        "rounds": len(times),
    }
    if base is not None:
        row["ratio"] = round(statistics.median(a / b for a, b in zip(times, base, strict=True)), 4)
    return row


def peak_mb() -> float:
    """This process's highest resident memory so far, in MB of 10^6 bytes; on a GPU, torch's highest allocation."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def relative(got: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of the expected."""
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def spectral_distance(got: Tensor, expected: Tensor) -> float:
    """Log-spectral distance of two waves (b, s) in dB: root mean square over bins, mean over frames.

    Magnitudes of an STFT of 1024 samples every 160, floored 80 dB below the expected's loudest bin.
    """
    window = torch.hann_window(1024)
    spectra = [
        torch.stft(wave.float().cpu(), 1024, 160, window=window, return_complex=True).abs()
        for wave in (got, expected)
    ]
    floor = spectra[1].max() * 1e-4
    a, b = (20 * torch.log10(spectrum.clamp(min=floor)) for spectrum in spectra)
    return float((a - b).square().mean(dim=1).sqrt().mean())


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    installed = {found.metadata["Name"]: found.version for found in distributions()}
    names = ("torch", "transformers", "diffusers", "musicldm")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "system": platform.system(),
        "date": date.today().isoformat(),
        **{name: installed[name] for name in names if name in installed},
    }


def processor() -> str:
    """Its name and the vector units that decide bfloat16's speed."""
    try:
        lines = dict(
            line.split(":", 1)
            for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
            if ":" in line
        )
    except OSError:
        return platform.processor()
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    units = [unit for unit in VECTOR_UNITS if unit in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.processor())} ({', '.join(units)})"


def command_line() -> str:
    """This run's command without folders: where somebody's files lay says nothing."""
    script, *words = sys.argv
    if "--folder" in words:
        at = words.index("--folder")
        del words[at : at + 2]
    named = [Path(word).name if Path(word).is_absolute() else word for word in words]
    return " ".join(["benchmarks/" + Path(script).name, *named])


def results() -> Path:
    """Where figures go: the folder that MUSICLDM_RESULTS names, or benchmarks/results."""
    return Path(os.environ.get("MUSICLDM_RESULTS") or TRACKED)


def speed_results() -> Path:
    """Where figures of this machine's speed and memory go: a folder of its own in benchmarks/results."""
    return results() if os.environ.get("MUSICLDM_RESULTS") else TRACKED / machine_folder(machine())


def machine_folder(about: Mapping[str, Any]) -> str:
    """A folder's name for a `machine()`: its GPU, or its processor and the last of its `VECTOR_UNITS`."""
    name = about["gpu"] or re.sub(r" \((?:[^()]*, )?([^(),]*)\)$", r" \1", about["processor"])
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|processor|cpu", "", name.lower())).strip("-")


def save(name: str, rows: list[dict[str, Any]], **about: Any) -> Path:
    """Write NAME.json into `results`: figures that hang on the model, not on the machine. See `write`."""
    return write(results() / f"{name}.json", rows, **about)


def save_speed(name: str, rows: list[dict[str, Any]], **about: Any) -> Path:
    """Write NAME.json into `speed_results`: figures that hang on the machine. See `write`."""
    return write(speed_results() / f"{name}.json", rows, **about)


def write(path: Path, rows: list[dict[str, Any]], **about: Any) -> Path:
    """Write a JSON file with the machine, the command, its own facts and the rows; an old file is replaced.

    Raises ValueError if a figure is NaN or infinite: it would not be a number that anybody can read again.
    """
    made = {"machine": machine(), "command": command_line(), **about, "rows": rows}
    text = json.dumps(made, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)  # whole or not at all: a time limit may end a program at any moment
    print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path
