"""The settings that every stage has. A stage's own config adds its tables to `RunConfig`."""
# ruff: noqa: RUF009  (`key` makes a dataclass field; nothing it returns is shared)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .config import key

__all__ = ["Data", "Evaluate", "Loop", "Mixup", "Previews", "RunConfig", "Save"]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How long, how much at once, in which precision."""

    steps: int = key("optimiser steps of the whole run, the steps before --resume included")
    batch_size: int = key("clips of one optimiser step, over all processes and micro-batches", 24)
    micro_batch: int = key("clips that a process computes at once; 0: its whole share of a step", 0)
    workers: int = key("processes that read and cut clips; 0: the training process itself", 0)
    precision: Literal["float32", "bfloat16"] = key("of the forward and backward pass; weights are float32",
                                                    "float32")  # fmt: skip
    clip_norm: float = key("gradients are scaled down to this norm; inf: never", float("inf"))
    ema: float = key("decay of the moving average of the weights; 0: none", 0.9999)
    log_every: int = key("steps between lines of log.jsonl", 10)


@dataclass(frozen=True, kw_only=True)
class Save:
    """Checkpoints, and the model that is written when the run ends or is stopped."""

    every: int = key("steps between checkpoints", 1000)
    keep: int = key("of the last checkpoints, how many stay; the best stays besides", 3)
    model: Literal["last", "best"] = key("weights that the model is written with; best: on held-out clips",
                                         "last")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The loss on clips that are not trained on."""

    every: int = key("steps between evaluations; 0: never", 0)
    clips: int = key("held-out clips that are looked at; 0: all", 0)


@dataclass(frozen=True, kw_only=True)
class Previews:
    """Clips and mel pictures that the run makes of its own progress."""

    every: int = key("steps between previews; 0: never", 0)
    clips: int = key("held-out clips (or prompts) that are shown", 2)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on."""

    manifest: str = key("a .jsonl or .csv manifest, or a folder of sound files")
    split: str = key("of the manifest: what is trained on", "train")
    held_out: str = key("of the manifest: the split that is evaluated and previewed; empty: none", "")
    validation: float = key("of a folder: the share of files that make the split 'validation'", 0.0)
    seconds: float = key("length of a clip; 10.24 in the published model", 10.24)
    shortest: float = key("a shorter track is a bad file, in seconds; others are padded with silence", 1.0)
    bad_files: Literal["refuse", "skip"] = key("what to do when some files cannot be used", "refuse")
    repeat_after: int = key("epochs after which the same crops come again, for caches; 0: never", 0)
    cache: str = key("folder for what is computed once of files and clips; empty: cache in the output", "")


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Which clips are mixed with which others; see `mixer.py`."""

    strategy: Literal["none", "plain", "bam", "blm"] = key(
        "none; plain: waves of any two; bam: waves of two in step; blm: their latents", "none"
    )
    probability: float = key("of a clip's being mixed, where it can be; the authors' is not known", 0.5)
    alpha: float = key("the weight is drawn from Beta(alpha, alpha)", 5.0)
    pairs: Literal["neighbours", "bins"] = key(
        "tempi within max_bpm, or the authors' bins of 3", "neighbours"
    )
    max_bpm: float = key("of neighbours", 1.0)
    fold: bool = key("half and double tempo count as the same, for neighbours", False)
    max_offset: float = key(
        "seconds: a pair whose beats lie further apart is drawn again; inf: never; not for crop = authors",
        0.06,
    )
    crop: Literal["downbeat", "authors"] = key("at the aligned downbeats, or anywhere after them", "downbeat")
    padding: Literal["full", "authors"] = key(
        "blm: CLAP hears the whole decoded mix, or 90 % of it and silence, as the authors' does", "full"
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every stage has; a stage's own config adds its own tables."""

    output: str = key("folder of the run: checkpoints, log, previews, and in the end the model")
    seed: int = key("names all randomness of the run", 0)
    device: str = key("auto (a GPU for each process, if there are any), cpu, cuda, cuda:1, ...", "auto")
    data: Data = key("what is trained on")
    mixup: Mixup = key("mixing", Mixup())
    loop: Loop = key("the loop")
    save: Save = key("checkpoints", Save())
    evaluate: Evaluate = key("evaluation", Evaluate())
    preview: Previews = key("previews", Previews())
