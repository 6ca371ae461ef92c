"""Events of lines of text that come through a pipe, as they come."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ...wording import option
from .events import Events
from .formats import FORMATS, format_of
from .formats.packed import SNIFF_BYTES
from .formats.reading import Columns
from .formats.text import MARKS, POLARITY_CODES, SPACES, Layout, decode, describe_damage, named_columns, read_layout
from .formats.times import require_time_unit
from .live import DamagedStream, Packet

CHUNK = 2**16  # bytes that are read at once
MAX_LINE = 4096  # bytes
ORDER = "t,x,y,p"  # of columns that neither the user nor a line names
MINUS_ONE = POLARITY_CODES[-1]  # as decoded
NAME = Path("standard input")


class TextPipe:
    """Events of a pipe, in packets as they arrive.

    read:       a function of a number of bytes that gives some of them, b"" at the end: of a file descriptor, os.read
    size:       (height, width) of the sensor
    columns:    as of `read_events`; None: as a first line names them, else t, x, y, p
    time_unit:  likewise; None: as a first line says, else microseconds
    Polarities are 0 or -1, and 1, or the words of text files; lines that begin with # or % are comments.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        size: tuple[int, int],
        *,
        columns: str | None = None,
        time_unit: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        require_time_unit(time_unit)
        self.read, self.size, self.columns, self.time_unit, self.clock = read, size, columns, time_unit, clock
        self.layout: Layout | None = None
        self.line = 1  # the number of the next one
        self.num_events = 0

    def packets(self) -> Iterator[Packet]:
        """What arrives.

        Raises:  DamagedStream for a line that is no event on the sensor, after all before it; ValueError for other formats
        """
        rest, is_open = b"", True
        while is_open:
            chunk = self.read(CHUNK)
            arrived, is_open = self.clock(), bool(chunk)
            rest += chunk or b"\n"  # the last line may lack it
            cut = rest.rfind(b"\n") + 1
            whole, rest = rest[:cut], rest[cut:]
            if self.layout is None and not self.read_first_lines(whole, rest, is_open=is_open):
                rest = whole + rest
                continue
            for t, x, y, polarity in self.decode(whole):
                yield Packet(Events(t, x, y, polarity, self.size), None, arrived)
            if len(rest) > MAX_LINE:
                raise DamagedStream(f"{NAME}: line {self.line:,} is longer than {MAX_LINE:,} bytes")

    def read_first_lines(self, whole: bytes, rest: bytes, *, is_open: bool) -> bool:
        """Find out what the columns are; False: the lines so far do not tell.

        Raises:  ValueError for what is no text of events
        """
        head = (whole + rest)[:SNIFF_BYTES]
        if head and (b"\0" in head or format_of(str(NAME), "lines.txt", head) != "text"):
            known = next((entry.description for entry in FORMATS.values() if entry.matches and entry.matches(head)), "no text")
            raise ValueError(
                f"a pipe is read as text, a line t x y p per event, and this is {known}: save it as a file and name that"
            )
        lines = [line for line in whole.splitlines() if line.strip(SPACES) and line.strip(SPACES)[:1] not in MARKS]
        may_be_names = len(lines) == 1 and (named_columns(lines[0]) or len(lines[0].split()) == 2)
        if is_open and len(rest) <= MAX_LINE and (not lines or may_be_names):
            return False
        if not lines:
            raise ValueError(f"{NAME} holds no events")
        is_named = any(named_columns(line) for line in whole.splitlines()[:100])
        layout = read_layout(NAME, whole, len(whole), self.columns or (None if is_named else ORDER), self.time_unit)
        self.layout = layout._replace(unit="us", assumed_unit="us") if layout.assumed_unit else layout
        return True

    def decode(self, whole: bytes) -> Iterator[Columns]:
        """The events of whole lines: t, x, y, polarity."""
        assert self.layout is not None, "the first lines were read"
        begin, self.layout = self.layout.begin, self.layout._replace(begin=0)
        self.line += whole.count(b"\n", 0, begin)
        body = np.frombuffer(whole, np.uint8)[begin:]
        if not len(body):
            return
        decoded = decode(body, self.layout)
        if decoded.error:
            yield from self.decode(body[: decoded.at].tobytes())
            raise DamagedStream(f"{NAME}: line {self.line:,} {describe_damage(body[decoded.at :], self.layout, decoded.error)}")
        self.line += whole.count(b"\n", begin)
        t, x, y, codes = decoded.columns
        wrong = (codes > 1) & (codes != MINUS_ONE) | (x >= self.size[1]) | (y >= self.size[0])
        good = int(np.argmax(wrong)) if wrong.any() else len(t)
        self.num_events += good
        if good:
            yield t[:good], x[:good], y[:good], (codes[:good] == 1).astype(np.uint8)
        if good < len(t):
            pixel, sensor = f"x={x[good]}, y={y[good]}", f"{self.size[1]} x {self.size[0]} pixels"
            raise DamagedStream(
                f"{NAME}: event {self.num_events + 1:,} ({pixel}, polarity {codes[good]}) is not on the sensor of {sensor} "
                f"({option('sensor')} says another), or its polarity none of 0, -1 and 1"
            )
