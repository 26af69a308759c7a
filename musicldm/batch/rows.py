"""A prompt file as a stream of rows: .txt, .csv or .jsonl, read as it stands, never held in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from musicldm.io.files import file_digest, value_digest
from musicldm.io.tables import Record, csv_records, jsonl_records, opened

__all__ = ["FIELDS", "BadRow", "PromptFile", "Row", "Survey"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt and what its row says of its own; None is the run's. seconds in s; seed names the noise."""

    index: int  # from 0: lines of .txt and .jsonl, blank ones counted; records of .csv
    prompt: str
    id: str | None = None
    negative: str | None = None
    seconds: float | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name all the row says."""
        return value_digest(asdict(self))[:16]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be a request, and why."""

    index: int
    prompt: str  # or what stands in its place
    reason: str


@dataclass(frozen=True)
class Survey:
    """What one pass over the file found. rows: all; mine: those that `is_mine` counted."""

    rows: int
    mine: int
    bytes: int
    sha256: str


FIELDS = tuple(field.name for field in fields(Row) if field.name != "index")
_READ: dict[str, Callable[[str], Any]] = {"seconds": float, "steps": int, "guidance": float, "seed": int}
_KINDS: dict[str, tuple[type, ...]] = {
    "prompt": (str,), "id": (str, int), "negative": (str,), "seconds": (int, float), "steps": (int,),
    "guidance": (int, float), "seed": (int,),
}  # fmt: skip
_WORDS = {
    "prompt": "a string", "id": "a string or a whole number", "negative": "a string", "seconds": "a number",
    "steps": "a whole number", "guidance": "a number", "seed": "a whole number",
}  # fmt: skip


class PromptFile:
    """Iterate for the rows, in order; every iteration opens the file anew.

    A .txt file has a prompt a line, taken literally; blank lines are no rows, and are counted all the same.
    A .csv file (RFC 4180) has a header, a .jsonl file an object a line; both may hold any of `FIELDS`, and an
    empty cell or null means that the run decides. `columns` maps our names to the file's: then those columns
    are read and no others; without it a column that nobody knows is an error.

    Raises ValueError for what is wrong with the file as a whole; a row that is wrong is a `BadRow`.
    """

    def __init__(self, path: Path, encoding: str = "utf-8", columns: Mapping[str, str] | None = None) -> None:
        readers = {".txt": self._text, ".csv": self._csv, ".jsonl": self._jsonl}
        if path.suffix.lower() not in readers:
            raise ValueError(
                f"{path}: cannot tell what is in a {path.suffix or 'file without suffix'}, expected "
                f"{', '.join(readers)}"
            )
        self.path = path
        self.encoding = "utf-8" if encoding.lower() in ("utf-8", "utf8", "utf-8-sig") else encoding
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"--encoding {encoding}: there is no such encoding; try latin-1") from None
        self.columns = dict(columns or {})
        if self.columns and path.suffix.lower() == ".txt":
            raise ValueError(f"{path}: a .txt file has no columns; leave --columns away")
        if self.columns and "prompt" not in self.columns:
            raise ValueError("--columns names no prompt; write prompt=NAME_IN_THE_FILE,...")
        unknown = set(self.columns) - set(FIELDS)
        if unknown:
            raise ValueError(
                f"--columns: got {', '.join(sorted(unknown))}, expected some of {', '.join(FIELDS)}"
            )
        self._rows = readers[path.suffix.lower()]

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self._rows()

    def survey(self, is_mine: Callable[[int], bool] = lambda index: True) -> Survey:
        """Read the whole file once: its rows counted, its bytes hashed, its ids compared.

        Raises ValueError if it has no rows, ids stand in it twice, or it cannot be read to its end.
        """
        try:
            digest, size = file_digest(self.path)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ValueError(f"{self.path}: cannot be read as a prompt file ({error.strerror})") from None
        rows = mine = 0
        hashes = array("Q")  # 8 bytes an id: a million ids are 8 MB
        for row in self:
            rows += 1
            mine += is_mine(row.index)
            if isinstance(row, Row) and row.id is not None:
                hashes.append(_hash64(row.id))
        if not rows:
            raise ValueError(f"{self.path}: holds no rows; put at least one prompt in it")
        values = np.sort(np.frombuffer(hashes, np.uint64)) if hashes else np.empty(0, np.uint64)
        repeated = {int(value) for value in values[1:][values[1:] == values[:-1]][:100]}
        if repeated:
            self._refuse_repeated(repeated)
        return Survey(rows, mine, size, digest)

    def contains(self) -> Callable[[int, str | None], bool]:
        """Whether a row of that index and digest (None: no row's) stands in the file. 8 bytes a row."""
        digests = array("Q")
        for row in self:
            digests.extend([0] * (row.index - len(digests)))
            digests.append(int(row.digest, 16) if isinstance(row, Row) else 0)
        return lambda index, digest: (
            digest is not None and 0 <= index < len(digests) and digests[index] == int(digest, 16) != 0
        )

    def _refuse_repeated(self, hashes: set[int]) -> None:
        where: dict[str, list[int]] = {}
        for row in self:
            if isinstance(row, Row) and row.id is not None and _hash64(row.id) in hashes:
                where.setdefault(row.id, []).append(row.index)
        twice = {name: found for name, found in where.items() if len(found) > 1}
        if twice:  # two ids with one hash are no repetition
            shown = [f"{name[:60]!r} in rows {found[:3]}" for name, found in list(twice.items())[:5]]
            raise ValueError(
                f"{self.path}: an id names one row, and {len(twice)} stand in it more than once: "
                f"{'; '.join(shown)}; make them differ, or leave the ids away (rows have numbers)"
            )

    def _opened(self, newline: str | None = "") -> AbstractContextManager[TextIO]:
        def advice(guess: str) -> str:
            return f"if the file is {guess}, say --encoding {guess}"

        return opened(self.path, advice, self.encoding, newline)

    def _text(self) -> Iterator[Row | BadRow]:
        with self._opened(newline=None) as file:
            for index, line in enumerate(file):
                prompt = line.removesuffix("\n")
                if prompt and not prompt.isspace():
                    yield Row(index=index, prompt=prompt)

    def _csv(self) -> Iterator[Row | BadRow]:
        with self._opened() as file:
            header, records = csv_records(self.path, file)
            names = dict(zip(header, self._names(header), strict=True))
            yield from (_row(record, names, _cell) for record in records)

    def _jsonl(self) -> Iterator[Row | BadRow]:
        with self._opened() as file:
            for record in jsonl_records(file, '{"prompt": "..."}'):
                found = list(record.cells)
                names = dict(zip(found, self._names(found, record.line), strict=True))
                yield _row(record, names, lambda name, value: value)

    def _names(self, found: list[str], line: int = 1) -> list[str | None]:
        """The file's column names -> ours, None for a column that is not read."""
        ours = {theirs: name for name, theirs in self.columns.items()} or dict.fromkeys(FIELDS)
        names = [(ours[name] or name) if name in ours else None for name in map(str.strip, found)]
        where = f"{self.path}, line {line}"
        unknown = [name for name, known in zip(found, names, strict=True) if known is None]
        if unknown and not self.columns:
            raise ValueError(
                f"{where}: got columns {', '.join(map(repr, unknown))}, expected only {', '.join(FIELDS)}; "
                "to read some columns and leave the others, say for example --columns prompt=caption,id=ytid"
            )
        if self.path.suffix.lower() == ".csv":
            lost = sorted(set(self.columns.values()) - set(map(str.strip, found)))
            if lost or "prompt" not in names:
                raise ValueError(
                    f"{where}: the header has no column {', '.join(map(repr, lost or ['prompt']))}; it has "
                    f"{', '.join(map(repr, found)) or 'nothing'}"
                )
        known = [name for name in names if name]
        if len(set(known)) < len(known):
            raise ValueError(f"{where}: a column stands in the header twice: {', '.join(known)}")
        return names


def _cell(name: str, text: str) -> Any:
    """A CSV field as its type where it can be; `_row` refuses what stays a string."""
    try:
        return _READ[name](text) if name in _READ else text
    except ValueError:
        return text


def _row(record: Record, names: Mapping[str, str | None], read: Callable[[str, Any], Any]) -> Row | BadRow:
    """names: the file's to ours, None for a column that is not read. read: a cell as its type."""
    if record.fault:
        return BadRow(index=record.index, prompt=record.text, reason=record.fault)
    pairs = ((names[theirs], value) for theirs, value in record.cells.items() if value is not None)
    cells = {name: read(name, value) for name, value in pairs if name}
    prompt = cells.get("prompt")
    for name, value in cells.items():
        if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
            reason = f"{name}: got {repr(value)[:80]}, expected {_WORDS[name]}"
            return BadRow(index=record.index, prompt=str(prompt)[:200], reason=reason)
    if prompt is None:
        return BadRow(index=record.index, prompt="", reason="has no prompt")
    if "id" in cells:
        cells["id"] = str(cells["id"])
    return Row(index=record.index, **cells)


def _hash64(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
