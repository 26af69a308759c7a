"""benchmarks/mixup_study.py from its plan to its table, with tiny parts and a budget of two steps."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers import TINY
from training_toys import write_clips

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY_RUN = (
    "loop.steps=2", "loop.batch_size=2", "loop.log_every=1", "data.seconds=0.32", "ldm.warmup=0", "parts.unet.heads=[2]",
    "parts.unet.block_out_channels=[16]", "parts.unet.norm_num_groups=4", "parts.unet.sample_size=8",
)  # fmt: skip


@pytest.fixture
def study(bench, monkeypatch, tmp_path):
    """Runs a stage in this process; the results go to tmp_path."""
    monkeypatch.setenv("MUSICLDM_RESULTS", str(tmp_path / "results"))
    module = bench("mixup_study")

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["benchmarks/mixup_study.py", *map(str, words)])
        return module.main()

    run.module = module
    return run


@pytest.fixture
def planned(study, tmp_path):
    for part in (
        "vae",
        "vocoder",
        "text_encoder",
        "tokenizer",
        "feature_extractor",
    ):  # no U-Net, no scheduler
        shutil.copytree(TINY / part, tmp_path / "parts" / part)
    write_clips(tmp_path / "corpus", n=4).rename(tmp_path / "corpus" / "manifest.jsonl")
    options = [word for value in TINY_RUN for word in ("--set", value)]
    assert not study("plan", tmp_path / "study", "--parts", tmp_path / "parts", "--corpus", tmp_path / "corpus", "--seeds", "5",
                     "--prompts", 2, "--sampling-steps", 2, *options)  # fmt: skip
    return tmp_path / "study"


def test_the_study_runs_goes_on_and_reports(study, planned, tmp_path, monkeypatch, capsys):
    """Two of the four ways: the others differ in a word of the command."""
    plan = json.loads((planned / "plan.json").read_text())
    assert plan["strategies"] == ["none", "plain", "bam", "blm"]
    (planned / "plan.json").write_text(json.dumps(plan | {"strategies": ["none", "blm"]}))
    module, real, commands = study.module, study.module.musicldm, []

    def counted(words):
        commands.append(words[0])
        return 130 if len(commands) == 5 else real(words)  # stopped in the second run's second stage

    monkeypatch.setattr(module, "musicldm", counted)
    assert study("run", planned) == 130
    assert "blm-5: stopped; the same command goes on" in capsys.readouterr().out
    assert study("run", planned) == 0
    assert commands == [
        *["train", "batch", "evaluate", "train", "batch"],
        *["batch", "evaluate", "batch", "evaluate"],
    ]
    assert study("report", planned) == 0
    found = json.loads((tmp_path / "results" / "mixup_study.json").read_text())
    assert [(row["strategy"], row["seed"]) for row in found["rows"]] == [("none", 5), ("blm", 5)]
    assert [row["last_step"]["step"] for row in found["rows"]] == [2] * 2
    assert found["rows"][0]["clips"] == {"GENERATED": 2, "REFERENCE": 2, "TRAIN": 4 * 6}
    assert found["means"]["blm"]["SIM_AA@90"]["standard_error"] is None  # one seed has none
    table = (tmp_path / "results" / "mixup_study.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[2:5]] == [
        "no mixup",
        "BLM",
        "real clips, not trained on",
    ]


def test_a_plan_that_was_begun_is_not_changed(study, planned, tmp_path):
    again = ["plan", planned, "--parts", TINY, "--corpus", tmp_path / "corpus"]
    (planned / "runs" / "none-5" / "model").mkdir(parents=True)
    with pytest.raises(SystemExit, match="says something else"):
        study(*again)


def test_errors_over_seeds(study):
    rows = [{"strategy": "bam", **dict.fromkeys(study.module.SHOWN, value), "nearest_quantiles": dict.fromkeys(study.module.QUANTILES, 0.5)}
            for value in (1.0, 2.0, 3.0)]  # fmt: skip
    found = study.module.means(rows, "bam")["SIM_AA@90"]
    assert found["mean"] == 2
    assert found["standard_error"] == pytest.approx(3**-0.5)
    assert study.module.cell(found) == "2.0000 ± 0.5774"


def test_the_plan_says_how_long_all_steps_will_take(study, planned, tmp_path, monkeypatch, capsys):
    asked = []

    def quick(folder, made, strategy, seed, output, also):
        asked.append((strategy, *also))
        output.mkdir(parents=True)
        (output / "log.jsonl").write_text(
            "".join(json.dumps({"step": k, "seconds": 36.0 / k}) + "\n" for k in (1, 2, 3))
        )
        return 0

    monkeypatch.setattr(study.module, "train", quick)
    assert study("plan", tmp_path / "timed", "--parts", TINY, "--corpus", tmp_path / "corpus", "--time") == 0
    assert [strategy for strategy, *_ in asked] == ["none", "plain", "bam", "blm"]
    assert "none 12.00 s" in capsys.readouterr().out.splitlines()[-1]
