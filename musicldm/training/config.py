"""A run's settings: a TOML file <-> frozen dataclasses that say what every key means.

Unknown keys, missing keys and values of the wrong kind are reported together, by name, before any work.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from musicldm.io.tables import parse_toml

__all__ = [
    "ConfigError",
    "as_toml",
    "differences",
    "key",
    "keys_of",
    "parse",
    "read_toml",
]

T = TypeVar("T")


class ConfigError(ValueError):
    """A run's settings that cannot be honoured; the message names every key."""


def key(help: str, default: Any = MISSING) -> Any:  # noqa: A002 (argparse's word for the same thing)
    """A key of a config: what it means, and its default; without one it must be given."""
    if default is MISSING:
        return field(metadata={"help": help})
    return field(default=default, metadata={"help": help})


def read_toml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file, with `table.key=value` put in; a value is TOML, or else a string.

    Raises ConfigError naming the file, and the line where it is no TOML.
    """
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except ImportError as error:
        raise ConfigError(str(error)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML ({error})") from None
    for override in overrides:
        name, given, text = override.partition("=")
        if not given or not name.strip():
            raise ConfigError(f"--set {override}: expected KEY=VALUE, such as loop.steps=1000")
        *parents, last = name.strip().split(".")
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {override}: {parent} is no table")
        try:
            inner[last] = parse_toml(f"value = {text}")["value"]
        except ValueError:
            inner[last] = text
    return table


def parse(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """A table of the file `where` -> the dataclass. Raises ConfigError with everything that is wrong."""
    problems: list[str] = []
    made = _made(kind, table, "", problems)
    if problems:
        raise ConfigError(
            f"{where}: {len(problems)} problem{'s' * (len(problems) > 1)}\n  " + "\n  ".join(problems)
        )
    return made


def _made(kind: type[T], table: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    hints = get_type_hints(kind)
    known = {column.name: column for column in fields(kind)}  # type: ignore[arg-type]
    there = ", ".join(known)
    problems += [f"unknown key {prefix}{name}; there are {there}" for name in table if name not in known]
    values: dict[str, Any] = {}
    for name, column in known.items():
        if name in table:
            values[name] = _value(hints[name], table[name], f"{prefix}{name}", problems)
        elif column.default is MISSING and is_dataclass(hints[name]):
            values[name] = _value(hints[name], {}, f"{prefix}{name}", problems)  # names the keys it needs
        elif column.default is MISSING:
            problems.append(
                f"missing key {prefix}{name}: {column.metadata.get('help', f'there are {there}')}"
            )
    if problems:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(str(error))
        return None


def _value(hint: Any, value: Any, name: str, problems: list[str]) -> Any:
    """The value as its type wants it: tables as dataclasses, lists as tuples, whole numbers as floats."""
    origin = get_origin(hint)
    if isinstance(hint, types.UnionType) or origin is Union:
        return _first_that_fits(get_args(hint), value, name, problems)
    if is_dataclass(hint) and isinstance(value, Mapping):
        return _made(hint, value, f"{name}.", problems)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(get_args(hint)[0], part, name, problems) for part in value)
    fits = value in get_args(hint) if origin is Literal else type(value) is (origin or hint)
    if fits or (hint is float and type(value) is int):
        return float(value) if hint is float else value
    problems.append(f"{name}: got {value!r:.80}, expected {_named(hint)}")
    return None


def _first_that_fits(hints: Sequence[Any], value: Any, name: str, problems: list[str]) -> Any:
    for hint in hints:
        tried: list[str] = []
        made = _value(hint, value, name, tried)
        if not tried:
            return made
    problems.append(f"{name}: got {value!r:.80}, expected {' or '.join(map(_named, hints))}")
    return None


def _named(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_named(get_args(hint)[0])}"
    if isinstance(hint, types.UnionType) or get_origin(hint) is Union:
        return " or ".join(_named(choice) for choice in get_args(hint))
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "nothing" if hint is type(None) else "a table")


def keys_of(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key of a config in its order: dotted name, default ("" where it must be given), meaning."""
    hints = get_type_hints(kind)
    for column in fields(kind):
        hint = hints[column.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from keys_of(hint, f"{prefix}{column.name}.")
        else:
            yield f"{prefix}{column.name}", _default(column), column.metadata["help"]


def _default(column: Field[Any]) -> str:
    if column.default is MISSING:
        return ""
    return "(not set)" if column.default is None else _toml_value(column.default)


def as_toml(config: Any, prefix: str = "") -> str:
    """A config as the TOML that gives it back; what is None is left out."""
    plain, tables = [], []
    for column in fields(config):
        value = getattr(config, column.name)
        if is_dataclass(value):
            name = f"{prefix}{column.name}"
            tables.append(f"\n[{name}]\n{as_toml(value, f'{name}.')}")
        elif value is not None:
            plain.append(f"{column.name} = {_toml_value(value)}\n")
    return "".join(plain + tables)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(name)} = {_toml_value(part)}" for name, part in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):  # JSON's escapes are TOML's, but for one character that TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def differences(before: Any, after: Any) -> list[str]:
    """What differs between two configs of one kind, a line a key: `loop.steps: 10 -> 20`."""
    old, new = dict(_flat(before)), dict(_flat(after))
    names = sorted(set(old) | set(new))
    return [f"{name}: {old.get(name)} -> {new.get(name)}" for name in names if old.get(name) != new.get(name)]


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for column in fields(config):
        value = getattr(config, column.name)
        if is_dataclass(value):
            yield from _flat(value, f"{prefix}{column.name}.")
        else:
            yield f"{prefix}{column.name}", value
