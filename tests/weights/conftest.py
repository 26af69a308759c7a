"""A skip that is seen: the summary says what was not tested, and how to test it."""

from __future__ import annotations

import os


def pytest_terminal_summary(terminalreporter):
    if not os.environ.get("MUSICLDM_WEIGHTS"):
        terminalreporter.write_line(
            "tests/weights: PUBLISHED WEIGHTS NOT TESTED; set MUSICLDM_WEIGHTS to a checkpoint folder or hub id",
            yellow=True,
            bold=True,
        )
