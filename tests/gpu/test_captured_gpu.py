"""A whole run and its decoding as one CUDA graph. Without a GPU these are skipped, and say so."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from helpers import TINY, draw, relative

from musicldm import MusicLDMPipeline
from musicldm.compilation import Captured
from musicldm.schedulers import DDIM, DPMSolver

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: NOT TESTED on CUDA")

SAME = 1e-4  # the same kernels; a library may choose another one where it has another workspace
SAME_HALF = 0.02  # the same, in bfloat16
LAYOUT = 0.05  # relative, in bfloat16: another layout is other kernels; on a CPU this is 0.012
STEPS = 5


@pytest.fixture
def pipe(request) -> MusicLDMPipeline:
    """The tiny checkpoint on the GPU, in the precision that the test asks for."""
    return MusicLDMPipeline.from_pretrained(TINY, torch_dtype=getattr(request, "param", torch.float32)).to(
        "cuda"
    )


def given(pipe: MusicLDMPipeline, prompt: str = "a waltz", seed: int = 0) -> tuple[torch.Tensor, ...]:
    cond, uncond = pipe.embed_text([prompt, ""]).chunk(2)
    return draw(1, 8, 16, 16, seed=seed).cuda(), cond, uncond, torch.tensor(2.0, device="cuda")


@pytest.mark.parametrize("solver", [DDIM(), DPMSolver()], ids=["ddim", "dpm++"])
@pytest.mark.parametrize(
    ("pipe", "tolerance"),
    [(torch.float32, SAME), (torch.bfloat16, SAME_HALF), (torch.float16, SAME_HALF)],
    ids=["float32", "bfloat16", "float16"],
    indirect=["pipe"],
)
@torch.no_grad()
def test_a_graph_of_all_steps_and_the_decoders_is_the_eager_clip(pipe, tolerance, solver, bench):
    pipe.scheduler = solver
    run = bench("bench_graph").clip(pipe, STEPS)
    graph = Captured(run, *given(pipe))
    first = graph(*given(pipe))
    assert relative(first, run(*given(pipe))) < tolerance
    other = given(pipe, "fast techno", seed=1)
    second = graph(*other)
    assert relative(second, run(*other)) < tolerance
    assert relative(second, first) > 10 * tolerance, "another prompt and noise must sound different"
    assert relative(first, run(*given(pipe))) < tolerance, "the second replay overwrote the first clip"


@torch.no_grad()
def test_a_graph_of_one_step_serves_all_rows(pipe, bench):
    pipe.scheduler = DPMSolver()
    module, examples = bench("bench_graph"), given(pipe)
    expected = module.clip(pipe, STEPS)(*examples)
    assert relative(module.clip_by_steps(pipe, STEPS, *examples)(*examples), expected) < SAME


def test_another_shape_or_type_is_refused():
    graph = Captured(torch.sin, torch.zeros(3, device="cuda"))
    assert graph(torch.ones(3, device="cuda")).cpu().tolist() == pytest.approx([0.841471] * 3)
    with pytest.raises(
        ValueError, match=r"got torch.float32 of shape \(1,\), expected torch.float32 of \(3,\)"
    ):
        graph(torch.ones(1, device="cuda"))
    with pytest.raises(ValueError, match=r"got torch.float16"):
        graph(torch.ones(3, device="cuda").half())


def test_the_benchmark_records_and_checks_what_it_times(bench, monkeypatch, tmp_path):
    ways = "eager,graph,graph-channels-last,step-graph"
    words = [
        "bench_graph.py",
        "--folder",
        str(TINY),
        "--ways",
        ways,
        "--dtypes",
        "bfloat16",
        "--steps",
        "2,3",
    ]
    monkeypatch.setattr(sys, "argv", [*words, "--seconds", "0.32", "--rounds", "1"])
    assert bench("bench_graph").main() == 0
    rows = json.loads((tmp_path / "bench_graph.json").read_text())["rows"]
    assert len(rows) == 8
    assert all(row["recorded"] is True for row in rows if row["way"] != "eager")
    assert all(row["difference"] < LAYOUT for row in rows)
