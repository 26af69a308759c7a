"""The commands and Python snippets of a Markdown page, in the order in which a reader meets them.

What counts: every line of a ```bash block, every ```python block, and each block without a language, indented block
or `code span` that begins with a command. Continued lines are one command, and `A && B` is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:musicldm|python3?|torchrun|pip|apt-get|pytest|bash|git|ruff|mypy)(?: |$)"
)
FENCE = re.compile(r"^( *)(`{3,})(\w*) *$")
INDENT = " " * 4


@dataclass(frozen=True)
class Snippet:
    """text: without comments and continuations for a command, as it stands for Python."""

    page: str
    line: int
    language: str  # "bash" or "python"
    text: str
    inline: bool = False  # a `code span`, not a line of a block

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def snippets(path: Path, root: Path) -> list[Snippet]:
    """All of a page, in its order."""
    page, lines = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8").splitlines()
    found: list[Snippet] = []
    prose: list[tuple[int, str]] = []  # what is in no block
    for number, language, block in _blocks(lines):
        if language == "prose":
            prose.append((number, block[0]))
            continue
        prose.append((number, ""))  # a block ends a paragraph
        if language == "console":
            raise ValueError(f"{page}:{number}: a ```console block mixes commands with output; use ```bash")
        if language == "python":
            found.append(Snippet(page, number, "python", "\n".join(block)))
        elif language in ("bash", "sh") or (not language and _is_command(_first(block))):
            found += [Snippet(page, number + k, "bash", text) for k, text in commands(block)]
    found += [Snippet(page, number, language, text, inline=True) for number, language, text in _spans(prose)]
    return sorted(found, key=lambda snippet: snippet.line)


def commands(block: list[str]) -> Iterator[tuple[int, str]]:
    """(offset of its first line, command) for each command of a block of shell."""
    waiting, start = "", 0
    for k, line in enumerate(block):
        if not waiting:
            start = k
        bare, closed = _without_comment(waiting + line)
        if closed and bare.endswith("\\"):
            waiting = bare[:-1].rstrip() + " "
        elif not closed:
            waiting = waiting + line + "\n"
        else:
            waiting = ""
            if bare.strip():
                yield start, bare.strip()
    if waiting:
        raise ValueError(f"a command that does not end: {waiting!r}")


def _without_comment(text: str) -> tuple[str, bool]:
    """The text without its shell comment, and whether every quote in it is closed."""
    quote = ""
    for k, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (k == 0 or text[k - 1].isspace()):
            return text[:k].rstrip(), True
    return text.rstrip(), not quote


def _blocks(lines: list[str]) -> Iterator[tuple[int, str, list[str]]]:
    """(line number, language or "prose" or "", lines) of fenced blocks, indented blocks and lines of prose."""
    k = 0
    while k < len(lines):
        fence = FENCE.match(lines[k])
        if fence:
            end = k + 1
            while lines[end].strip() != fence[2]:
                end += 1
            yield k + 2, fence[3], [line[len(fence[1]) :] for line in lines[k + 1 : end]]
            k = end + 1
        elif lines[k].startswith(INDENT) and (k == 0 or not lines[k - 1].strip()):
            end = k
            while end < len(lines) and (lines[end].startswith(INDENT) or not lines[end].strip()):
                end += 1
            yield k + 1, "", [line[len(INDENT) :] for line in lines[k:end]]
            k = end
        else:
            yield k + 1, "prose", [lines[k]]
            k += 1


def _spans(prose: list[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """(line number, language, text) of the code spans that are snippets.

    A span may go on in the next line of its paragraph. In a table's column "code" each is Python.
    """
    yield from _column_of_code(prose)
    text = ""
    for number, line in prose:
        alone = line.startswith("|") or not line.strip()
        text += ("\n\n" if alone else "\n") + f"\0{number}\0{line}" + ("\n\n" if alone else "")
    for paragraph in re.split(r"\n\n+", text):
        for span in re.finditer(r"(?<!`)`([^`]+)`(?!`)", paragraph):
            number = int(re.findall(r"\0(\d+)\0", paragraph[: span.start()])[-1])
            inside = re.sub(r"\s+", " ", re.sub(r"\0\d+\0", "", span[1])).strip()
            if _is_command(inside):
                yield number, "bash", inside


def _column_of_code(prose: list[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    column = None
    for number, line in prose:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif "code" in cells:
            column = cells.index("code")
        elif column is not None and cells[column].startswith("`"):
            yield number, "python", cells[column].strip("`")


def _first(block: list[str]) -> str:
    return next((line for line in block if line.strip()), "")


def _is_command(text: str) -> bool:
    return bool(COMMAND.match(text))
