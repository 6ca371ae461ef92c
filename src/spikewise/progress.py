"""Where long work is, without a terminal: one line a minute, for log files."""

import time
from collections.abc import Callable

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
        left = f", {duration((self.total - done) * (now - self.start) / new)} left" if self.total and new > 0 else ""
        self.say(describe() + left)


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 12.5 min, 3.2 h."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} s"
