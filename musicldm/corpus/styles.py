"""The styles, read from `styles/*.toml`; `style.py` says what their entries and patterns mean."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from musicldm.io.tables import parse_toml

from .style import Bass, Drums, Layer, Meter, Style, Tune

__all__ = ["STYLE_NAMES", "parse_style", "style_of"]

STYLE_NAMES = (  # in the order in which a corpus takes turns
    "techno", "house", "drum and bass", "hip hop", "ambient", "chiptune", "rock", "funk", "reggae",
    "bossa nova", "jazz", "blues", "folk", "waltz", "ballad", "march",
)  # fmt: skip


@cache
def style_of(name: str) -> Style:
    """The style of that name, one of `STYLE_NAMES`."""
    path = files(__package__) / "styles" / f"{name.replace(' ', '_')}.toml"
    return parse_style(path.read_text(encoding="utf-8"))


def parse_style(text: str) -> Style:
    """A style from its TOML. Raises TypeError for an entry that no style has, or one that is missing."""
    table = {name: _tuples(value) for name, value in parse_toml(text).items()}
    kinds = {"meter": Meter, "drums": Drums, "bass": Bass, "tune": Tune}
    parts: dict[str, Any] = {name: kind(**table.pop(name)) for name, kind in kinds.items()}
    layers = tuple(Layer(**layer) for layer in table.pop("layers"))
    return Style(**table, **parts, layers=layers)


def _tuples(value: Any) -> Any:
    """The value with tuples in place of lists, all the way down."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {name: _tuples(each) for name, each in value.items()} if isinstance(value, dict) else value
