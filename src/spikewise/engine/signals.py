"""SIGINT and SIGTERM: a run saves before it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopSignals:
    """Remembers the first SIGINT or SIGTERM, so that a run can save first; a second one raises KeyboardInterrupt.

    received:  the signal's number; 0 before
    """

    def __init__(self) -> None:
        self.received = 0

    def handle(self, number: int, _frame: Any) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while open; outside the main thread they stay the caller's."""
        try:
            previous = {number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
