"""The tables of the pages say what the JSON of the measurements says, and every link leads somewhere."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from typing import Any

import pytest

from .checks import ROOT
from .test_documents import PAGES

NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
STUDY, GAIN = "musicldm/evaluation/README.md", "musicldm/training/README.md"
CARD, EDITING, IN_FULL = (
    "musicldm/demo/README.md",
    "musicldm/editing/README.md",
    "benchmarks/results/mixup_study.md",
)
ANOTHER = "another's"
NAMES = {"none": "no mixup", "plain": "plain mixup", "bam": "BAM", "blm": "BLM"}

Expected = tuple[str, str, list[str]]  # page, start of the row, its figures in their order


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def row_of(text: str, start: str) -> str:
    found = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    assert len(found) == 1, f"{len(found)} rows start with {start!r}"
    return found[0]


def missing(row: str, figures: list[str]) -> list[str]:
    """The figures from the first on that does not follow the one before it in the row."""
    numbers = iter(NUMBER.findall(row))
    for k, figure in enumerate(figures):
        if figure not in numbers:
            return figures[k:]
    return []


def study() -> Iterator[Expected]:
    """All columns of the page generated in full, and those that the evaluation's page takes of it."""
    found = results("mixup_study")
    places = {"Frechet distance": 3, "text-audio similarity": 3, "nearest, median": 4, "1 - cosine": 3}
    full = ("Frechet distance", "kernel distance", "text-audio similarity", "SIM_AA@90", "SIM_AA@95", "nearest, median", "1 - cosine")  # fmt: skip
    for strategy, name in NAMES.items():
        means = found["means"][strategy]
        pairs = [(means[c]["mean"], means[c]["standard_error"], digits) for c, digits in places.items()]
        yield STUDY, f"{name} |", [f"{x:.{digits}f}" for mean, error, digits in pairs for x in (mean, error)]
        yield (
            IN_FULL,
            f"{name} |",
            [f"{means[c][what]:.4f}" for c in full for what in ("mean", "standard_error")],
        )
    real = found["real"]
    yield STUDY, "real clips, not", [f"{real[column]:.{digits}f}" for column, digits in places.items()]
    yield IN_FULL, "real clips, not", [f"{real[column]:.4f}" for column in full]
    nearest = [found["means"][strategy]["nearest, median"]["mean"] for strategy in ("none", "blm")]
    yield CARD, "with and without mixup", [f"{x:.4f}" for x in nearest]


def prompt_gain() -> Iterator[Expected]:
    rows = results("prompt_gain")["rows"]
    for timestep in (100, 300, 500, 700, 800, 900, 980):
        told = [
            row
            for model in ("noise", "demo")
            for row in rows
            if (row["model"], row["timestep"]) == (model, timestep)
        ]
        figures = [(f"{row['own']:.3f}", f"{100 * (row[ANOTHER] / row['own'] - 1):.0f}") for row in told]
        yield GAIN, f"{timestep} |", [str(timestep), *figures[0], *figures[1]]


def card() -> Iterator[Expected]:
    rows = results("demo_quality")["rows"]
    probes = {"tempo within": "tempo within", "style": "style, of 16", "lead instrument": "lead instrument",
              "drums, none": "drums, no drums"}  # fmt: skip
    for start, label in probes.items():
        (row,) = [row for row in rows if row["what"].startswith(start)]
        columns = (row[key] for key in ("chance", "corpus", "corpus_through_vae_and_vocoder", "generated"))
        yield CARD, label, [str(row["clips"]), *(f"{x:.2f}" for x in columns)]
    (own,) = [row for row in rows if row["what"].startswith("own prompt")]
    yield CARD, "own prompt above", [f"{own['pairs']:,}", f"{own['chance']:.2f}", f"{own['generated']:.2f}"]
    for quality in ("low quality", "drums"):
        (row,) = [row for row in rows if row["what"].startswith(f"negative prompt '{quality}'")]
        figures = [
            f"{row['mean']:.1f}",
            f"{row['standard_error']:.1f}",
            f"{100 * row['share_in_direction']:.0f}",
        ]
        yield CARD, f'`--negative "{quality}"`', [*figures, str(row["clips"])]
    copies = [
        f"{row[above]:.2f}"
        for row in rows
        if row["what"] == "SIM_AA"
        for above in ("above 0.90", "above 0.95")
    ]
    yield CARD, "clips with a training clip above", ["0.90", "0.95", *copies]
    through = [f"{row['mean']:.2f}" for row in rows if row["what"].startswith("copy-synthesis")]
    yield CARD, "copy-synthesis of new", through[:3]
    yield CARD, "the same of three recordings", through[3:]
    rows = results("amd-epyc-avx512-bf16/bench_import")["rows"]
    (whole,) = [row for row in rows if row.get("command", "").startswith("musicldm generate")]
    figures = [f"{whole[key]:.1f}" for key in ("median_s", "min_s", "max_s")]
    yield CARD, "a clip of 10.24 s, two cores", figures


def editing() -> Iterator[Expected]:
    rows = results("editing_quality")["rows"]
    means = {(row["of"], row["figure"]): row for row in rows if row["what"] == "summary" and "mean" in row}
    seams = [row["inpainted"] for row in rows if row["what"] == "seam"]
    seam = [f"{means['seam', figure]['mean']:.2f}" for figure in ("inpainted", "reconstruction", "butted")]
    yield EDITING, "inpainting, 24 clips", [str(len(seams)), seam[0], error(seams), *seam[1:]]
    won = [f"{means['audio_prompt', figure]['mean']:.2f}" for figure in ("won", "won_by_text")]
    yield EDITING, "a clip as the prompt: result", [str(means["audio_prompt", "won"]["n"]), *won]
    steps = next(row for row in rows if row.get("figure") == "mean curve of latents")["values"]
    yield EDITING, "strength, 24 clips", [str(means["strength", "grows_latents"]["n"]), str(len(steps))]


def long_form() -> Iterator[Expected]:
    found = results("long_form")
    summary, rows = found["summary"], found["rows"]
    first, last = summary["memory_over_the_model_mb"]
    yield EDITING, "120 s: memory", [str(last), str(first)]
    joins = [row for row in rows if row["what"] == "seams" and row["overlap"] == 0.25]
    at, between = ([row[key] for row in joins] for key in ("rank_at_joins", "rank_between_joins"))
    yield (
        EDITING,
        "120 s, 6 clips",
        [str(len(joins)), f"{statistics.mean(at):.2f}", error(at), f"{statistics.mean(between):.2f}"],
    )
    drift = [str(n) for n in summary["tempo_within_3_percent"]]
    yield EDITING, "120 s of drums", [*drift, f"{100 * summary['tempo_drift']:.1f}"]
    loops = [
        statistics.mean(r["rank"] for r in rows if r["what"] == "loop" and r["loop"] is way)
        for way in (True, False)
    ]
    yield EDITING, "loops, 3 clips", [f"{rank:.2f}" for rank in loops]
    once, better, best = (100 * x for x in summary["inversion_relative_error"].values())
    yield EDITING, "inversion, 50 steps", [f"{once:.0f}", f"{better:.1f}", f"{best:.1f}"]


def error(values: list[float]) -> str:
    return f"{statistics.stdev(values) / len(values) ** 0.5:.2f}"


@pytest.mark.parametrize("source", [study, prompt_gain, card, editing, long_form], ids=lambda f: f.__name__)
def test_the_tables_say_what_was_measured(source):
    for page, start, figures in source():
        row = row_of((ROOT / page).read_text(encoding="utf-8"), start)
        assert not missing(row, figures), f"{page}: expected {figures} in\n{row}"


def test_a_figure_that_differs_or_stands_elsewhere_is_told():
    row = "| BLM | 0.108 ± 0.003 | +1,920 % | -3.1 |"
    assert missing(row, ["0.108", "0.003", "1,920", "-3.1"]) == []
    assert missing(row, ["0.108", "0.004"]) == ["0.004"]
    assert missing(row, ["0.003", "0.108"]) == ["0.108"]
    assert missing(row, ["0.10"]) == ["0.10"]  # no part of another number
    with pytest.raises(AssertionError, match="0 rows start with 'BAM'"):
        row_of(row, "BAM")


# -- links

LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """The names that a page's headings get on the web."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), f"{target}: there is no {there}"
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), (
            f"{target}: no such heading"
        )
