"""SIGINT, SIGTERM and those by which batch systems warn: a run saves before it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """Remembers the first signal that asks a run to stop, so that it can save first.

    received:  the signal's number; 0 before
    agreed:    the number of a signal to any of the processes that train together, known to all after the same step
    patient:   whether further signals change nothing, since a launcher sends them when one of its processes has ended;
               else a second one raises KeyboardInterrupt
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.received = self.agreed = 0
        self.patient = patient

    def handle(self, number: int, _frame: Any) -> None:
        if self.received and not self.patient:
            raise KeyboardInterrupt
        self.received = self.received or number

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while open; outside the main thread they stay the caller's, and so does what nohup ignores."""
        chosen = [number for number in STOPS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
        try:
            previous = {number: signal.signal(number, self.handle) for number in chosen}
        except ValueError:  # not in the main thread
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
