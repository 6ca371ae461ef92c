"""Where long work is, without a terminal: one line a minute, for log files."""

import time
from collections.abc import Callable

from .durations import format_duration

SECONDS = 60.0  # between two lines


class MinuteLines:
    """Says where long work is, once a minute.

    say:    prints a line; None: nothing is said
    total:  of what is counted; 0: not known, and no time left is given
    done:   before this began
    """

    def __init__(self, say: Callable[[str], None] | None, total: float = 0, done: float = 0):
        self.say, self.total, self.first = say, total, done
        self.start = self.last = time.monotonic()

    def at(self, done: float, describe: Callable[[], str]) -> None:
        """`done` of `total` is done now; `describe` is called for the line, if one is due."""
        now = time.monotonic()
        if self.say is None or now - self.last < SECONDS:
            return
        self.last = now
        new = done - self.first
        left = f", {format_duration((self.total - done) * (now - self.start) / new)} left" if self.total and new > 0 else ""
        self.say(describe() + left)
