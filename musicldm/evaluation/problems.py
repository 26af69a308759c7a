"""What is wrong with clips: named, counted, and either refused or left out by choice, never in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

__all__ = ["KINDS", "Problem", "RefusedError", "check_skip", "counted", "refuse"]

SHOWN = 40  # problems in an error; problems.jsonl has all of them

# What may be left out by choice, and how a file comes to be called that.
KINDS = {
    "missing": "there is no such file",
    "unreadable": "not audio that libsndfile reads, or without samples",
    "cut off": "fewer samples than its header promises",
    "non-finite": "samples that are NaN or infinite",
    "silent": "a peak under -60 dB of full scale",
    "too short": "shorter than --shortest",
    "other rate": "not of the others' sample rate; --resample HZ brings all to one",
    "stereo": "more than one channel; --downmix averages them",
    "duplicate": "the same samples as another clip of its set",
    "changed": "not the bytes that the batch's sidecar names",
    "stray": "a clip in a batch's folder that no sidecar of the run names",
    "failed row": "a row of the batch that has no clip",
    "no prompt": "a clip that --prompts has no row for",
    "no clip": "a row of --prompts that no clip belongs to",
    "no partner": "a generated clip without a reference of its name, where others have one",
}


@dataclass(frozen=True)
class Problem:
    """Of one clip: role, the set that it stands in; path, as the set names it; kind, of `KINDS`.

    Of a whole set, kind is "set": such a problem cannot be left out.
    """

    role: str
    path: str
    kind: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


class RefusedError(ValueError):
    """Inputs that were not evaluated; `problems` has every one."""

    def __init__(self, message: str, problems: Sequence[Problem]) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


def check_skip(text: str) -> frozenset[str]:
    """ "silent,duplicate" or "all" -> kinds. Raises ValueError for a word that is none."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["all"]:
        return frozenset(KINDS)
    unknown = [word for word in words if word not in KINDS]
    if unknown:
        raise ValueError(
            f"--skip: got {', '.join(map(repr, unknown))}, expected all, or some of {', '.join(KINDS)}"
        )
    return frozenset(words)


def counted(problems: Sequence[Problem]) -> dict[str, dict[str, int]]:
    """Role -> kind -> how many."""
    roles = dict.fromkeys(problem.role for problem in problems)
    return {role: dict(Counter(p.kind for p in problems if p.role == role).most_common()) for role in roles}


def refuse(problems: Sequence[Problem], skip: frozenset[str]) -> None:
    """Raises RefusedError, with everything that is wrong, if a problem is not to be left out."""
    serious = [problem for problem in problems if problem.kind not in skip]
    if not serious:
        return
    kinds = "; ".join(f"{role}: {_words(found)}" for role, found in counted(problems).items())
    lines = [f"{len(problems)} problems stand in the way of an evaluation ({kinds})"]
    shown = sorted(problems, key=lambda problem: (problem.kind != "set", problem.kind in skip))
    lines += [
        f"  {p.role} {p.path}: {'' if p.kind == 'set' else p.kind + ' '}({p.text})" for p in shown[:SHOWN]
    ]
    if len(shown) > SHOWN:
        lines.append(f"  and {len(shown) - SHOWN} more")
    skippable = sorted({problem.kind for problem in serious} & set(KINDS))
    if skippable:
        lines.append(f'mend them, or leave these clips out by --skip "{",".join(skippable)}"')
    raise RefusedError("\n".join(lines), problems)


def _words(found: Mapping[str, int]) -> str:
    return ", ".join("unusable" if kind == "set" else f"{count} {kind}" for kind, count in found.items())
