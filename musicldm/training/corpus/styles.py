"""All styles by name."""

from __future__ import annotations

from .style import Style
from .styles_band import BAND
from .styles_club import CLUB
from .styles_home import HOME
from .styles_jazz import JAZZ_AND_KIN
from .styles_old import OLD

__all__ = ["STYLES"]

STYLES: dict[str, Style] = {style.name: style for style in (*CLUB, *HOME, *BAND, *JAZZ_AND_KIN, *OLD)}
