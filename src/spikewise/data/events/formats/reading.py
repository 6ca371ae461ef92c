"""What the readers share: a file's bytes, its text header, columns of events, and the decoders in C."""

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
from typing import Any, NamedTuple

import numpy as np

from ..events import Events

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, x, y, polarity
Size = tuple[int, int]  # height, width
COLUMN_DTYPES = (np.int64, np.uint16, np.uint16, np.uint8)
MAX_EVENTS_IN_MEMORY = 2**25  # more of them, above 400 MB, are mapped from a temporary file
MAX_SENSOR_SIDE = 4096  # pixels

# Files -----------------------------------------------------------------------------------------------------------------------


def import_optional(module: str, path: Path) -> ModuleType:
    """A library that some formats need and the package does not require.

    Raises:  ValueError that says how to install it
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{path} needs the package {module}: pip install 'spikewise[events]'") from None


@contextlib.contextmanager
def printable_errors() -> Iterator[None]:
    """Escape unprintable characters in messages: names in files, and of files, may contain anything."""
    try:
        yield
    except ValueError as error:
        printable = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(error))
        raise ValueError("".join(printable)) from None


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Silence what a library writes to standard error by itself: errors are reported by exceptions."""
    saved = os.dup(2)
    with Path(os.devnull).open("w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def require_file(path: Path) -> None:
    """Refuse folders, and pipes, on which reading would wait.

    Raises:  OSError
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{str(path)!r} is not a file; name a recording's file")


def map_file(path: Path) -> np.ndarray:
    """The file's bytes, uint8 [n], mapped rather than read.

    Raises:  ValueError for an empty file; OSError
    """
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    return np.memmap(path, dtype=np.uint8, mode="r")


def header_end(path: Path, raw: np.ndarray, mark: bytes, last: bytes | None = None) -> int:
    """Where the lines of text end that begin a file: those that begin with `mark`, or up to the line `last`.

    Raises:  ValueError for a header that does not end
    """
    last_line = re.escape(last) + rb"[^\n]*\n" if last is not None else rb"(?!)"
    lines = rb"(?:(?!%b)%b[^\n]*+\n)*+" % (last_line, re.escape(mark))  # possessive: constant memory for millions of lines
    at = next(re.finditer(lines, raw.data)).end()
    if ended := re.compile(last_line).match(raw.data, at):
        return ended.end()
    if raw[at : at + len(mark)].tobytes() == mark:
        raise ValueError(f"{path}: the header's line at byte {at:,} does not end; the file was cut")
    return at


def require_whole_events(path: Path, file_bytes: int, event_bytes: int, begin: int = 0) -> None:
    """Refuse a file that ends in the middle of an event; events begin at byte `begin`.

    Raises:  ValueError, also for an empty file
    """
    if not file_bytes:
        raise ValueError(f"{path} is empty; copy it again")
    if rest := (file_bytes - begin) % event_bytes:
        raise ValueError(
            f"{path} was cut: the event at byte {file_bytes - rest:,} has {rest} of {event_bytes} bytes; copy it again"
        )


# Columns ---------------------------------------------------------------------------------------------------------------------


def allocate_columns(num_events: int) -> Columns:
    """Uninitialised columns: in memory, or, where there are many events, mapped from a temporary file without a name.

    The file lies where the system keeps temporary files ($TMPDIR); without room there, the columns are in memory after all.
    """
    if num_events > MAX_EVENTS_IN_MEMORY:
        starts = np.cumsum([0, *(num_events * np.dtype(dtype).itemsize for dtype in COLUMN_DTYPES)]).tolist()
        with contextlib.suppress(OSError, AttributeError), tempfile.TemporaryFile() as file:
            # writing to a mapped file on a full disk would kill the process; macOS lacks the call
            os.posix_fallocate(file.fileno(), 0, starts[-1])
            return make_columns(lambda k: np.memmap(file, COLUMN_DTYPES[k], "r+", starts[k], num_events))
    return make_columns(lambda k: np.empty(num_events, COLUMN_DTYPES[k]))


def make_columns(make: Callable[[int], np.ndarray]) -> Columns:
    return make(0), make(1), make(2), make(3)


NO_EVENTS: Columns = allocate_columns(0)


def require_sensor_size(path: Path, height: Any, width: Any) -> Size:
    """(height, width) that a file stores.

    Raises:  ValueError for anything but whole numbers from 1 to 4,096
    """
    sides = [np.asarray(side) for side in (height, width)]
    if any(side.size != 1 or side.dtype.kind not in "iu" or not 0 < int(side.item()) <= MAX_SENSOR_SIDE for side in sides):
        raise ValueError(f"{path}: height and width should be whole numbers from 1 to {MAX_SENSOR_SIDE:,}")
    return int(sides[0].item()), int(sides[1].item())


def make_events(path: Path, columns: Columns, size: Size | None, default_size: Size | None = None) -> Events:
    """A recording whose events all lie on the sensor.

    size:    (height, width); None: `default_size`, or the smallest that fits, if some events lie beyond that
    Raises:  ValueError for an event outside `size`, or a sensor of more than 4,096 pixels a side
    """
    t, x, y, polarity = columns
    if size is None:
        needed = (int(y.max(initial=0)) + 1, int(x.max(initial=0)) + 1)
        fits = default_size is not None and needed[0] <= default_size[0] and needed[1] <= default_size[1]
        size = default_size if default_size is not None and fits else needed
        if max(size) > MAX_SENSOR_SIDE:
            raise ValueError(f"{path} is damaged: events lie up to x={size[1] - 1}, y={size[0] - 1}; no sensor is that large")
    elif len(x) and (int(x.max()) >= size[1] or int(y.max()) >= size[0]):
        first = int(np.argmax((x >= size[1]) | (y >= size[0])))
        raise ValueError(
            f"{path}: event {first:,} lies at x={x[first]}, y={y[first]}, outside the sensor of {size[1]} x {size[0]} pixels; "
            "the file is damaged or of another camera"
        )
    return Events(t, x, y, polarity, size)


# Decoders --------------------------------------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """What a decoder returns: the events, and where and why it stopped (error 0: at the end)."""

    columns: Columns
    at: int = 0
    error: int = 0


class DecodeArgs(ctypes.Structure):
    """events_call of native/events.inc."""

    _fields_ = (
        ("raw", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("t", "x", "y", "polarity")),
        *((name, ctypes.c_int64) for name in ("events", "at", "wrong")),
    )


def has_native() -> bool:
    from ....native import load as native  # imports torch

    return not native.unavailable_reason()


def decode(name: str, body: np.ndarray, event_bytes: int, decode_numpy: Callable[[np.ndarray], Decoded]) -> Decoded:
    """Decode bytes in C where the library is there, else by the definition `decode_numpy`."""
    return decode_native(name, body, len(body) // event_bytes) if has_native() else decode_numpy(body)


def decode_native(name: str, raw: np.ndarray, max_events: int) -> Decoded:
    """Run the decoder `decode_NAME` of the library on bytes that hold at most so many events."""
    from ....native import load as native

    raw = np.ascontiguousarray(raw)
    t, x, y, polarity = allocate_columns(max_events)
    args = DecodeArgs(raw.ctypes.data, len(raw), *(column.ctypes.data for column in (t, x, y, polarity)), max_events)
    getattr(native.load(native.selected_variant()), f"decode_{name}")(ctypes.byref(args))
    n = args.events
    return Decoded((t[:n], x[:n], y[:n], polarity[:n]), args.at, args.wrong)
