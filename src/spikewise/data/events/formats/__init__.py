"""Files of event cameras, each format read into one `Events`.

Every reader checks the sizes that a file claims before it allocates memory, and reports damage in one line with its place.
"""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .... import disk
from ....wording import count, did_you_mean
from ...messages import one_line
from ..events import Events
from . import packed
from .aedat2 import read_aedat2
from .aedat3 import read_aedat3
from .aedat4 import end_packets, read_aedat4
from .atis import read_atis
from .hdf5 import read_hdf5, write_hdf5
from .npz import end_npy, end_npz, read_npy, read_npz, write_npz
from .others import describe_other
from .packed import SNIFF_BYTES
from .prophesee import has_evt_version, is_dat, read_prophesee
from .reading import DamagedFile, FileEvents, in_other_words, printable_errors, require_file, to_events
from .sensor import MAX_SENSOR_SIDE, Size
from .text import looks_like_events, read_text
from .times import require_time_unit


class Format(NamedTuple):
    """One kind of file.

    read:         a function of the path, and of `options` by name: what the file holds
    description:  a line for `spikewise events --help` and errors
    suffixes:     of its files' names
    matches:      whether a file is of this format, by its first bytes; None: only the suffix tells
    write:        a function of (recording, path); None: this format is only read
    options:      of `read_events` that change how such files are read
    end:          a function of a path that lets a file, cut where it is still whole, say that it ends there; None: none does
    """

    read: Callable[..., FileEvents]
    description: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool] | None
    write: Callable[[Events, Path], None] | None = None
    options: tuple[str, ...] = ()
    end: Callable[[Path], None] | None = None


def has_magic(magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


FORMATS: dict[str, Format] = {
    "aedat2": Format(
        read_aedat2,
        "AEDAT 2.0 of a DVS128 or a DAVIS (jAER, v2e, CIFAR10-DVS)",
        (".aedat",),
        has_magic(b"#!AER-DAT2"),
        options=("raw",),
    ),
    "aedat3": Format(
        read_aedat3, "AEDAT 3.1 (cAER, DVS128 Gesture)", (".aedat",), has_magic(b"#!AER-DAT3"), options=("stream",)
    ),
    "aedat4": Format(read_aedat4, "AEDAT 4 (DV)", (".aedat4",), has_magic(b"#!AER-DAT4"), options=("stream",), end=end_packets),
    "atis": Format(read_atis, "five bytes per event (N-MNIST, N-Caltech101)", (".bin",), None),
    "dat": Format(
        functools.partial(read_prophesee, encoding="dat"),
        "Prophesee DAT (N-CARS)",
        (".dat",),
        lambda head: is_dat(head) and not looks_like_events(head),  # text may begin with comments after %, too
    ),
    "evt2": Format(
        functools.partial(read_prophesee, encoding="evt2"),
        "Prophesee EVT 2.0",
        (".raw",),
        functools.partial(has_evt_version, version=b"2.0"),
    ),
    "evt21": Format(
        functools.partial(read_prophesee, encoding="evt21"),
        "Prophesee EVT 2.1",
        (".raw",),
        functools.partial(has_evt_version, version=b"2.1"),
    ),
    "evt3": Format(
        functools.partial(read_prophesee, encoding="evt3"),
        "Prophesee EVT 3.0",
        (".raw",),
        functools.partial(has_evt_version, version=b"3.0"),
    ),
    "npz": Format(
        read_npz,
        "NumPy arrays t, x, y, p (SpikingJelly)",
        (".npz",),
        packed.is_npz,
        write_npz,
        options=("time_unit", "columns"),
        end=end_npz,
    ),
    "npy": Format(
        read_npy,
        "one NumPy array, with fields t, x, y, p or of four columns",
        (".npy",),
        has_magic(b"\x93NUMPY"),
        options=("time_unit", "columns"),
        end=end_npy,
    ),
    "hdf5": Format(
        read_hdf5,
        "HDF5 (tonic, Prophesee, v2e, e2vid, MVSEC, DSEC, M3ED)",
        (".h5", ".hdf5"),
        has_magic(b"\x89HDF\r\n\x1a\n"),
        write_hdf5,
        options=("time_unit", "columns", "stream"),
    ),
    "text": Format(
        read_text,
        "text or CSV, a line per event (Event Camera Dataset, v2e)",
        (".txt", ".csv", ".tsv"),
        None,
        options=("time_unit", "columns"),
    ),
}


MAYBE_WITHOUT_HEADER = ("dat", "evt2", "evt21", "evt3")  # as some programs write them

# of files that may be recordings, in small letters; also packed
UNPACKED_SUFFIXES = tuple(dict.fromkeys(suffix for entry in FORMATS.values() for suffix in entry.suffixes))
SUFFIXES = (*UNPACKED_SUFFIXES, *(suffix + end for suffix in UNPACKED_SUFFIXES for end in packed.PACKED_SUFFIXES), ".zip")
SHOWN_SUFFIXES = f"{', '.join(UNPACKED_SUFFIXES)}, also packed as {', '.join(packed.PACKED_SUFFIXES)} or .zip"
TEXT_SUFFIXES = FORMATS["text"].suffixes


def may_be_recording(path: Path) -> bool:
    """Whether a file's name is that of a recording; of text, which may be anything, also whether it begins like one."""
    if not path.name.lower().endswith(SUFFIXES):
        return False
    if path.suffix.lower() not in TEXT_SUFFIXES:
        return True
    with path.open("rb") as file:
        return looks_like_events(file.read(SNIFF_BYTES))


def is_named_as(path: Path, format: str) -> bool:
    """Whether a file's name is one of this format; packed, the name before the packing's ending; in a zip file, any."""
    packing = path.suffix.lower()
    name = path.name[: -len(packing)] if packing in packed.PACKED_SUFFIXES else path.name
    return packing == ".zip" or name.lower().endswith(FORMATS[format].suffixes)


@printable_errors()
def detect_format(path: str | Path, stream: str | None = None) -> str:
    """The format of a file, by its first bytes or else by its suffix; of a packed file that of the recording in it.

    stream:  which recording of a zip file
    Raises:  ValueError for an unknown format; OSError where the file can't be read
    """
    require_file(path := Path(path))
    if inside := packed.look_inside(path, stream):
        return format_of(inside.shown, inside.name, packed.read_head(path, inside))
    with path.open("rb") as file:
        return format_of(str(path), path.name, file.read(SNIFF_BYTES))


def format_of(shown: str, name: str, head: bytes) -> str:
    """The format of a file with this name and these first bytes.

    Raises:  ValueError for an unknown one
    """
    for format, entry in FORMATS.items():
        if entry.matches and entry.matches(head):
            return format
    if other := describe_other(head, name):
        raise ValueError(f"{shown} is {other}")
    for format, entry in FORMATS.items():
        if entry.matches is None and Path(name).suffix.lower() in entry.suffixes:
            return format
    known = ", ".join(f"{format} ({'/'.join(entry.suffixes)})" for format, entry in FORMATS.items())
    begin = f"it begins with {head[:8].hex(' ')}" if head else "it is empty"
    raise ValueError(f"{shown} is not in a known format: {begin}; known: {known}")


@printable_errors()
def read_events(
    path: str | Path,
    format: str | None = None,
    size: Size | None = None,
    *,
    drop_outside: bool = False,
    time_unit: str | None = None,
    columns: str | None = None,
    stream: str | None = None,
    raw: bool = False,
    salvage: bool = False,
) -> Events:
    """A recording from a file; its `notes` say what was skipped, dropped, mended or taken for what.

    The file may be packed by gzip or bzip2, or in a zip file.

    format:        a name in FORMATS; None: detected
    size:          (height, width) of the sensor in pixels, 1 to 4,096; None: as stored in the file, else the usual camera's, or
                   the smallest that fits all events
    drop_outside:  leave out events outside the sensor, else they are refused; and few far apart in time from all others
    time_unit:     of times in NPZ, NPY, HDF5 and text: "s", "ms", "us" or "ns"; None: as the file says, else microseconds
    columns:       of text and tables: their order, such as "t,x,y,p", _ for others; None: as the file says or its numbers tell
    stream:        which camera of a file with several, or which file of a zip file
    raw:           columns, rows and polarities of AEDAT 2.0 as the addresses have them, and not upright
    salvage:       of a file that is damaged or was cut, the events before the damage; the notes say how many bytes they are
    Raises:        ValueError, one line, for a file of another format, a damaged file, events outside the sensor, times that are
                   hardly microseconds, or an option that does not concern the format; OSError
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"no format named {format!r}; {did_you_mean(format, FORMATS)}use one of {', '.join(FORMATS)}")
    require_time_unit(time_unit)
    if size is not None and not (len(size) == 2 and all(0 < side <= MAX_SENSOR_SIDE for side in size)):
        raise ValueError(f"size={size!r} is no sensor; give (height, width), each 1 to {MAX_SENSOR_SIDE:,} pixels")
    require_file(path := Path(path))
    options: dict[str, Any] = {"time_unit": time_unit, "columns": columns, "stream": stream, "raw": raw}
    given = {option: value for option, value in options.items() if value}
    with unpacked(path, given, salvage=salvage) as (file, shown, note):
        try:
            name = require_format(file, shown, format) if format else detect_format(file)
            for option in given.keys() - set(FORMATS[name].options):
                others = ", ".join(other for other, entry in FORMATS.items() if option in entry.options)
                raise ValueError(
                    f"{shown}: {option} changes nothing in a file of the format {name}, only in {others}; leave it out"
                )
            read = functools.partial(FORMATS[name].read, **given)
            found = read_before_damage(file, FORMATS[name], read) if salvage else read(file)
            events = to_events(file, found, size, drop_outside=drop_outside)
        except ValueError as error:
            text = str(error).replace(str(file), shown)
            raise in_other_words(error, text) from None
    return replace(events, notes=(note, *events.notes)) if note else events


def require_format(path: Path, shown: str, format: str) -> str:
    """The format that is said of a file, unless the first bytes are of another one, or of none that begins so.

    Raises:  ValueError
    """
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    entry = FORMATS[format]
    if not head or (entry.matches and entry.matches(head)):
        return format
    begins_like = next((name for name, other in FORMATS.items() if other.matches and other.matches(head)), None)
    what = f"begins like {FORMATS[begins_like].description}" if begins_like else ""
    if not what and (other := describe_other(head, path.name)):
        what = f"is {other}"
    if not what and entry.matches and format not in MAYBE_WITHOUT_HEADER:
        what = f"begins with {head[:8].hex(' ')}"
    if what:
        better = f"use --format {begins_like}, or leave the format out" if begins_like else "leave the format out"
        raise ValueError(f"{shown} is not of the format {format}, {entry.description}: it {what}; {better}")
    return format


@contextmanager
def unpacked(path: Path, given: dict[str, Any], *, salvage: bool) -> Iterator[tuple[Path, str, str]]:
    """The file to be read, how errors name it, and what is to be said: the path's own, or what it holds.

    given:  the options, from which the one is taken that names a file in a zip file
    """
    inside = packed.look_inside(path, given.get("stream"), salvage=salvage)
    if inside is None:
        yield path, str(path), ""
        return
    if inside.shown != str(path):
        given.pop("stream", None)
    with packed.unpack(path, inside, salvage=salvage) as (file, note):
        yield file, inside.shown, note


def read_before_damage(path: Path, entry: Format, read: Callable[[Path], FileEvents]) -> FileEvents:
    """The events before a file's damage, with a note of how much of the file that is; all, if it is whole.

    Raises:  ValueError where nothing can be told from the bytes before the damage
    """
    try:
        return read(path)
    except DamagedFile as error:
        num_bytes, whole = path.stat().st_size, error.whole
        at, why = min(error.at, num_bytes), str(error).replace(str(path), "the file")
    with tempfile.TemporaryDirectory(prefix="spikewise-") as folder:
        part = Path(folder, path.name)
        shutil.copyfile(path, part)
        while True:
            os.truncate(part, at)
            try:
                if entry.end:
                    entry.end(part)
                found = read(part)
                break
            except ValueError as error:
                if isinstance(error, DamagedFile) and error.at < at:
                    at = error.at  # something before is damaged, too
                    continue
                rest = str(error).replace(str(part), "the rest")
                raise ValueError(f"{path}: nothing can be salvaged ({why}): {rest}") from None
    of = f"{100 * at / (whole or num_bytes):.1f} % of {'the whole' if whole else 'what is left'}"
    share = f"{count(len(found.columns[0]), 'event')} from the first {at:,} of {whole or num_bytes:,} bytes ({of})"
    return found._replace(notes=(f"salvaged {share}; {why}", *found.notes))


def require_writable(path: Path, format: str | None = None) -> Callable[[Events, Path], None]:
    """The function that writes a file of this format; None: of this name.

    Raises:  ValueError for a format that is only read
    """
    writable = {name: entry for name, entry in FORMATS.items() if entry.write}
    name = format or next((name for name, entry in writable.items() if path.suffix.lower() in entry.suffixes), None)
    write = writable[name].write if name in writable else None
    if write is None:
        endings = ", ".join(ending for entry in writable.values() for ending in entry.suffixes)
        raise ValueError(f"{path.name} has no format that can be written; end it with one of {endings}")
    return write


def write_events(events: Events, path: str | Path, format: str | None = None) -> None:
    """Write a recording into a file, completely or not at all.

    format:  npz or hdf5; None: by the file's suffix
    Raises:  ValueError for another format; OSError
    """
    path = Path(path)
    write = require_writable(path, format)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.new{path.suffix}")
    try:
        write(events, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        disk.rename(temporary, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else one_line(error)
        raise OSError(f"{path} can't be written: {reason}") from None
    except ValueError as error:
        raise ValueError(str(error).replace(str(temporary), str(path))) from None
    finally:
        temporary.unlink(missing_ok=True)


__all__ = [
    "FORMATS",
    "SHOWN_SUFFIXES",
    "SUFFIXES",
    "Format",
    "detect_format",
    "is_named_as",
    "may_be_recording",
    "read_events",
    "require_writable",
    "write_events",
]
