"""What the readers share: a file's bytes, the end of its text header, and decoders in C with their definitions in NumPy."""

import contextlib
import ctypes
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from ..events import Events

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, x, y, polarity
NO_EVENTS: Columns = (np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8))

LARGEST = 4096  # pixels: the longest side of a sensor that is believed


def extra(module: str, path: Path) -> ModuleType:
    """A library that reads some formats, and is no requirement.

    Raises:  ValueError that says how to install it
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{path} needs the package {module}: pip install 'spikewise[events]'") from None


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
    at = 0
    while raw[at : at + len(mark)].tobytes() == mark:
        found = end_of_line(raw, at)
        if found < 0:
            raise ValueError(f"the header's line at byte {at:,} does not end")
        line, at = raw[at:found].tobytes(), found
        if last is not None and line.startswith(last):
            break
    return at


def end_of_line(raw: np.ndarray, at: int) -> int:
    """The byte behind the next line feed; -1: there is none."""
    step = 4096
    for begin in range(at, len(raw), step):
        feeds = np.flatnonzero(raw[begin : begin + step] == ord("\n"))
        if len(feeds):
            return begin + int(feeds[0]) + 1
    return -1


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
    from ...native import load as native  # brings torch

    return not native.reason_against()


def decode(function: str, raw: np.ndarray, most: int) -> tuple[Columns, EventsCall]:
    """Run a decoder of the library on bytes that hold at most so many events: the events; where it stopped, and why."""
    from ...native import load as native

    raw = np.ascontiguousarray(raw)
    t, polarity = np.empty(most, np.int64), np.empty(most, np.uint8)
    x, y = np.empty(most, np.uint16), np.empty(most, np.uint16)
    call = EventsCall(raw.ctypes.data, len(raw), *(array.ctypes.data for array in (t, x, y, polarity)), most)
    getattr(native.load(native.chosen_variant()), function)(ctypes.byref(call))
    n = call.events
    return (t[:n], x[:n], y[:n], polarity[:n]), call
