"""Files of event cameras, each format read into one `Events`.

Every reader checks the sizes that a file claims before it allocates memory, and reports damage in one line with its place.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .... import disk
from ....wording import did_you_mean
from ...messages import one_line
from ..events import Events
from .aedat2 import read_aedat2
from .aedat3 import read_aedat3
from .aedat4 import read_aedat4
from .atis import read_atis
from .hdf5 import read_hdf5, write_hdf5
from .npz import read_npz, write_npz
from .prophesee import has_evt_version, is_dat, read_prophesee
from .reading import FileEvents, printable_errors, require_file, to_events
from .sensor import MAX_SENSOR_SIDE, Size
from .times import require_time_unit

SNIFF_BYTES = 4096  # read to detect the format


class Format(NamedTuple):
    """One kind of file.

    read:         a function of the path, and of `options` by name: what the file holds
    description:  a line for `spikewise events --help` and errors
    suffixes:     of its files' names
    matches:      whether a file is of this format, by its first bytes; None: only the suffix tells
    write:        a function of (recording, path); None: this format is only read
    options:      of `read_events` that change how such files are read
    """

    read: Callable[..., FileEvents]
    description: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool] | None
    write: Callable[[Events, Path], None] | None = None
    options: tuple[str, ...] = ()


def has_magic(magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


FORMATS: dict[str, Format] = {
    "aedat2": Format(
        read_aedat2,
        "AEDAT 2.0 of a DVS128 or a DAVIS (jAER, CIFAR10-DVS)",
        (".aedat",),
        has_magic(b"#!AER-DAT2"),
        options=("raw",),
    ),
    "aedat3": Format(read_aedat3, "AEDAT 3.1 (cAER, DVS128 Gesture)", (".aedat",), has_magic(b"#!AER-DAT3")),
    "aedat4": Format(read_aedat4, "AEDAT 4 (DV)", (".aedat4",), has_magic(b"#!AER-DAT4")),
    "atis": Format(read_atis, "five bytes per event (N-MNIST, N-Caltech101)", (".bin",), None),
    "dat": Format(functools.partial(read_prophesee, encoding="dat"), "Prophesee DAT (N-CARS)", (".dat",), is_dat),
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
        has_magic(b"PK\x03\x04"),
        write_npz,
        options=("time_unit",),
    ),
    "hdf5": Format(
        read_hdf5,
        "HDF5 (tonic, Prophesee)",
        (".h5", ".hdf5"),
        has_magic(b"\x89HDF\r\n\x1a\n"),
        write_hdf5,
        options=("time_unit",),
    ),
}


@printable_errors()
def detect_format(path: str | Path) -> str:
    """The format of a file, by its first bytes or else by its suffix.

    Raises:  ValueError for an unknown format; OSError where the file can't be read
    """
    require_file(Path(path))
    with Path(path).open("rb") as file:
        head = file.read(SNIFF_BYTES)
    for name, entry in FORMATS.items():
        if entry.matches and entry.matches(head):
            return name
    for name, entry in FORMATS.items():
        if entry.matches is None and Path(path).suffix.lower() in entry.suffixes:
            return name
    known = ", ".join(f"{name} ({'/'.join(entry.suffixes)})" for name, entry in FORMATS.items())
    begin = f"it begins with {head[:8].hex(' ')}" if head else "it is empty"
    raise ValueError(f"{path} is not in a known format: {begin}; known: {known}")


@printable_errors()
def read_events(
    path: str | Path,
    format: str | None = None,
    size: Size | None = None,
    *,
    drop_outside: bool = False,
    time_unit: str | None = None,
    raw: bool = False,
) -> Events:
    """A recording from a file; its `notes` say what was skipped, dropped or mended.

    format:        a name in FORMATS; None: detected
    size:          (height, width) of the sensor in pixels, 1 to 4,096; None: as stored in the file, else the usual camera's, or
                   the smallest that fits all events
    drop_outside:  leave out events outside the sensor; else they are refused
    time_unit:     of times in NPZ and HDF5: "s", "ms", "us" or "ns"; None: as stored in the file, else microseconds
    raw:           columns, rows and polarities of AEDAT 2.0 as the addresses have them, and not upright
    Raises:        ValueError, one line, for a file of another format, a damaged file, events outside the sensor, times that are
                   hardly microseconds, or an option that does not concern the format; OSError
    """
    name = format or detect_format(path)
    if name not in FORMATS:
        raise ValueError(f"no format named {name!r}; {did_you_mean(name, FORMATS)}use one of {', '.join(FORMATS)}")
    require_time_unit(time_unit)
    if size is not None and not (len(size) == 2 and all(0 < side <= MAX_SENSOR_SIDE for side in size)):
        raise ValueError(f"size={size!r} is no sensor; give (height, width), each 1 to {MAX_SENSOR_SIDE:,} pixels")
    path, options = Path(path), {"time_unit": time_unit, "raw": raw}
    given = {option: value for option, value in options.items() if value}
    for option in given.keys() - set(FORMATS[name].options):
        others = ", ".join(other for other, entry in FORMATS.items() if option in entry.options)
        raise ValueError(f"{path}: {option} changes nothing in a file of the format {name}, only in {others}; leave it out")
    require_file(path)
    return to_events(path, FORMATS[name].read(path, **given), size, drop_outside=drop_outside)


def write_events(events: Events, path: str | Path, format: str | None = None) -> None:
    """Write a recording into a file, completely or not at all.

    format:  npz or hdf5; None: by the file's suffix
    Raises:  ValueError for another format; OSError
    """
    path = Path(path)
    writable = {name: entry for name, entry in FORMATS.items() if entry.write}
    name = format or next((name for name, entry in writable.items() if path.suffix.lower() in entry.suffixes), None)
    if name not in writable:
        endings = ", ".join(ending for entry in writable.values() for ending in entry.suffixes)
        raise ValueError(f"{path.name} has no format that can be written; end it with one of {endings}")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.new{path.suffix}")
    try:
        writable[name].write(events, temporary)  # type: ignore[misc]
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


__all__ = ["FORMATS", "Format", "detect_format", "read_events", "write_events"]
