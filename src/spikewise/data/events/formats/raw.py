"""What the readers share: a file's bytes, the end of its text header, and decoders in C with their definitions in NumPy."""

import contextlib
import ctypes
import importlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..events import Events

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, x, y, polarity
KINDS = (np.int64, np.uint16, np.uint16, np.uint8)
MANY = 2**25  # events: more of them, above 400 MB, lie in a file
LARGEST = 4096  # pixels: the longest side of a sensor that is believed


def room_for(events: int) -> Columns:
    """Arrays for so many events: in memory, or mapped from a file without a name, which goes with them, where there are many.

    The file lies where the system keeps temporary ones ($TMPDIR); without room there, the arrays are in memory, too.
    """
    if events > MANY:
        starts = np.cumsum([0, *(events * np.dtype(kind).itemsize for kind in KINDS)]).tolist()  # the widest first: aligned
        with contextlib.suppress(OSError, AttributeError), tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, starts[-1])  # a disk that turns out full would end the process; not on macOS
            return columns(lambda k: np.memmap(file, KINDS[k], "r+", starts[k], events))
    return columns(lambda k: np.empty(events, KINDS[k]))


def columns(make: Callable[[int], np.ndarray]) -> Columns:
    return make(0), make(1), make(2), make(3)


NO_EVENTS: Columns = room_for(0)


def extra(module: str, path: Path) -> ModuleType:
    """A library that reads some formats, and is no requirement.

    Raises:  ValueError that says how to install it
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{path} needs the package {module}: pip install 'spikewise[events]'") from None


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Refusals without what is no visible character: names in files, and of files, may hold anything."""
    try:
        yield
    except ValueError as error:
        visible = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(error))
        raise ValueError("".join(visible)) from None


def require_file(path: Path) -> None:
    """Refuse what would be waited for, or is nothing to read.

    Raises:  OSError
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{str(path)!r} is no file; name a recording's file")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what a library writes to standard error by itself: what is wrong is said by us, in a line."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def bytes_of(path: Path) -> np.ndarray:
    """The file's bytes, uint8 [n], mapped rather than read.

    Raises:  ValueError for an empty file; OSError
    """
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    return np.memmap(path, dtype=np.uint8, mode="r")


def header_end(raw: np.ndarray, mark: bytes, last: bytes | None = None) -> int:
    """Where the lines of text end that begin a file: those that begin with `mark`, or up to the line `last`.

    Raises:  ValueError for a header that does not end
    """
    end = re.escape(last) + rb"[^\n]*\n" if last is not None else rb"(?!)"
    lines = rb"(?:(?!%b)%b[^\n]*+\n)*+" % (end, re.escape(mark))  # possessive: no memory of lines that are passed
    view = raw.data
    at = next(re.finditer(lines, view)).end()
    if ended := re.compile(end).match(view, at):
        return ended.end()
    if raw[at : at + len(mark)].tobytes() == mark:
        raise ValueError(f"the header's line at byte {at:,} does not end")
    return at


def sensor(path: Path, height: Any, width: Any) -> tuple[int, int]:
    """(height, width) that a file names.

    Raises:  ValueError for what no sensor has
    """
    sides = [np.asarray(side) for side in (height, width)]
    if any(side.size != 1 or side.dtype.kind not in "iu" or not 0 < int(side.reshape(())) <= LARGEST for side in sides):
        raise ValueError(f"{path}: height and width should be whole numbers from 1 to {LARGEST:,}")
    return int(sides[0].reshape(())), int(sides[1].reshape(()))


def recording(path: Path, columns: Columns, size: tuple[int, int] | None, usual: tuple[int, int] | None = None) -> Events:
    """A recording whose events all lie on the sensor.

    columns: t, x, y, polarity
    size:    (height, width); None: `usual`, or what holds all events, if some lie beyond it
    Raises:  ValueError for an event outside `size`, or a sensor of more than 4,096 pixels a side
    """
    t, x, y, polarity = columns
    if size is None:
        needed = (int(y.max(initial=0)) + 1, int(x.max(initial=0)) + 1)
        fits = usual is not None and needed[0] <= usual[0] and needed[1] <= usual[1]
        size = usual if usual is not None and fits else needed
        if max(size) > LARGEST:
            raise ValueError(f"{path} is damaged: events lie up to x={size[1] - 1}, y={size[0] - 1}; no sensor is that large")
    elif len(x) and (int(x.max()) >= size[1] or int(y.max()) >= size[0]):
        first = int(np.argmax((x >= size[1]) | (y >= size[0])))
        raise ValueError(
            f"{path}: event {first:,} lies at x={x[first]}, y={y[first]}, outside the sensor of {size[1]} x {size[0]} pixels; "
            "the file is damaged or of another camera"
        )
    return Events(t, x, y, polarity, size)


class EventsCall(ctypes.Structure):
    """events_call of native/events.inc."""

    _fields_ = (
        ("raw", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("t", "x", "y", "polarity")),
        *((name, ctypes.c_int64) for name in ("events", "at", "wrong")),
    )


def compiled() -> bool:
    from ....native import load as native  # brings torch

    return not native.unavailable_reason()


def decode(function: str, raw: np.ndarray, most: int) -> tuple[Columns, EventsCall]:
    """Run a decoder of the library on bytes that hold at most so many events: the events; where it stopped, and why."""
    from ....native import load as native

    raw = np.ascontiguousarray(raw)
    t, x, y, polarity = room_for(most)
    call = EventsCall(raw.ctypes.data, len(raw), *(array.ctypes.data for array in (t, x, y, polarity)), most)
    getattr(native.load(native.selected_variant()), function)(ctypes.byref(call))
    n = call.events
    return (t[:n], x[:n], y[:n], polarity[:n]), call
