"""How far each network is from what this machine can do.

First the ceilings: the best of matrix products and 3x3 convolutions of the networks' sizes, in several
layouts and precisions, and the bandwidth of a large copy. Then each network at 10.24 s in eager mode: floating-
point operations as executed, the time, the profiler's time by kind of operation, and the floor, which is the
time that the same operations take at the ceilings. Linear layers and attention are held against the best
matrix product, convolutions against the best convolution; and no call is faster than reading its weights.

    python benchmarks/roofline.py [--folder DIR] [--dtype float32] [--seconds 10.24] [--rounds 5] [--quick]

--quick: small ceilings, for a test of this program; the figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import in_turn, save_speed, seconds, synchronize
from published import make
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from workload import DEVICE, DTYPES, KINDS, MODULES, SECONDS, calls, count, exact_float32, load, networks

ON_GPU = DEVICE == "cuda"
# counted before on Diffusers' layers, 10.24 s; torch's counter leaves attention on a CPU out, so the U-Net's is
# without it (convolution and linear come to 183.0 here)
PUBLISHED_GFLOP = dict(zip(MODULES, (183, 636, 1027), strict=True))
MATRICES = [(2048, 256, 2048), (2048, 1024, 256), (512, 384, 3072), (2048, 2048, 2048)]  # m, k, n
CONVOLUTIONS = [(2, 128, 256, 16), (2, 256, 128, 8), (1, 128, 1024, 64), (1, 256, 512, 32)]  # b, c, t, f
if ON_GPU:
    MATRICES += [(8192, 8192, 8192), (16384, 4096, 4096)]
    CONVOLUTIONS += [(16, 512, 128, 64), (32, 256, 256, 64)]
LEAST = 0.1 if ON_GPU else 0.4  # seconds to try each contestant of a ceiling; --quick: three calls

OPERATIONS = (  # the first whose word is in the operator's name
    ("convolution", ("conv",)),
    ("attention", ("attention", "bmm", "softmax")),
    ("linear", ("addmm", "aten::mm", "linear", "matmul")),
    ("norm, activation, elementwise", ("norm", "silu", "gelu", "relu", "tanh", "aten::add", "aten::mul",
     "aten::div", "aten::sub", "aten::sum", "aten::mean", "sin", "cos", "exp", "upsample", "var_mean", "triton")),
    ("copies", ("copy", "aten::cat", "clone", "contiguous", "aten::pad", "constant_pad", "fill", "zero_", "Memcpy",
     "Memset")),
)  # fmt: skip
REST = "rest"


def best_rate(function: Callable[[], Any], gflop: float, quick: bool) -> float:
    """GFLOP/s of the fastest of many calls."""
    function()
    times, end = [], time.perf_counter() + (0 if quick else LEAST)
    while len(times) < 3 or time.perf_counter() < end:
        times.append(seconds(function))
    return gflop / min(times)


def products(m: int, k: int, n: int, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """A matrix product (m, k) x (k, n) in the ways that torch has."""
    x, w = (torch.randn(*shape, device=DEVICE, dtype=dtype) for shape in ((m, k), (n, k)))
    turned, image = (
        w.t().contiguous(),
        x.t().reshape(1, k, m, 1).contiguous(memory_format=torch.channels_last),
    )
    kernel = w[:, :, None, None].contiguous(memory_format=torch.channels_last)
    yield "F.linear", lambda: F.linear(x, w)
    yield "x @ w", lambda: x @ turned
    yield "1x1 convolution, channels-last", lambda: F.conv2d(image, kernel)


def convolutions(shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """A 3x3 convolution that keeps the channels, in both layouts."""
    c = shape[1]
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(*shape, device=DEVICE, dtype=dtype).contiguous(memory_format=layout)
        w = torch.randn(c, c, 3, 3, device=DEVICE, dtype=dtype).contiguous(memory_format=layout)
        yield str(layout).removeprefix("torch."), lambda x=x, w=w: F.conv2d(x, w, padding=1)


def ceilings(quick: bool) -> Iterator[dict[str, Any]]:
    """The best of each, one row per operation and precision, with all that was tried; then the bandwidth."""
    matrices, shapes = (MATRICES[:1], CONVOLUTIONS[:1]) if quick else (MATRICES, CONVOLUTIONS)
    precisions = ["float32", "bfloat16"] + (["float16", "TF32"] if ON_GPU else [])
    for name in precisions:
        exact_float32()
        if name == "TF32":
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        dtype = DTYPES.get(name, torch.float32)
        tried: dict[str, dict[str, float]] = {"matrix product": {}, "convolution": {}}
        for m, k, n in matrices:
            for layout, function in products(m, k, n, dtype):
                rate = best_rate(function, 2e-9 * m * k * n, quick)
                tried["matrix product"][f"{m} x {k} x {n}, {layout}"] = round(rate, 1)
        for b, c, t, f in shapes:
            for layout, function in convolutions((b, c, t, f), dtype):
                rate = best_rate(function, 2e-9 * 9 * b * c * c * t * f, quick)
                tried["convolution"][f"({b}, {c}, {t}, {f}), {layout}"] = round(rate, 1)
        for operation, rates in tried.items():
            best = max(rates, key=lambda key: rates[key])
            yield {
                "ceiling": operation,
                "dtype": name,
                "gflop_per_s": rates[best],
                "best": best,
                "tried": rates,
            }
    exact_float32()
    mb = 64 if quick else (2048 if ON_GPU else 512)
    source = torch.ones(mb * 250_000, device=DEVICE)
    target = torch.empty_like(source)
    copied = best_rate(lambda: target.copy_(source), 2 * mb / 1e3, quick)
    yield {"ceiling": "copy", "dtype": "bytes read and written", "gb_per_s": round(copied, 1), "mb": mb}


def by_kind(function: Callable[[], Any]) -> dict[str, float]:
    """Seconds of one call by kind of operation, by torch's profiler: on a GPU, of its kernels."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if ON_GPU else [])
    with profile(activities=activities) as profiled, torch.no_grad():
        function()
        synchronize()
    spent = dict.fromkeys([*(kind for kind, _ in OPERATIONS), REST], 0.0)
    for event in profiled.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel: counted with the operator that launched it
        microseconds = event.self_device_time_total if ON_GPU else event.self_cpu_time_total
        spent[kind_of(event.key)] += microseconds / 1e6
    return {kind: round(value, 6) for kind, value in spent.items()}


def kind_of(operator: str) -> str:
    """The kind under which an operator's time is shown."""
    return next((kind for kind, words in OPERATIONS if any(word in operator for word in words)), REST)


def floors(gflop: dict[str, float], weights: int, found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By precision: seconds of each kind at its ceiling, of reading the weights, and the floor of a call."""
    rates = {(row["ceiling"], row["dtype"]): row.get("gflop_per_s", 0.0) for row in found}
    bandwidth = found[-1]["gb_per_s"]
    made = {}
    for name in dict.fromkeys(row["dtype"] for row in found[:-1]):
        ceiling = {kind: "convolution" if kind == "convolution" else "matrix product" for kind in KINDS}
        spent = {kind: gflop[kind] / rates[ceiling[kind], name] for kind in KINDS}
        size = torch.finfo(DTYPES.get(name, torch.float32)).bits // 8
        reading = weights * size / bandwidth / 1e9
        made[name] = {**spent, "weights": reading, "floor_s": max(sum(spent.values()), reading)}
    return made


def measure(options: argparse.Namespace, found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row per network."""
    dtype = DTYPES[options.dtype]
    pipe = load(options.folder, dtype)
    if options.channels_last:
        pipe.to(memory_format=torch.channels_last)
    for what, function in calls(pipe, dtype, options.seconds).items():
        network = networks(pipe)[what]
        gflop = count(function, network)
        executed = sum(gflop[kind] for kind in KINDS)
        spent = statistics.median(in_turn({what: function}, options.rounds)[what])
        weights = sum(p.numel() for p in network.parameters())
        floor = floors(gflop, weights, found)
        kinds = by_kind(function)
        whole = sum(kinds.values()) or 1.0
        yield {
            "what": what, "dtype": options.dtype, "seconds_of_audio": options.seconds, "median_s": round(spent, 6),
            "gflop": round(executed, 3),
            "gflop_of_published_layers": round(executed + gflop["extra_gflop"], 3),
            "gflop_by_kind": {kind: round(gflop[kind], 4) for kind in KINDS},
            "gflop_per_s": round(executed / spent, 1), "parameters": weights,
            "floor_s": {name: round(row["floor_s"], 7) for name, row in floor.items()},
            "share_of_ceiling": round(floor[options.dtype]["floor_s"] / spent, 3),
            "profiled_s": kinds,
            "profiled_share": {kind: round(value / whole, 3) for kind, value in kinds.items()},
            "achieved_by_kind": {
                kind: {"gflop_per_s": round(gflop[kind] / kinds[kind], 1),
                       "share_of_ceiling": round(floor[options.dtype][kind] / kinds[kind], 3)}
                for kind in KINDS if gflop[kind] and kinds[kind]
            },
        }  # fmt: skip


def show(row: dict[str, Any]) -> None:
    """A few lines for the reader."""
    if "ceiling" in row:
        rate = (
            f"{row['gflop_per_s']:9.1f} GFLOP/s" if "gflop_per_s" in row else f"{row['gb_per_s']:9.1f} GB/s"
        )
        print(f"{row['ceiling']:<15} {row['dtype']:<23} {rate}   {row.get('best', '')}", flush=True)
        return
    print(f"\n{row['what']}, {row['dtype']}, {row['seconds_of_audio']} s: {row['median_s']:.4g} s, "
          f"{row['gflop']:.4g} GFLOP executed ({row['gflop_of_published_layers']:.4g} in the published layers; "
          f"{PUBLISHED_GFLOP[row['what']]} counted before at the published size and 10.24 s), {row['gflop_per_s']:.4g} GFLOP/s, "
          f"{100 * row['share_of_ceiling']:.0f} % of the ceiling; floor "
          + ", ".join(f"{name} {value:.4g} s" for name, value in row["floor_s"].items()))  # fmt: skip
    for kind, spent in row["profiled_s"].items():
        line = f"  {kind:<30} {spent:9.5f} s {100 * row['profiled_share'][kind]:5.1f} %"
        if kind in row["achieved_by_kind"]:
            achieved = row["achieved_by_kind"][kind]
            line += f"  {row['gflop_by_kind'][kind]:9.4g} GFLOP at {achieved['gflop_per_s']:9.4g} GFLOP/s, "
            line += f"{100 * achieved['share_of_ceiling']:.0f} % of the ceiling"
        print(line, flush=True)


def main() -> None:
    """Ceilings first: they are kept even if a network then fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="a checkpoint; default: one of the published size is made"
    )
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--channels-last", action="store_true", help="of U-Net and VAE")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.dtype == "float16" and not ON_GPU:
        parser.error("--dtype float16: its ceilings are measured on a GPU only; use bfloat16")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = make(options.folder or Path(temporary))
        options.folder = folder
        for row in ceilings(options.quick):
            show(row)
            rows.append(row)
        save_speed("roofline", rows, quick=options.quick)
        found = list(rows)
        for row in measure(options, found):
            show(row)
            rows.append(row)
            save_speed("roofline", rows, quick=options.quick)


if __name__ == "__main__":
    main()
