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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

__all__ = [
    "CONCAT",
    "COPY",
    "FOLD",
    "ONES",
    "SQUEEZE",
    "ZEROS",
    "MappingError",
    "Op",
    "Rule",
    "Table",
    "convert",
    "invert",
    "rows",
    "rule",
    "source_names",
]


class MappingError(ValueError):
    """Weights that do not fit: every missing, unexpected and mis-shaped tensor, in one message."""


@dataclass(frozen=True)
class Op:
    """How sources become a target of a given shape, and how a target becomes that many sources again.

    part: (i, n) if the target is the i-th of n equal shares of its source along axis 0. All shares must be
    claimed, and `invert` joins them. On the meta device, where shapes are checked, `forward` keeps to what
    torch does without its compiler, whose import takes two seconds.
    """

    name: str
    forward: Callable[[Sequence[Tensor], torch.Size], Tensor]
    inverse: Callable[[Tensor, int], Sequence[Tensor]] | None
    part: tuple[int, int] = (0, 1)


def _fold(sources: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Weight norm: g v / |v|, the norm over all axes but the first, for transposed convolutions too."""
    g, v = sources
    if v.is_meta:
        g.reshape(v.new_empty(len(v)).shape)
        return v
    return v * (g / v.flatten(1).norm(dim=1).reshape(g.shape))


def _concatenate(sources: Sequence[Tensor], shape: torch.Size) -> Tensor:
    if not sources[0].is_meta:
        return torch.cat(list(sources))
    if len({source.shape[1:] for source in sources}) > 1:
        raise ValueError("rows of different shapes")
    return sources[0].new_empty((sum(map(len, sources)), *sources[0].shape[1:]))


def rows(i: int, n: int) -> Op:
    """The i-th of n equal shares of the source's rows, as of a query, key, value matrix."""
    return Op(f"rows {i}/{n}", lambda s, shape: s[0].chunk(n)[i], lambda target, k: [target], (i, n))


COPY = Op("copy", lambda s, shape: s[0], lambda target, n: [target])
CONCAT = Op("concatenate on axis 0", _concatenate, lambda target, n: target.chunk(n))
SQUEEZE = Op(
    "1x1 convolution to linear", lambda s, shape: s[0].flatten(1), lambda target, n: [target[..., None, None]]
)
FOLD = Op("fold weight norm", _fold, None)
ZEROS = Op("zeros", lambda s, shape: torch.zeros(shape), lambda target, n: [])
ONES = Op("ones", lambda s, shape: torch.ones(shape), lambda target, n: [])


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
    """A copy of one source, a concatenation of several, or what `op` says (which may need no source)."""
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
        candidates = (*self._literal.get(target, ()), *self._patterns)
        matches = [(r, m.groupdict()) for r in candidates if (m := r.pattern.fullmatch(target))]
        if len(matches) != 1:
            raise MappingError(
                f"{self.name}: {len(matches)} rules for {target!r}, expected 1: "
                f"{[r.target for r, _ in matches]}"
            )
        return matches[0]

    @cached_property
    def _literal(self) -> dict[str, list[Rule]]:
        """Rules without placeholders, by name: a table of hundreds of them stays quick."""
        literal: dict[str, list[Rule]] = {}
        for r in self.rules:
            if "{" not in r.target:
                literal.setdefault(r.target, []).append(r)
        return literal

    @cached_property
    def _patterns(self) -> list[Rule]:
        return [r for r in self.rules if "{" in r.target]

    def why_ignored(self, source: str) -> str | None:
        """The reason for leaving a source tensor out, or None if it must be used."""
        if source in self.added:
            return "constant of the layout"
        return next((why for name, why in self.ignore.items() if _pattern(name).fullmatch(source)), None)

    def unused(self, targets: Sequence[str]) -> list[Rule]:
        """Rules that match none of these names: a table must not rot.

        Rules alike but for their numbers are one line of a table written out; one of them has to match (not
        every block that could have a skip convolution changes its width).
        """
        unused = [r for r in self.rules if not any(r.pattern.fullmatch(name) for name in targets)]
        alive = {_line(r) for r in self.rules if r not in unused}
        return [r for r in unused if _line(r) not in alive]


def _line(rule_: Rule) -> str:
    return re.sub(r"\d+", "#", rule_.target)


def convert(
    table: Table, sources: Mapping[str, Tensor], targets: Mapping[str, Tensor], where: str = "the weights"
) -> dict[str, Tensor]:
    """Fill every target from the sources, which may lie on the meta device: then nothing is computed.

    targets: name -> a tensor (on the meta device, say) that shows its shape, and whether it holds floats.
    `where` names the file in the error.

    Raises MappingError with every tensor that is missing, unexpected, mis-shaped, mis-typed or used twice.
    """
    filled: dict[str, Tensor] = {}
    problems: dict[str, None] = {}  # in order, each once
    used: dict[str, Fraction] = {}
    for name, target in targets.items():
        found, slots = table.find(name)
        spelling = _present(found, slots, sources)
        wanted = spelling.names(slots)
        for source in wanted:
            used[source] = used.get(source, Fraction(0)) + Fraction(1, spelling.op.part[1])
        absent = [source for source in wanted if source not in sources]
        if absent:
            problems.update((f"missing      {source}", None) for source in absent)
            continue
        parts = {source: sources[source] for source in wanted}
        tensor = _applied(spelling.op, list(parts.values()), target.shape)
        problem = _misfit(tensor, target, parts, f"'{spelling.op.name}' for {name}")
        if problem is not None:
            problems[problem] = None
        elif tensor is not None:
            filled[name] = tensor
    problems.update((problem, None) for problem in _unaccounted(table, sources, used))
    if problems:
        raise MappingError(_report(table.name, where, list(problems), any(s in sources for s in used)))
    return filled


def _misfit(tensor: Tensor | None, target: Tensor, parts: Mapping[str, Tensor], what: str) -> str | None:
    if tensor is None:
        got = ", ".join(f"{source} {tuple(part.shape)}" for source, part in parts.items())
        return f"wrong shape  {got}: expected {tuple(target.shape)} after {what}"
    if tensor.is_floating_point() != target.is_floating_point():
        return f"wrong type   {', '.join(parts)}: got {tensor.dtype}, expected the like of {target.dtype}"
    return None


def _unaccounted(table: Table, sources: Mapping[str, Tensor], used: Mapping[str, Fraction]) -> list[str]:
    claims = {source: share for source, share in used.items() if source in sources}
    return [
        *(f"used twice   {source}" for source, share in claims.items() if share > 1),
        *(f"partly used  {source}: {share} of its rows" for source, share in claims.items() if share < 1),
        *(
            f"unexpected   {source}"
            for source in sources
            if source not in used and not table.why_ignored(source)
        ),
    ]


def _applied(op: Op, parts: Sequence[Tensor], shape: torch.Size) -> Tensor | None:
    """The target, or None if these sources do not give its shape."""
    try:
        tensor = op.forward(parts, shape)
    except (RuntimeError, ValueError, IndexError):
        return None
    return tensor if tensor.shape == shape else None


def invert(table: Table, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layout's own tensors from our module's, bit for bit what `convert` would read.

    Raises MappingError where an operation has no inverse, or a share of a source is missing.
    """
    shares: dict[str, dict[int, Tensor]] = {}
    counts: dict[str, int] = {}
    for name, tensor in targets.items():
        found, slots = table.find(name)
        spelling = found.spellings[0]
        if spelling.op.inverse is None:
            raise MappingError(f"{table.name}: '{spelling.op.name}' of {name} has no inverse")
        names = spelling.names(slots)
        index, of = spelling.op.part
        for source, part in zip(names, spelling.op.inverse(tensor, len(names)), strict=True):
            shares.setdefault(source, {})[index] = part
            counts[source] = of
    incomplete = [source for source, parts in shares.items() if len(parts) != counts[source]]
    if incomplete:
        raise MappingError(f"{table.name}: cannot be inverted, rows are missing of {', '.join(incomplete)}")
    sources = {
        source: parts[0].contiguous() if len(parts) == 1 else torch.cat([parts[i] for i in sorted(parts)])
        for source, parts in shares.items()
    }
    return sources | {name: make(targets) for name, make in table.added.items()}


def source_names(table: Table, targets: Iterable[str]) -> list[str]:
    """What a layout calls the sources of these targets, in its preferred spelling, each once."""
    names: dict[str, None] = {}
    for target in targets:
        found, slots = table.find(target)
        names.update(dict.fromkeys(found.spellings[0].names(slots)))
    return list(names)


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


def _report(table: str, where: str, problems: list[str], any_used: bool) -> str:
    kinds = Counter(problem[:13].strip() for problem in problems)
    counted = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    lines = problems[:MOST_LISTED]
    if len(problems) > MOST_LISTED:
        lines.append(f"... and {len(problems) - MOST_LISTED} more")
    if not any_used:
        lines.append("not one tensor has a name of this model: is this another component's file?")
    return f"{table}: {where} does not fit this model ({counted}):\n  " + "\n  ".join(lines)
