"""`--features clap,panns=FILE,my_module:name` -> features, loaded."""

from __future__ import annotations

import importlib
import os
import sys

import torch

from .features import Feature

__all__ = ["choose"]

KNOWN = "clap, clap=ID_OR_FOLDER, logmel, panns=FILE, vggish=FILE, or module:name"


def choose(text: str, model: str, device: torch.device) -> dict[str, Feature]:
    """Name in the report -> feature, in the order given. model: whose CLAP `clap` alone is.

    module:name is a `Feature` (such as a `CallableFeature`) in a module that Python finds, the working folder
    included. Raises ValueError for a word that is none of KNOWN, or twice in it, and as the features do.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError(f"--features: got nothing, expected some of {KNOWN}")
    chosen: dict[str, Feature] = {}
    for word in words:
        name, feature = _one(word, model, device)
        if name in chosen:
            name = word  # clap=A,clap=B
        if name in chosen:
            raise ValueError(f"--features: {word} stands in it twice")
        chosen[name] = feature
    return chosen


def _one(word: str, model: str, device: torch.device) -> tuple[str, Feature]:
    kind, given, where = word.partition("=")
    if kind == "clap":
        from .clap_feature import ClapFeature

        return "clap", ClapFeature.load(where if given else model, device)
    if word == "logmel":
        from .logmel import log_mel_feature

        return "logmel", log_mel_feature()
    if kind in ("panns", "vggish") and not where:
        raise ValueError(f"--features: {kind} needs its weights, {kind}=FILE; see evaluation/README.md")
    if kind == "panns":
        from .panns import Panns

        return "panns", Panns.load(where, device)
    if kind == "vggish":
        from .vggish import Vggish

        return "vggish", Vggish.load(where, device)
    module, colon, name = word.partition(":")
    if colon and module and name:
        return word, _own(module, name)
    raise ValueError(f"--features: got {word!r}, expected some of {KNOWN}")


def _own(module: str, name: str) -> Feature:
    folder = os.getcwd()
    if folder not in sys.path:  # as `python -m` has it, and the installed command has not
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--features {module}:{name}: {error}") from error
    missing = [part for part in ("id", "rate", "dim", "classes") if part not in dir(found)]
    if missing or not callable(found):
        raise ValueError(
            f"--features {module}:{name}: {type(found).__name__} is no Feature; it lacks "
            f"{', '.join(missing) or '__call__'}; wrap a function in evaluation.features.CallableFeature"
        )
    return found
