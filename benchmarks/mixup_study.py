"""Does mixing training clips make a model more novel, and at what cost? A small study on this project's own corpus.

    python benchmarks/mixup_study.py plan  STUDY --parts FOLDER --corpus FOLDER [--time]
    python benchmarks/mixup_study.py run   STUDY [--part 1/2]
    python benchmarks/mixup_study.py report STUDY

Four ways of training (none, plain mixup, BAM, BLM) at one small budget, three seeds each: the U-Net of mixup_study.toml
from scratch, on the frozen VAE, vocoder and CLAP of --parts, on the corpus' split "train". Each model makes a clip for
each of the corpus' 64 evaluation prompts; `musicldm evaluate` compares these with the split "test" (Frechet and kernel
distance on CLAP embeddings, text-audio similarity) and with the split "train" (SIM_AA, nearest cosines). The CLAP that
judges is the CLAP that conditions, unless --judge names another: similarities to prompts are then the model's own view.

`run` goes on where it was stopped (Ctrl-C, a kill); two of them with --part 1/2 and --part 2/2 share the runs.
`report` writes results/mixup_study.json and results/mixup_study.md: means and standard errors over seeds.

Time: 75 minutes of one core for all (torch 2.13, the other core at work too). A training step took 0.31 to 0.40 s of CPU, with
BLM 0.8, since CLAP must hear each mix decoded; the rest is 64 clips a model and their evaluation. `plan --time` measures
three steps of each way with the parts at hand, and says what all steps will take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness

from musicldm.batch.seeds import model_digests
from musicldm.cli import main as musicldm
from musicldm.corpus.prompts import evaluation_prompts
from musicldm.io.files import as_json, atomic, file_digest, value_digest, write_json
from musicldm.training.config import read_toml
from musicldm.training.log import read_log

CONFIG = Path(__file__).with_suffix(".toml")
INTERRUPTED = 130
STRATEGIES = ("none", "plain", "bam", "blm")
NAMES = {"none": "no mixup", "plain": "plain mixup", "bam": "BAM", "blm": "BLM"}
SHOWN = {  # column -> metric and sets of report.json
    "Frechet distance": ("Frechet distance", "GENERATED, REFERENCE"),
    "kernel distance": ("kernel distance (MMD^2)", "GENERATED, REFERENCE"),
    "text-audio similarity": ("text-audio similarity", "GENERATED and its prompts"),
    "SIM_AA@90": ("SIM_AA@90", "GENERATED, TRAIN"),
    "SIM_AA@95": ("SIM_AA@95", "GENERATED, TRAIN"),
    "nearest, median": ("cosine of the nearest, median", "GENERATED, TRAIN"),
    "1 - cosine": ("mean of 1 - cosine between clips", "GENERATED"),
}
REAL = {  # the same of real clips that were not trained on, where there is such a thing
    "Frechet distance": ("Frechet distance", "TRAIN, REFERENCE"),
    "kernel distance": ("kernel distance (MMD^2)", "TRAIN, REFERENCE"),
    "text-audio similarity": ("text-audio similarity", "REFERENCE and its captions"),
    "SIM_AA@90": ("SIM_AA@90", "REFERENCE, TRAIN"),
    "SIM_AA@95": ("SIM_AA@95", "REFERENCE, TRAIN"),
    "nearest, median": ("cosine of the nearest, median", "REFERENCE, TRAIN"),
    "1 - cosine": ("mean of 1 - cosine between clips", "REFERENCE"),
}
QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95", "1")


def main() -> int:
    """One of the three stages."""
    options = arguments()
    return {"plan": plan, "run": run, "report": report}[options.stage](options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(dest="stage", required=True)
    planned = stages.add_parser("plan", help="write STUDY/plan.json")
    planned.add_argument("study", type=Path)
    planned.add_argument(
        "--parts", type=Path, required=True, help="folder in the hub's layout: vae, vocoder, CLAP"
    )
    planned.add_argument("--corpus", type=Path, required=True, help="what `musicldm corpus` wrote")
    planned.add_argument(
        "--reference", type=Path, help="corpus whose split test is the reference (default: --corpus)"
    )
    planned.add_argument("--judge", help="CLAP of the evaluation, id or folder (default: that of --parts)")
    planned.add_argument("--seeds", default="0,1,2")
    planned.add_argument("--prompts", type=int, default=64, help="how many of the 64 (default: all)")
    planned.add_argument("--sampling-steps", type=int, default=25)
    planned.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                         help="of the training config, as in `musicldm train`")  # fmt: skip
    planned.add_argument("--time", action="store_true", help="measure three training steps of each way")
    ran = stages.add_parser("run", help="train, generate, evaluate: all that is not done yet")
    ran.add_argument("study", type=Path)
    ran.add_argument("--part", default="1/1", metavar="K/N", help="of the runs, for N processes")
    told = stages.add_parser("report", help="write the table")
    told.add_argument("study", type=Path)
    return parser.parse_args()


def plan(options: argparse.Namespace) -> int:
    """STUDY/plan.json: everything that the runs depend on. Refuses to change a plan that was begun."""
    seeds = [int(seed) for seed in options.seeds.split(",")]
    table = read_toml(CONFIG, options.overrides)
    parts = options.parts.resolve()
    vae = json.loads((parts / "vae" / "config.json").read_text())
    clap = json.loads((parts / "text_encoder" / "config.json").read_text())
    decided = [f"parts.unet.in_channels={vae['latent_channels']}", f"parts.unet.out_channels={vae['latent_channels']}",
               f"parts.unet.cond_dim={clap['projection_dim']}"]  # fmt: skip
    manifest = options.corpus.resolve() / "manifest.jsonl"
    reference = (options.reference or options.corpus).resolve() / "manifest.jsonl"
    made = {
        "strategies": list(STRATEGIES),
        "seeds": seeds,
        "parts": str(parts),
        "parts_sha256": value_digest(model_digests(parts)),
        "judge": options.judge or str(parts),
        "manifest": str(manifest),
        "manifest_sha256": file_digest(manifest)[0],
        "reference": str(reference),
        "reference_sha256": file_digest(reference)[0],
        "config_sha256": file_digest(CONFIG)[0],
        "overrides": [*decided, *options.overrides],
        "training": table,
        "prompts": options.prompts,
        "sampling": {"steps": options.sampling_steps, "scheduler": "dpm++", "guidance": 2.0},
    }
    path = options.study / "plan.json"
    if path.exists() and json.loads(path.read_text()) != made and any((options.study / "runs").glob("*/*")):
        raise SystemExit(f"{path} says something else, and runs were made by it; use another folder")
    options.study.mkdir(parents=True, exist_ok=True)
    with atomic(options.study / "prompts.jsonl") as file:
        for k, prompt in enumerate(evaluation_prompts()[: options.prompts]):
            file.write(as_json({"prompt": prompt.prompt, "id": f"{k:02d}-{prompt.style}"}))
    write_json(path, made)
    steps = table["loop"]["steps"] * len(seeds)
    print(
        f"{path}: {len(STRATEGIES)} x {len(seeds)} runs, {steps * len(STRATEGIES)} steps, {options.prompts} clips each"
    )
    if options.time:
        spent = {strategy: step_seconds(options.study, made, strategy) for strategy in STRATEGIES}
        hours = sum(spent.values()) * steps / 3600
        told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
        print(f"a training step: {told}; all training steps: {hours:.1f} hours of one process")
    return 0


def step_seconds(study: Path, made: dict[str, Any], strategy: str) -> float:
    """The fastest of three training steps."""
    output = study / "timing" / f"{strategy}-{time.time_ns()}"
    short = ["loop.steps=3", "loop.log_every=1"]
    if train(study, made, strategy, made["seeds"][0], output, short):
        raise SystemExit(f"training of {strategy!r} ended early")
    return min(line["seconds"] for line in read_log(output / "log.jsonl") if "seconds" in line)


def run(options: argparse.Namespace) -> int:
    """Every run's three steps, those that are done left alone; 130 if stopped."""
    made = json.loads((options.study / "plan.json").read_text())
    part, parts = (int(number) for number in options.part.split("/"))
    names = [(strategy, seed) for seed in made["seeds"] for strategy in made["strategies"]]
    for strategy, seed in names[part - 1 :: parts]:
        folder = options.study / "runs" / f"{strategy}-{seed}"
        status = one(options.study, made, strategy, seed, folder)
        if status:
            why = "stopped" if status == INTERRUPTED else f"failed with status {status}"
            print(f"{folder.name}: {why}; the same command goes on")
            return status
        print(f"{folder.name}: done")
    return 0


def one(study: Path, made: dict[str, Any], strategy: str, seed: int, folder: Path) -> int:
    """Train, generate, evaluate. Each goes on by itself; the first is marked when it has come to its end."""
    model, clips, result = folder / "model", folder / "clips", folder / "evaluation"
    if not (folder / "trained.json").exists():
        status = train(study, made, strategy, seed, model)
        if status:
            return status
        write_json(folder / "trained.json", {"log": read_log(model / "log.jsonl")[-1]})
    seconds, sampling = str(made["training"]["data"]["seconds"]), made["sampling"]
    batch = ["batch", str(study / "prompts.jsonl"), "-o", str(clips), "--model", str(model), "--seconds", seconds,
             "--steps", str(sampling["steps"]), "--scheduler", sampling["scheduler"],
             "--guidance", str(sampling["guidance"]), "--seed", str(seed), "--batch-size", "8", "--quiet"]  # fmt: skip
    judge = ["evaluate", str(clips), "--reference", made["reference"], "--reference-split", "test",
             "--train", made["manifest"], "--features", "clap", "--model", made["judge"], "--seconds", seconds,
             "--window", seconds, "--shortest", "0.1", "--bootstrap", "0", "--skip", "silent", "-o", str(result),
             "--cache", str(study / "cache"), "--quiet"]  # fmt: skip
    return musicldm(batch) or musicldm(judge)


def train(
    study: Path, made: dict[str, Any], strategy: str, seed: int, output: Path, also: Sequence[str] = ()
) -> int:
    """`musicldm train ldm`, begun or gone on with; its status."""
    settings = [f"output={json.dumps(str(output))}", f"seed={seed}", f"data.manifest={json.dumps(made['manifest'])}",
                f"data.cache={json.dumps(str(study / 'cache'))}", *sources(made["parts"]),
                f"mixup.strategy={strategy}", *made["overrides"], *also]  # fmt: skip
    command = [
        "train",
        "ldm",
        str(CONFIG),
        "--quiet",
        *(word for value in settings for word in ("--set", value)),
    ]
    return musicldm([*command, "--resume"] if any((output / "checkpoints").glob("*.pt")) else command)


def sources(parts: str) -> list[str]:
    """Where the frozen parts come from; without a scheduler of their own, the published one."""
    named = [f"parts.{part}={json.dumps(parts)}" for part in ("vae", "vocoder", "clap")]
    has_scheduler = (Path(parts) / "scheduler").is_dir()
    return [*named, f"parts.scheduler={json.dumps(parts)}"] if has_scheduler else named


def report(options: argparse.Namespace) -> int:
    """results/mixup_study.json and .md, of the runs that are done."""
    made = json.loads((options.study / "plan.json").read_text())
    rows = [row for strategy in made["strategies"] for row in rows_of(options.study, strategy, made["seeds"])]
    if not rows:
        raise SystemExit(f"{options.study}: no run is done yet")
    about = {
        key: made[key]
        for key in (
            "parts_sha256",
            "manifest_sha256",
            "reference_sha256",
            "training",
            "overrides",
            "prompts",
            "sampling",
            "seeds",
        )
    }
    done = [row["strategy"] for row in rows]
    about["means"] = {strategy: means(rows, strategy) for strategy in dict.fromkeys(done)}
    about["real"] = rows[0]["real"]
    about["command"] = (
        "benchmarks/mixup_study.py plan STUDY --parts PARTS --corpus CORPUS; ... run STUDY; ... report STUDY"
    )
    path = harness.save("mixup_study", rows, **about)
    table = markdown(about, rows, len(made["seeds"]))
    path.with_suffix(".md").write_text(table)
    print(table)
    return 0


def rows_of(study: Path, strategy: str, seeds: list[int]) -> list[dict[str, Any]]:
    """A row for each run of a strategy that was evaluated."""
    rows = []
    for seed in seeds:
        folder = study / "runs" / f"{strategy}-{seed}"
        path = folder / "evaluation" / "report.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text())
        near = result(found, "cosine of the nearest, median", "GENERATED, TRAIN")
        rows.append({
            "strategy": strategy, "seed": seed, **{name: result(found, *where)["value"] for name, where in SHOWN.items()},
            "silent": found["excluded"]["counts"].get("GENERATED", {}).get("silent", 0),
            "nearest_quantiles": near["details"]["quantiles"], "feature": found["features"]["clap"],
            "clips": {role: found["sets"][role]["excerpts"] for role in found["sets"]},
            "real": {name: result(found, *where)["value"] for name, where in REAL.items()},
            "last_step": json.loads((folder / "trained.json").read_text())["log"],
        })  # fmt: skip
    return rows


def result(found: dict[str, Any], metric: str, of: str) -> dict[str, Any]:
    """The one of report.json."""
    (row,) = (row for row in found["results"] if row["metric"] == metric and row["of"] == of)
    return row


def means(rows: list[dict[str, Any]], strategy: str) -> dict[str, Any]:
    """Over the seeds: mean and standard error, the error None for one seed."""
    mine = [row for row in rows if row["strategy"] == strategy]
    columns = {name: [row[name] for row in mine] for name in SHOWN}
    columns |= {f"nearest, quantile {q}": [row["nearest_quantiles"][q] for row in mine] for q in QUANTILES}
    return {
        name: {
            "mean": statistics.fmean(values),
            "standard_error": statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None,
            "seeds": len(values),
        }
        for name, values in columns.items()
    }


def markdown(about: dict[str, Any], rows: list[dict[str, Any]], seeds: int) -> str:
    """The table, and what to know of it."""
    lines = ["| training | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    for strategy, found in about["means"].items():
        lines.append(f"| {NAMES[strategy]} | " + " | ".join(cell(found[name]) for name in SHOWN) + " |")
    lines.append(
        "| real clips, not trained on | " + " | ".join(f"{about['real'][name]:.4f}" for name in SHOWN) + " |"
    )
    clips = rows[0]["clips"]
    loop = about["training"]["loop"]
    lines += ["", f"Mean and standard error over {seeds} seeds; {len(rows)} of {len(STRATEGIES) * seeds} runs. "
              f"{loop['steps']} steps of {loop['batch_size']} clips of {about['training']['data']['seconds']:g} s each; "
              f"{clips['GENERATED']} generated clips, {clips['REFERENCE']} reference clips, {clips['TRAIN']} windows of "
              f"training clips. Embeddings: {rows[0]['feature']['name']}, SHA-256 {rows[0]['feature']['sha256'][:16]}. "
              "Lower is better for the distances, SIM_AA and the nearest clip's cosine; the last row compares real clips "
              "with real clips (the distances: TRAIN with REFERENCE). 0.90 and 0.95 are thresholds for the paper's CLAP: with "
            "another, compare the rows with each other."]  # fmt: skip
    return "\n".join(lines) + "\n"


def cell(found: dict[str, Any]) -> str:
    """0.1234 +- 0.0056."""
    error = found["standard_error"]
    return f"{found['mean']:.4f}" + ("" if error is None else f" ± {error:.4f}")


if __name__ == "__main__":
    sys.exit(main())
