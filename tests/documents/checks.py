"""What can be said of a command without running it: that its program, subcommand, options and files exist."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from musicldm.cli import parser
from musicldm.training.command import example

from .inputs import INPUTS
from .reading import Snippet
from .reductions import PLACEHOLDER, QUOTED, is_mention, not_run, reduced

ROOT = Path(__file__).parents[2]
PROGRAMS = ("musicldm", "torchrun", "python")


def problem(snippet: Snippet) -> str:
    """What is wrong with a snippet, or nothing."""
    if snippet.page not in INPUTS:
        return "the page is new: say in tests/documents/inputs.py what it takes for granted"
    if snippet.language == "python":
        return _compiles(reduced(snippet))
    if is_mention(snippet):
        return _mention(snippet.text)
    listed = not_run(snippet)
    text = snippet.text if listed else reduced(snippet)
    if not listed and PLACEHOLDER.search(re.sub(QUOTED, "", text)):
        return "a placeholder stands in it: give a name, or a substitution in tests/documents/reductions.py"
    found = (_simple(words, listed=bool(listed)) for words in _words(text))
    return next((wrong for wrong in found if wrong), "")


def undefined(texts: Sequence[str]) -> set[str]:
    """Names that Python snippets, one after the other, use and nothing on their page defines."""
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)} | set(dir(builtins))
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
    return {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound


def _compiles(text: str) -> str:
    try:
        compile(text, "<snippet>", "exec")
    except SyntaxError as error:
        return f"no Python: {error}"
    return ""


def _words(text: str) -> Iterator[list[str]]:
    """The words of each command between `&&`, `|`, `;` and redirections; what `$(...)` gives is left out."""
    lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "", text), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("&|;<>()"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def _simple(words: list[str], *, listed: bool) -> str:
    if not words or (listed and words[0] not in PROGRAMS):
        return ""
    if words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
        return _program(words)
    if "-m" in words[:4] and words[words.index("-m") + 1] == "musicldm":
        words = words[words.index("-m") + 1 :]
    if words[0] == "musicldm":
        return _command(words[1:])
    if words[0] not in PROGRAMS and not words[0].endswith((".jsonl", ".txt")):  # a redirection's file
        return (
            f"it is neither run nor listed: nothing is known of {words[0]!r} (tests/documents/reductions.py)"
        )
    return ""


def _program(words: list[str]) -> str:
    """Options of a program that takes long to import are looked for in its text, and in the benchmarks' harness."""
    path = ROOT / words[1]
    if not path.is_file():
        return f"there is no {words[1]}"
    text = path.read_text() + (ROOT / "benchmarks" / "harness.py").read_text()
    unknown = [word for word in words if word.startswith("--") and f'"{word}"' not in text]
    return f"{words[1]} has no {', '.join(unknown)}" if unknown else ""


def _command(arguments: list[str]) -> str:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            options = parser().parse_args(arguments)
    except SystemExit as left:
        return said.getvalue() if left.code else ""
    if getattr(options, "stage", None) and options.config:
        try:
            example(options.config)
        except ValueError as error:
            return str(error)
    return ""


def _mention(text: str) -> str:
    """A subcommand, and options that it has."""
    match = re.search(r"musicldm(?: (\w+))?", text)
    if match is None or match[1] is None:
        return ""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            parser().parse_args([match[1], "--help"])
    except SystemExit as left:
        if left.code:
            return shown.getvalue()
    after = text[match.end() :]
    unknown = [word for word in re.findall(r"--[\w-]+", after) if word not in shown.getvalue()]
    return f"musicldm {match[1]} has no {', '.join(unknown)}" if unknown else ""
