"""What the readers share: what they return, a file's bytes, its text header, columns of events, and the decoders in C."""

import contextlib
import ctypes
import importlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ....wording import count
from ..events import Events
from .sensor import MANY_EVENTS, SAY_IT, Size, guess_size, outside
from .times import UnclearUnit, find_leap, format_time, mend_clock, require_plausible, sort_by_time, without_wild_times

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, x, y, polarity
COLUMN_DTYPES = (np.int64, np.uint16, np.uint16, np.uint8)
MAX_STREAM_NAME = 200  # letters of a stream's name in messages
TALL = 1.2  # times its width: sensors are hardly that high
MIN_ZEROS = 4096  # bytes at the end of a file that no camera writes: a block of most file systems
MAX_EVENTS_IN_MEMORY = 2**25  # more of them, above 400 MB, are mapped from a temporary file

# Files -----------------------------------------------------------------------------------------------------------------------


class DamagedFile(ValueError):
    """A file that is damaged, or was cut: its bytes before `at` are whole, and can be read without the rest.

    whole:  bytes that the file should have; 0: not known
    """

    def __init__(self, message: str, at: int, whole: int = 0):
        super().__init__(message)
        self.at, self.whole = at, whole


def import_optional(module: str, path: Path) -> ModuleType:
    """A library that some formats need and the package does not require.

    Raises:  ValueError that says how to install it
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"{path} needs the package {module}: pip install 'spikewise[events]'") from None


def in_other_words(error: ValueError, message: str) -> ValueError:
    """An error of the same kind with this message."""
    if isinstance(error, DamagedFile):
        return DamagedFile(message, error.at, error.whole)
    return UnclearUnit(message) if isinstance(error, UnclearUnit) else ValueError(message)


@contextlib.contextmanager
def printable_errors() -> Iterator[None]:
    """Escape unprintable characters in messages: names in files, and of files, may contain anything."""
    try:
        yield
    except ValueError as error:
        printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(error))
        raise in_other_words(error, printable) from None


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
        at = file_bytes - rest
        raise DamagedFile(f"{path} was cut: the event at byte {at:,} has {rest} of {event_bytes} bytes; copy it again", at)


def require_written(path: Path, raw: np.ndarray, event_bytes: int, begin: int = 0) -> None:
    """Refuse a file that ends in zeros: room was made for it, and its writer was stopped.

    They would be read as thousands of events of one pixel, or, in EVT 3.0, as nothing.

    Raises:  DamagedFile
    """
    if len(raw) - begin < MIN_ZEROS or raw[-MIN_ZEROS:].any():
        return
    starts = range(len(raw) - MIN_ZEROS, begin - MIN_ZEROS, -MIN_ZEROS)
    block = next((max(start, begin) for start in starts if raw[max(start, begin) : start + MIN_ZEROS].any()), begin)
    written = np.flatnonzero(raw[block : block + MIN_ZEROS])
    last = block + int(written[-1]) + 1 if len(written) else begin
    at = begin + -(-(last - begin) // event_bytes) * event_bytes
    raise DamagedFile(
        f"{path} ends in {count(len(raw) - at, 'zero')}, from byte {at:,} on: it was not written to its end; copy it again", at
    )


def choose_stream(path: Path, streams: Sequence[str], stream: str | None) -> str:
    """The camera of a file, or the recording of an archive, that is to be read.

    stream:  its name, or parts of it between slashes; None: there is one
    Raises:  ValueError where there are several or none, or none of that name
    """
    found = [name for name in streams if stream is None or stream == name]
    found = found or [name for name in streams if f"/{stream}/" in f"/{name}/"]
    if len(found) == 1 or (stream is None and not streams):
        return found[0] if found else ""
    shown = ", ".join(shorten(name) for name in streams[:8]) + (f" and {len(streams) - 8:,} more" if len(streams) > 8 else "")
    if stream is None:
        raise ValueError(f"{path} holds {len(streams)} streams of events, {shown}; say which with stream=, or --stream")
    raise ValueError(f"{path} has {'several streams' if found else 'no stream'} {stream!r}; it holds {shown or 'none'}")


def shorten(name: str) -> str:
    """A name that may be of any length: as it is, or its last parts between slashes, which `choose_stream` takes, too."""
    while len(name) > MAX_STREAM_NAME and "/" in name:
        name = name.partition("/")[2]
    return name if len(name) <= MAX_STREAM_NAME else f"{name[:MAX_STREAM_NAME]}..."


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


class FileEvents(NamedTuple):
    """What a reader returns.

    columns:        t, x, y, polarity; the arrays are its own, t may be changed
    size:           (height, width) of the sensor as the file says; None: it says nothing
    usual:          that of the camera that most such files are from, if it says nothing
    notes:          what was skipped or is doubtful, for the user, with numbers
    assumed_unit:   of times, where neither format, file nor user says it: they should be plausible; "": it is known
    guessed_order:  of the columns t, x, y, p of a table without names; None: it is known
    in_order:       whether the decoder saw that times never fall; False: they may
    refused:        an error for events on no sensor, whose columns hold 65,535, unless such are dropped
    is_rotated:     whether columns are counted from the right and rows from below: then it needs a sensor, and is turned
    """

    columns: Columns
    size: Size | None = None
    usual: Size | None = None
    notes: tuple[str, ...] = ()
    assumed_unit: str = ""
    guessed_order: tuple[int, int, int, int] | None = None
    in_order: bool = False
    is_rotated: bool = False
    refused: str = ""


def to_events(path: Path, found: FileEvents, size: Size | None, *, drop_outside: bool) -> Events:
    """A recording with a clock that is mended, in the order of time, and whose events all lie on the sensor.

    size:    (height, width); None: what the file says, or else the usual camera's, or the smallest that fits
    drop_outside:  leave out events outside the sensor, and the few far apart in time from all others
    Raises:  ValueError for an event outside the sensor, unless such are dropped; for a sensor that can't be told
    """
    if found.refused and not drop_outside:
        raise ValueError(found.refused)
    known = size or found.size
    if found.guessed_order:
        found = settle_order(path, found, known)
    notes = found.notes if found.in_order else (*found.notes, *mend_clock(found.columns[0]))
    leap = find_leap(found.columns[0]) if found.assumed_unit else ""
    notes += () if found.in_order else sort_by_time(found.columns)
    (t, x, y, polarity), wild = settle_wild_times(found.columns, drop=drop_outside)
    notes += wild
    if found.is_rotated and known is None:
        raise ValueError(
            f"{path} counts columns from the right and rows from below, and does not say of which sensor; {SAY_IT} "
            "(260,346 or 180,240), or leave them so with raw=True, --raw"
        )
    if drop_outside and known is None and found.usual is None:
        raise ValueError(f"{path}: drop_outside needs a sensor, and the file says none; say size=(height, width), or --sensor")
    needed = (int(y.max(initial=0)) + 1, int(x.max(initial=0)) + 1)
    is_told = known is not None
    known = known or (found.usual if drop_outside else guess_size(path, x, y, needed, found.usual))
    assert known is not None
    if found.assumed_unit and len(t):
        notes = (*notes, require_plausible(path, t, found.assumed_unit, known[0] * known[1], leap))
    if not len(t):
        notes = (*notes, "the recording holds no event")
    events = Events(t, x, y, polarity, known, notes, is_told or known == found.usual)
    beyond = outside(path, x, y, needed, known, drop=drop_outside)
    if beyond is not None:
        dropped = (
            f"{count(int(np.count_nonzero(beyond)), 'event')} outside the sensor of {known[1]} x {known[0]} pixels dropped"
        )
        events = replace(events[~beyond], notes=(*notes, dropped))
    if found.is_rotated:
        np.subtract(known[1] - 1, events.x, out=events.x, casting="unsafe")
        np.subtract(known[0] - 1, events.y, out=events.y, casting="unsafe")
    return events


def settle_wild_times(columns: Columns, *, drop: bool) -> tuple[Columns, tuple[str, ...]]:
    """Events in order without the few whose times lie far apart from all others, if such are to be dropped; and a note."""
    t, x, y, polarity = columns
    kept = without_wild_times(t)
    wild = len(t) - (kept.stop - kept.start)
    if not wild:
        return columns, ()
    at = int(t[0] if kept.start else t[-1])
    what = f"{count(wild, 'event')} far apart in time from the others, at {format_time(at)}"
    if not drop:
        return columns, (f"{what}: kept; drop_outside= or --drop-outside leaves such out",)
    return (t[kept], x[kept], y[kept], polarity[kept]), (f"{what}: dropped",)


def settle_order(path: Path, found: FileEvents, size: Size | None) -> FileEvents:
    """Events of a table whose order was guessed, with x before y, or y before x where only that fits the sensor; and a note.

    Raises:  ValueError where no sensor is known, and x before y would make one that is taller than wide
    """
    t, x, y, polarity = found.columns
    order = found.guessed_order
    assert order is not None, "it was guessed"
    height, width = int(y.max(initial=0)) + 1, int(x.max(initial=0)) + 1
    why = "x before y"
    swapped = (order[0], order[2], order[1], order[3])
    if size is None and len(t) >= MANY_EVENTS and height > TALL * width:
        raise ValueError(
            f"{path} does not name its columns, and with x before y its sensor would be taller than wide, {width} x {height} "
            f"pixels: say --columns {describe_order(order)} or {describe_order(swapped)} (columns= in Python), or --sensor"
        )
    if size is not None and not (height <= size[0] and width <= size[1]) and width <= size[0] and height <= size[1]:
        order, x, y = swapped, y, x
        why = f"y before x, as only that fits the sensor of {size[1]} x {size[0]} pixels"
    note = f"columns taken as {describe_order(order)}: nothing names them, {why}; columns= or --columns says otherwise"
    return found._replace(columns=(t, x, y, polarity), notes=(note, *found.notes))


def describe_order(order: tuple[int, int, int, int]) -> str:
    return ",".join(name for _, name in sorted(zip(order, "txyp", strict=True)))


# Decoders --------------------------------------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """What a decoder returns: the events, and where and why it stopped (error 0: at the end)."""

    columns: Columns
    at: int = 0
    error: int = 0
    skipped: tuple[int, int, int] = (0, 0, 0)  # of kinds that each reader names
    in_order: bool = False  # whether it saw that times never fall; False: they may


def skipped_notes(decoded: Decoded, *kinds: str) -> tuple[str, ...]:
    """What a decoder left out, by the names of the kinds (of one of each), as notes."""
    named = zip(decoded.skipped, kinds, strict=False)
    return tuple(f"{count(number, kind)} skipped" for number, kind in named if number)


class DecodeArgs(ctypes.Structure):
    """events_args of native/events.inc."""

    _fields_ = (
        ("raw", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("t", "x", "y", "polarity")),
        *((name, ctypes.c_int64) for name in ("events", "at", "wrong")),
        ("skipped", ctypes.c_int64 * 3),
        ("flip", ctypes.c_uint16),
        ("fall", ctypes.c_int64),
        ("columns", ctypes.c_int64 * 5),
        ("exponent", ctypes.c_int64),
        ("takes_parts", ctypes.c_int64),
    )


def has_native() -> bool:
    from ....native import load as native  # imports torch

    return not native.unavailable_reason()


def decode(
    name: str, body: np.ndarray, event_bytes: int, decode_numpy: Callable[[np.ndarray], Decoded], **more: Any
) -> Decoded:
    """Decode bytes in C where the library is there, else by the definition `decode_numpy`.

    event_bytes:  of an event; 0: it is not the same for all, so that they are counted before memory is made for them
    more:         other fields of events_args, in events.inc; the definition knows them
    """
    if not has_native():
        return decode_numpy(body)
    return decode_native(name, body, len(body) // event_bytes if event_bytes else None, **more)


def decode_native(name: str, raw: np.ndarray, max_events: int | None, **more: Any) -> Decoded:
    """Run the decoder `decode_NAME` of the library on bytes that hold at most so many events; None: `count_NAME` tells."""
    from ....native import load as native

    library, raw = native.load(native.selected_variant()), np.ascontiguousarray(raw)
    args = DecodeArgs(raw=raw.ctypes.data, bytes=len(raw), **more)
    if max_events is None:
        getattr(library, f"count_{name}")(ctypes.byref(args))
        max_events = args.events
    columns = allocate_columns(max_events)
    args.t, args.x, args.y, args.polarity = (column.ctypes.data for column in columns)
    args.events = max_events
    getattr(library, f"decode_{name}")(ctypes.byref(args))
    t, x, y, polarity = (column[: args.events] for column in columns)
    return Decoded((t, x, y, polarity), args.at, args.wrong, tuple(args.skipped), in_order=args.fall <= 0)
