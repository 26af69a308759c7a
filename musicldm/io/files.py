"""Files that appear whole or not at all, JSON as this package writes it, and digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "BLOCK",
    "PRIVATE",
    "as_json",
    "atomic",
    "create_json",
    "file_digest",
    "value_digest",
    "write_json",
]

BLOCK = 1 << 20  # bytes read at once
SLUG = 48  # characters
PRIVATE = ".batch"  # folder of what no user needs to see: partial files, locks, records of failed rows


def slug(prompt: str) -> str:
    """A prompt as part of a file name: a-z, 0-9 and single dashes, 1 to 48 characters."""
    plain = unicodedata.normalize("NFKD", prompt[:1000]).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:SLUG].strip("-") or "clip"


@contextmanager
def atomic(path: Path, *, shared: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write; it takes its place, on the disk, when the block ends without an error.

    shared: other processes may write the same file at the same moment; one of them comes last, whole.
    durable: wait for the disk. Without it a power cut may leave half a file: for what has a checksum, and is
    made again.
    """
    partial = path.with_name(path.name + ".partial")  # a rerun after a kill writes over it
    if shared:
        partial = path.parent / PRIVATE / f"{path.name}.{secrets.token_hex(4)}.partial"
        partial.parent.mkdir(exist_ok=True)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def as_json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """A JSON object and a line's end, in UTF-8; half a surrogate pair stands as its escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def write_json(path: Path, value: Mapping[str, Any], *, shared: bool = False) -> None:
    """An indented JSON file, written by `atomic`."""
    with atomic(path, shared=shared) as file:
        file.write(as_json(value, indent=1))


def create_json(path: Path, value: Mapping[str, Any]) -> None:
    """An indented JSON file where there is none yet; if another process is quicker, its file stays."""
    own = path.parent / PRIVATE / f"{path.name}.{secrets.token_hex(4)}.partial"
    own.parent.mkdir(exist_ok=True)
    try:
        with own.open("wb") as file:
            file.write(as_json(value, indent=1))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(own, path)
    finally:
        own.unlink(missing_ok=True)


def file_digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size in bytes, read in blocks."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def value_digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
