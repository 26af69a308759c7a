"""What the benchmarks share: interleaved timings, memory, spectra, the machine's name, rows of JSON.

Machines are noisy. Contestants therefore run in turn, A B C A B C, and what is reported is the median of each
and the median of the ratios of one round.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RESULTS = Path(
    os.environ.get("MUSICLDM_RESULTS") or Path(__file__).parent / "results"
)  # run_gpu.sh: elsewhere


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
    units = [
        unit
        for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if unit in fields.get("flags", "").split()
    ]
    return f"{fields.get('model name', platform.processor())} ({', '.join(units)})"


def command_line() -> str:
    """This run's command without folders: where somebody's files lay says nothing."""
    script, *words = sys.argv
    if "--folder" in words:
        at = words.index("--folder")
        del words[at : at + 2]
    named = [Path(word).name if Path(word).is_absolute() else word for word in words]
    return " ".join(["benchmarks/" + Path(script).name, *named])


def save(name: str, rows: list[dict[str, Any]], **about: Any) -> Path:
    """Write results/NAME.json: the machine, the command's own facts, and the rows; the old file is replaced."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")  # whoever is stopped, or copies, finds a whole file
    partial.write_text(json.dumps({"machine": machine(), **about, "rows": rows}, indent=1) + "\n")
    partial.replace(path)
    print(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path
