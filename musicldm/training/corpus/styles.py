"""All styles by name."""

from __future__ import annotations

from .style import Style
from .styles_band import BAND
from .styles_club import CLUB
from .styles_old import OLD

__all__ = ["STYLES"]

STYLES: dict[str, Style] = {style.name: style for style in (*CLUB, *BAND, *OLD)}
