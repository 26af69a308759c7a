"""`musicldm evaluate`: options -> a folder with the report."""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from musicldm.io.cache import Cache
from musicldm.io.distributed import Group
from musicldm.io.files import as_json, atomic

from .choosing import choose
from .examine import Limits, Looked, examine, settle
from .extracting import extract, extract_text
from .features import CallableFeature, Feature, TextFeature
from .handling import LOUDNESS, Excerpt, Handling, excerpts
from .intake import ROLES, ClipSet, read_set, with_prompts
from .measured import Draws, Heard, Measured
from .measuring import measure
from .problems import Problem, RefusedError, check_skip, refuse
from .report import Inputs, write_report

__all__ = ["run_evaluation"]

log = logging.getLogger(__name__)

WRITTEN = ("torch", "transformers", "numpy", "soundfile", "soxr")
COMPARES = (TextFeature, CallableFeature)  # what novelty is measured by; by taggers if there is nothing else
NOT_TOLD = {"run", "quiet", "device", "cache"}  # options that change no number


def run_evaluation(
    options: argparse.Namespace, environment: Mapping[str, str] = os.environ
) -> tuple[int, str]:
    """The whole command: its exit status, and the table to show.

    Raises ValueError for what cannot be evaluated; of several processes the first logs it, and all return 1.
    """
    skip, draws = check_skip(options.skip), _draws(options)
    with Group.opened(options.device, environment) as group, _one_thread(group.device):
        try:
            made = _evaluate(options, skip, draws, group)
        except ValueError as error:
            if isinstance(error, RefusedError) and group.first:
                _write_problems(options.output, error.problems)
            if group.world == 1:
                raise
            if group.first:
                log.error("error: %s", error)
            group.gather_objects(None)  # torchrun ends the others when the first one leaves
            return 1, ""
        text = ""
        if made is not None:
            text = write_report(options.output, *made, count=options.examples, embed=options.embed)
        group.gather_objects(None)
        return 0, text


def _evaluate(
    options: argparse.Namespace, skip: frozenset[str], draws: Draws, group: Group
) -> tuple[Inputs, Measured] | None:
    """What was given and measured, for the first process. Raises ValueError on all of them, or on none."""
    sets, about_prompts = _sets(options)
    cache = options.output / "cache" if options.cache is None else options.cache
    limits = Limits(options.shortest, options.resample, options.downmix)
    bar = _bar("looking", group, options.quiet)
    looked, problems = examine(sets, limits, cache / "files", group, bar)
    looked, problems = settle(sets, looked, problems)
    refuse(problems, skip)
    for problem in problems if group.first else ():
        log.warning("left out %s %s: %s (%s)", problem.role, problem.path, problem.kind, problem.text)
    chosen = group.first_alone(lambda: choose(options.features, options.model, group.device))
    rate = options.resample or looked["GENERATED"][0].facts.rate
    handling = Handling(rate, options.loudness)
    cut = {role: _cut(role, items, options) for role, items in looked.items()}
    store = Cache(cache / "features")
    heard = []
    for name, feature in chosen.items():
        found = _hear(name, feature, chosen, cut, handling, store, group, options.quiet)
        heard += [found] if found is not None else []
    if not group.first:
        return None
    given = Inputs(
        sets={given.role: given for given in sets},
        looked=looked,
        cut=cut,
        problems=problems,
        handling=handling,
        features=chosen,
        settings=_settings(options, about_prompts, group),
        command=_command_line(options),
    )
    return given, measure(heard, cut, draws)


def _sets(options: argparse.Namespace) -> tuple[list[ClipSet], dict[str, Any]]:
    sources = {
        "GENERATED": (options.generated, options.generated_split),
        "REFERENCE": (options.reference, options.reference_split),
        "TRAIN": (options.train, options.train_split),
    }
    sets = [read_set(role, *sources[role]) for role in ROLES if sources[role][0] is not None]
    about: dict[str, Any] = {}
    if options.prompts is not None:
        sets[0], about = with_prompts(sets[0], options.prompts)
    return sets, about


def _cut(role: str, items: list[Looked], options: argparse.Namespace) -> list[Excerpt]:
    if role == "TRAIN":
        return excerpts(items, None, options.window)
    return excerpts(items, options.seconds, None)


def _hear(
    name: str,
    feature: Feature,
    chosen: Mapping[str, Feature],
    cut: Mapping[str, Sequence[Excerpt]],
    handling: Handling,
    store: Cache,
    group: Group,
    quiet: bool,
) -> Heard | None:
    """Of all sets that the feature is needed for, for the first process."""
    compares = any(isinstance(other, COMPARES) for other in chosen.values())
    novelty = isinstance(feature, COMPARES) or not compares
    roles = [role for role in cut if role != "TRAIN" or novelty]
    found = {
        role: extract(feature, cut[role], handling, store, group, _bar(f"{name} of {role}", group, quiet))
        for role in roles
    }
    texts: dict[str, Any] = {}
    if isinstance(feature, TextFeature):
        for role in ("GENERATED", "REFERENCE"):
            prompts = [excerpt.item.sound.prompt for excerpt in cut.get(role, ())]
            told = [prompt for prompt in prompts if prompt]
            if told:
                embedded = extract_text(feature, told, store, group)
                places = [place for place, prompt in enumerate(prompts) if prompt]
                texts[role] = (places, embedded)
    generated = found["GENERATED"]
    if generated is None:
        return None
    return Heard(name, feature, generated, found.get("REFERENCE"), found.get("TRAIN"), texts)


def _draws(options: argparse.Namespace) -> Draws:
    """Raises ValueError for numbers that make no sense."""
    try:
        thresholds = tuple(float(word) for word in options.thresholds.split(","))
        if not all(-1 <= threshold <= 1 for threshold in thresholds):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--thresholds: got {options.thresholds!r}, expected cosines such as 0.90,0.95"
        ) from None
    at_least = {"bootstrap": 0, "seed": 0, "examples": 0, "shortest": 0, "window": 0}
    low = [f"--{name}: got {getattr(options, name)}, expected 0 or more" for name in at_least
           if not 0 <= getattr(options, name) < math.inf]  # fmt: skip
    low += [f"--{name}: got {getattr(options, name)}, expected more than 0"
            for name in ("seconds", "resample")
            if getattr(options, name) is not None and not 0 < getattr(options, name) < math.inf]  # fmt: skip
    if options.loudness not in LOUDNESS:
        low.append(f"--loudness: got {options.loudness!r}, expected one of {', '.join(LOUDNESS)}")
    if options.output.exists() and not options.output.is_dir():
        low.append(f"--output {options.output} is a file, expected a folder")
    if low:
        raise ValueError("; ".join(low))
    return Draws(options.seed, options.bootstrap, thresholds)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, sums depend on how many threads share them; many processes do the work faster anyway."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _bar(what: str, group: Group, quiet: bool) -> Any:
    return lambda work: tqdm(work, desc=what, unit="clip", disable=quiet or not group.first, leave=False)


def _settings(options: argparse.Namespace, prompts: Mapping[str, Any], group: Group) -> dict[str, Any]:
    told = {name: str(value) if isinstance(value, Path) else value
            for name, value in sorted(vars(options).items()) if name not in NOT_TOLD}  # fmt: skip
    versions = {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("musicldm", *WRITTEN)},
    }
    return {"options": told, "prompts": dict(prompts), "versions": versions, "computed_on": group.device.type}


def _command_line(options: argparse.Namespace) -> str:
    """One that does the same, whatever was typed."""
    words = ["musicldm", "evaluate", str(options.generated)]
    for name, value in sorted(vars(options).items()):
        if name in NOT_TOLD | {"generated"} or value is None or value is False or value == "":
            continue
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(words)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "not installed"


def _write_problems(output: Path, problems: Sequence[Problem]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with atomic(output / "problems.jsonl") as file:
        file.writelines(as_json(problem.as_dict()) for problem in problems)
