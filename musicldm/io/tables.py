"""What people write: .jsonl and .csv files as streams of records, TOML, and what can be wrong with them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Record", "csv_records", "jsonl_records", "opened", "parse_toml"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A row: its cells by name, without those that are empty; or the `fault` for which it cannot be read.

    index: from 0: lines of .jsonl, blank ones counted; records of .csv. line: from 1, where it ends.
    text: how a row that cannot be read begins.
    """

    index: int
    line: int
    cells: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    text: str = ""


@contextmanager
def opened(
    path: Path,
    advice: Callable[[str], str] = lambda guess: "save the file as UTF-8",
    encoding: str = "utf-8",
    newline: str | None = "",
) -> Iterator[TextIO]:
    """A table as text; a mark of UTF-8 at its beginning is no part of it.

    advice: what to do about a file that is in another encoding, given a guess at its name.
    Raises ValueError that names line and byte where the file is not in `encoding`.
    """
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline=newline) as file:
            yield file
    except UnicodeError as error:  # both the decoder's errors and UTF-16's missing mark
        where = _undecodable(path, advice) if encoding == "utf-8" else None
        why = where or f"cannot be read as {encoding} ({error}); say --encoding NAME"
        raise ValueError(f"{path}: {why}") from error


def _undecodable(path: Path, advice: Callable[[str], str]) -> str | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as problem:  # noqa: PERF203 (the first)
                guess = "utf-16" if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
                where = f"line {number}, byte {problem.start + 1} (0x{line[problem.start]:02x})"
                return f"{where} is not UTF-8; {advice(guess)}"
    return None


def jsonl_records(lines: Iterable[str], example: str) -> Iterator[Record]:
    """A JSON object a line; blank lines are no records. example: an object as it should be, for the fault."""
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            yield Record(index=index, line=index + 1, cells=_object(line))
        except (ValueError, RecursionError) as error:
            fault = f"not a JSON object ({str(error)[:200]}); expected {example}"
            yield Record(index=index, line=index + 1, fault=fault, text=line.strip()[:200])


def _object(line: str) -> dict[str, Any]:
    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands in it twice")
        return dict(pairs)

    value = json.loads(line, object_pairs_hook=once)
    if not isinstance(value, dict):
        raise ValueError(f"got {type(value).__name__}, expected an object")
    return value


def csv_records(path: Path, file: TextIO) -> tuple[list[str], Iterator[Record]]:
    """The header's names and the records of a CSV (RFC 4180) that was opened with `newline=""`.

    Raises ValueError, while it is read, where it is no CSV.
    """
    reader = csv.reader(file, strict=True)
    with _no_csv(path, reader):
        header = [name.strip() for name in next(reader, [])]

    def records() -> Iterator[Record]:
        with _no_csv(path, reader):
            for index, record in enumerate(each for each in reader if each):  # a blank line is no record
                line = reader.line_num
                if len(record) == len(header):
                    cells = {name: cell for name, cell in zip(header, record, strict=True) if cell}
                    yield Record(index=index, line=line, cells=cells)
                else:
                    fault = f"has {len(record)} fields, and the header {len(header)}; quote commas"
                    yield Record(index=index, line=line, fault=fault, text=", ".join(record)[:200])

    return header, records()


@contextmanager
def _no_csv(path: Path, reader: Any) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: not CSV ({error}); a field with a quote, a comma or a line "
            'break stands in "quotes", quotes inside it are doubled; or use .jsonl'
        ) from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of TOML. Raises ValueError where it is none, ImportError where nothing can read it."""
    if sys.version_info >= (3, 11):
        import tomllib as toml
    else:
        try:
            import tomli as toml  # type: ignore[import-not-found,unused-ignore]
        except ModuleNotFoundError:
            raise ImportError(
                "Python 3.10 reads no TOML: install tomli, or musicldm's extra `train`"
            ) from None
    tables: dict[str, Any] = toml.loads(text)
    return tables
