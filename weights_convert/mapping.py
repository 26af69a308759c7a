"""The engine: a table of rules, run in either direction, that must account for every tensor on both sides.

A rule names a target and the sources that it is made of. `{i}` in a name stands for one dotted component,
`{rest}` for any number of them, and means the same on both sides. Resolution starts from the *target*: the
names and shapes of the module to be filled. Whatever does not fit goes into one error that lists everything.

Equal keys and shapes do not prove that a table is right (a wrong head count loads and is off by 47 %). The
forward tests do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

__all__ = [
    "CONCAT",
    "COPY",
    "FOLD",
    "SQUEEZE",
    "MappingError",
    "Op",
    "Rule",
    "Table",
    "convert",
    "invert",
    "rule",
]


class MappingError(ValueError):
    """Weights that do not fit: every missing, unexpected and mis-shaped tensor, in one message."""


@dataclass(frozen=True)
class Op:
    """How sources become a target, and how a target becomes that many sources again."""

    name: str
    forward: Callable[[Sequence[Tensor]], Tensor]
    inverse: Callable[[Tensor, int], Sequence[Tensor]] | None


def _fold(sources: Sequence[Tensor]) -> Tensor:
    """Weight norm: g v / |v|, the norm over all axes but the first, for transposed convolutions too."""
    g, v = sources
    return v * (g / v.flatten(1).norm(dim=1).reshape(g.shape))


COPY = Op("copy", lambda sources: sources[0], lambda target, n: [target])
CONCAT = Op(
    "concatenate on axis 0", lambda sources: torch.cat(list(sources)), lambda target, n: target.chunk(n)
)
SQUEEZE = Op(
    "1x1 convolution to linear", lambda s: s[0].flatten(1), lambda target, n: [target[..., None, None]]
)
FOLD = Op("fold weight norm", _fold, None)


@dataclass(frozen=True)
class Spelling:
    """One way in which a layout writes a target: source names, and what is done with them."""

    sources: tuple[str, ...]
    op: Op

    def names(self, slots: Mapping[str, str]) -> list[str]:
        """The source names, placeholders filled in."""
        return [source.format(**slots) for source in self.sources]


@dataclass(frozen=True)
class Rule:
    """How a target is spelt in the other layout: the preferred spelling first, then older ones that are
    accepted."""

    target: str
    spellings: tuple[Spelling, ...]

    def also(self, *sources: str, op: Op | None = None) -> Rule:
        """The same rule, accepting another spelling of its sources."""
        return Rule(self.target, (*self.spellings, *rule(self.target, *sources, op=op).spellings))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the target names of this rule; its groups are the placeholders."""
        return _pattern(self.target)


def rule(target: str, *sources: str, op: Op | None = None) -> Rule:
    """A copy of one source, a concatenation of several, or what `op` says."""
    return Rule(target, (Spelling(sources, op or (COPY if len(sources) == 1 else CONCAT)),))


@dataclass(frozen=True)
class Table:
    """All rules between a layout and one of our modules.

    ignore: source name -> why nothing is lost without it. added: source name -> constant that the layout
    wants and our module does not have, written by `invert`, ignored by `convert`.
    """

    name: str
    rules: tuple[Rule, ...]
    ignore: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Callable[[Mapping[str, Tensor]], Tensor]] = field(default_factory=dict)

    def find(self, target: str) -> tuple[Rule, dict[str, str]]:
        """The one rule for a target name, and what its placeholders stand for.

        Raises MappingError if no rule, or more than one, matches.
        """
        matches = [(r, m.groupdict()) for r in self.rules if (m := r.pattern.fullmatch(target))]
        if len(matches) != 1:
            raise MappingError(
                f"{self.name}: {len(matches)} rules for {target!r}, expected 1: "
                f"{[r.target for r, _ in matches]}"
            )
        return matches[0]

    def why_ignored(self, source: str) -> str | None:
        """The reason for leaving a source tensor out, or None if it must be used."""
        if source in self.added:
            return "constant of the layout"
        return next((why for name, why in self.ignore.items() if _pattern(name).fullmatch(source)), None)

    def unused(self, targets: Sequence[str]) -> list[Rule]:
        """Rules that match none of these names: a table must not rot."""
        return [r for r in self.rules if not any(r.pattern.fullmatch(name) for name in targets)]


def convert(
    table: Table,
    sources: Mapping[str, Tensor],
    targets: Mapping[str, Sequence[int]],
    where: str = "the weights",
) -> dict[str, Tensor]:
    """Fill every target from the sources. targets: name -> shape. `where` names the file in the error.

    Raises MappingError with every tensor that is missing, unexpected, mis-shaped or used twice.
    """
    filled: dict[str, Tensor] = {}
    problems: list[str] = []
    used: Counter[str] = Counter()
    for name, shape in targets.items():
        found, slots = table.find(name)
        spelling = _present(found, slots, sources)
        wanted = spelling.names(slots)
        used.update(wanted)
        absent = [source for source in wanted if source not in sources]
        if absent:
            problems += [f"missing      {source}" for source in absent]
            continue
        parts = [sources[source] for source in wanted]
        try:
            tensor = spelling.op.forward(parts)
        except (RuntimeError, ValueError, IndexError):
            tensor = None
        if tensor is None or tensor.shape != torch.Size(shape):
            got = ", ".join(
                f"{source} {tuple(part.shape)}" for source, part in zip(wanted, parts, strict=True)
            )
            problems.append(
                f"wrong shape  {got}: expected {tuple(shape)} after '{spelling.op.name}' for {name}"
            )
            continue
        filled[name] = tensor
    problems += [f"used twice   {source}" for source, times in used.items() if times > 1]
    problems += [
        f"unexpected   {source}" for source in sources if not used[source] and not table.why_ignored(source)
    ]
    if problems:
        raise MappingError(_report(table.name, where, problems))
    return filled


def invert(table: Table, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layout's own tensors from our module's, bit for bit what `convert` would read.

    Raises MappingError where an operation has no inverse.
    """
    sources: dict[str, Tensor] = {}
    for name, tensor in targets.items():
        found, slots = table.find(name)
        spelling = found.spellings[0]
        if spelling.op.inverse is None:
            raise MappingError(f"{table.name}: '{spelling.op.name}' of {name} has no inverse")
        names = spelling.names(slots)
        for source, part in zip(names, spelling.op.inverse(tensor, len(names)), strict=True):
            sources[source] = part.contiguous()
    return sources | {name: make(targets) for name, make in table.added.items()}


def _present(found: Rule, slots: Mapping[str, str], sources: Mapping[str, Tensor]) -> Spelling:
    complete = (spelling for spelling in found.spellings if all(n in sources for n in spelling.names(slots)))
    return next(complete, found.spellings[0])


def _pattern(template: str) -> re.Pattern[str]:
    """`{i}` -> one component, `{rest}` -> any number of them; a repeated placeholder must repeat its
    value."""
    parts: list[str] = []
    seen: set[str] = set()
    for literal, name in re.findall(r"([^{]+)|\{([^}]+)\}", template):
        if literal:
            parts.append(re.escape(literal))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            parts.append("(?P<rest>.+)" if name == "rest" else f"(?P<{name}>[^.]+)")
            seen.add(name)
    return re.compile("".join(parts))


MOST_LISTED = 40


def _report(table: str, where: str, problems: list[str]) -> str:
    kinds = Counter(problem[:13].strip() for problem in problems)
    counted = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    lines = problems[:MOST_LISTED] + [f"... and {len(problems) - MOST_LISTED} more"] * (
        len(problems) > MOST_LISTED
    )
    return f"{table}: {where} does not fit this model ({counted}):\n  " + "\n  ".join(lines)
