"""SIGINT, SIGTERM and those by which batch systems warn: a run saves before it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS_TO_SAVE = 25  # for ranks whose launcher is gone: as long as a launcher that stops gives them
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def stops() -> list[signal.Signals]:
    """The signals that ask this process to stop: all of them, but a hangup that nohup ignores."""
    return [number for number in STOPS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


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
        try:
            previous = {number: signal.signal(number, self.handle) for number in stops()}
        except ValueError:  # not in the main thread
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def stopped_with_parent() -> Iterator[None]:
    """While open, the end of the parent, which cannot pass a signal on when it is killed, is a SIGTERM to this process; and
    `SECONDS_TO_SAVE` later its own end.
    """
    parent, closed = os.getppid(), threading.Event()

    def watch() -> None:
        while os.getppid() == parent:  # that of an orphan is another one, on Linux and elsewhere
            if closed.wait(1):
                return
        os.kill(os.getpid(), signal.SIGTERM)
        if not closed.wait(SECONDS_TO_SAVE):
            os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        closed.set()
