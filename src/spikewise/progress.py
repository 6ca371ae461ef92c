"""Where long work is, without a terminal: one line a minute, for log files."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
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


def say_on_stderr(text: str) -> None:
    """A line on standard error, as it is now."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")


def told_each_minute(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, with a line a minute on standard error: for work without a progress bar.

    what:  is done, and with which items: "indexed {} of {} shards"
    """
    lines = MinuteLines(say_on_stderr, len(items))
    for number, item in enumerate(items):
        lines.at(number, partial(what.format, f"{number:,}", f"{len(items):,}"))
        yield item


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 12.5 min, 3.2 h."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} s"
