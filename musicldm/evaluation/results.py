"""A measured number with what it takes to read it, and tables of such: console, Markdown, page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

__all__ = ["SECTIONS", "LeftOut", "Result", "html_table", "markdown_table", "number", "text_table"]

SECTIONS = {
    "quality": "Quality: like the reference?",
    "relevance": "Relevance: what the prompt asks for?",
    "novelty": "Novelty: unlike the training clips?",
    "diversity": "Diversity: unlike each other?",
}
HEADER = ("metric", "value", "95 % interval", "of", "n", "feature", "better")
RIGHT = 1  # its column is aligned to the right


@dataclass(frozen=True, kw_only=True)
class Result:
    """section: of SECTIONS. of: which sets. low, high: the bootstrap's 95 % interval, None without.

    n: how many clips, or rows, of each set. details: whatever else the metric says, for the JSON.
    """

    section: str
    metric: str
    feature: str
    of: str
    value: float
    low: float | None = None
    high: float | None = None
    n: str = ""
    better: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of HEADER."""
        interval = (
            "" if self.low is None or self.high is None else f"{number(self.low)} to {number(self.high)}"
        )
        return (self.metric, number(self.value), interval, self.of, self.n, self.feature, self.better)


@dataclass(frozen=True)
class LeftOut:
    """A metric that was not computed, and what it lacks."""

    metric: str
    why: str


def number(value: float) -> str:
    """Four digits; small and large ones by their power of ten."""
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.3e}"
    return f"{value:#.4g}".removesuffix(".")


def _grouped(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    groups = [
        (title, [row for row in results if row.section == section]) for section, title in SECTIONS.items()
    ]
    return [(title, rows) for title, rows in groups if rows]


def text_table(results: Sequence[Result], left_out: Sequence[LeftOut]) -> str:
    """For a console, columns aligned."""
    lines = []
    cells = [HEADER, *(row.cells() for row in results)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(HEADER))]
    for title, rows in _grouped(results):
        lines.append(title)
        for row in [HEADER, *(row.cells() for row in rows)]:
            padded = [
                cell.rjust(w) if k == RIGHT else cell.ljust(w)
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(padded).rstrip())
        lines.append("")
    lines += [f"left out: {left.metric} ({left.why})" for left in left_out]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(results: Sequence[Result], left_out: Sequence[LeftOut]) -> str:
    """Tables under headings."""
    lines = []
    for title, rows in _grouped(results):
        lines += [f"## {title}", "", _line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line([cell.replace("|", "\\|") for cell in row.cells()]) for row in rows]
        lines.append("")
    if left_out:
        lines += ["## Left out", "", *(f"- {left.metric}: {left.why}" for left in left_out), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def html_table(results: Sequence[Result], left_out: Sequence[LeftOut]) -> str:
    """Tables under headings; each scrolls by itself where the screen is narrow."""
    parts = []
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER if name != "of")
    for title, rows in _grouped(results):
        body = "".join(map(_html_row, rows))
        parts.append(
            f'<h2>{escape(title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>\n"
        )
    if left_out:
        items = "".join(f"<li>{escape(left.metric)}: {escape(left.why)}</li>" for left in left_out)
        parts.append(
            f"<details><summary>left out ({len(left_out)}), and why</summary><ul>{items}</ul></details>\n"
        )
    return "".join(parts)


def _html_row(result: Result) -> str:
    """What it is of stands under the metric, where a narrow screen shows it."""
    named = dict(zip(HEADER, map(escape, result.cells()), strict=True))
    first = f"{named.pop('metric')}<span>{named.pop('of')}</span>"
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (first, *named.values())) + "</tr>"
