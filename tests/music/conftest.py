"""A skip that is seen: the summary says what was not tested, and how to test it."""

from __future__ import annotations

import os


def pytest_terminal_summary(terminalreporter):
    if not os.environ.get("MUSICLDM_MUSIC"):
        terminalreporter.write_line(
            "tests/music: MIXUP OF REAL MUSIC NOT TESTED; set MUSICLDM_MUSIC to a folder of music (and install librosa)",
            yellow=True,
            bold=True,
        )
