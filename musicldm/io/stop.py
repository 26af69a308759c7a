"""A stop that was asked for: work ends at its next seam, with everything saved."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop"]

log = logging.getLogger(__name__)


class Stop:
    """Becomes true at the first Ctrl-C or SIGTERM; a second Ctrl-C is KeyboardInterrupt, at once.

    unit: what the work consists of, for the message.
    """

    def __init__(self, unit: str = "batch") -> None:
        self.unit = unit
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take the signals for the length of a block."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            log.warning("finishing the %s at hand; Ctrl-C again stops at once", self.unit)
        self.asked = True
