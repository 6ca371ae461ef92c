"""Files of event cameras, each format read into one `Events`.

Every reader checks what a file promises before it allocates, and refuses a damaged one in a line that says where it went wrong.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .... import disk
from ..events import Events
from .aedat2 import read_aedat2
from .aedat3 import read_aedat3
from .aedat4 import read_aedat4
from .atis import read_atis
from .hdf5 import read_hdf5, write_hdf5
from .npz import read_npz, write_npz
from .prophesee import is_dat, is_evt2, is_evt3, read_dat, read_evt2, read_evt3
from .raw import in_one_line, require_file

HEAD = 4096  # bytes by which a file is recognised

Size = tuple[int, int]


class Format(NamedTuple):
    """One kind of file.

    read:      a function of (path, size): the recording; size None: what the file says, else the format's usual camera
    about:     a line for `spikewise events --help` and errors
    suffixes:  of its files' names
    is_one:    whether a file is one, by its first bytes; None: they tell nothing, only the suffix does
    write:     a function of (recording, path); None: this format is only read
    """

    read: Callable[[Path, Size | None], Events]
    about: str
    suffixes: tuple[str, ...]
    is_one: Callable[[bytes], bool] | None
    write: Callable[[Events, Path], None] | None = None


def begins(magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


FORMATS: dict[str, Format] = {
    "aedat2": Format(read_aedat2, "AEDAT 2.0 of a DVS128 or a DAVIS (jAER, CIFAR10-DVS)", (".aedat",), begins(b"#!AER-DAT2")),
    "aedat3": Format(read_aedat3, "AEDAT 3.1 (cAER, DVS128 Gesture)", (".aedat",), begins(b"#!AER-DAT3")),
    "aedat4": Format(read_aedat4, "AEDAT 4 (DV)", (".aedat4",), begins(b"#!AER-DAT4")),
    "atis": Format(read_atis, "five bytes per event (N-MNIST, N-Caltech101)", (".bin",), None),
    "dat": Format(read_dat, "Prophesee DAT (N-CARS)", (".dat",), is_dat),
    "evt2": Format(read_evt2, "Prophesee EVT 2.0", (".raw",), is_evt2),
    "evt3": Format(read_evt3, "Prophesee EVT 3.0", (".raw",), is_evt3),
    "npz": Format(read_npz, "NumPy arrays t, x, y, p (SpikingJelly)", (".npz",), begins(b"PK\x03\x04"), write_npz),
    "hdf5": Format(read_hdf5, "HDF5 (tonic, Prophesee)", (".h5", ".hdf5"), begins(b"\x89HDF\r\n\x1a\n"), write_hdf5),
}


@in_one_line()
def recognise(path: str | Path) -> str:
    """The format of a file: by its first bytes, or else by its name.

    Raises:  ValueError where neither tells; OSError where it can't be read
    """
    require_file(Path(path))
    with Path(path).open("rb") as file:
        head = file.read(HEAD)
    for name, entry in FORMATS.items():
        if entry.is_one and entry.is_one(head):
            return name
    for name, entry in FORMATS.items():
        if entry.is_one is None and Path(path).suffix.lower() in entry.suffixes:
            return name
    known = ", ".join(f"{name} ({'/'.join(entry.suffixes)})" for name, entry in FORMATS.items())
    raise ValueError(f"{path} begins like no recording that is known: {head[:8].hex(' ') or 'it is empty'}; known: {known}")


@in_one_line()
def read_events(path: str | Path, format: str | None = None, size: Size | None = None) -> Events:
    """A recording from a file.

    format:  a name in FORMATS; None: as the file's first bytes say, or its name
    size:    (height, width) of the sensor; None: what the file says, else the format's usual camera or the smallest that holds
             all events
    Raises:  ValueError, one line, for a file of another format, a damaged one, or events outside the sensor; OSError
    """
    name = format or recognise(path)
    if name not in FORMATS:
        raise ValueError(f"no format named {name!r}; use one of {', '.join(FORMATS)}")
    require_file(Path(path))
    return FORMATS[name].read(Path(path), size)


def write_events(events: Events, path: str | Path, format: str | None = None) -> None:
    """A recording into a file, whole or not at all.

    format:  npz or hdf5; None: as the file's name says
    Raises:  ValueError for another format; OSError
    """
    path = Path(path)
    able = {name: entry for name, entry in FORMATS.items() if entry.write}
    named = format or next((name for name, entry in able.items() if path.suffix.lower() in entry.suffixes), None)
    if named not in able:
        endings = ", ".join(ending for entry in able.values() for ending in entry.suffixes)
        raise ValueError(f"{path.name} names no format that can be written; end it with one of {endings}")
    beside = path.with_name(f".{path.stem}.{os.getpid()}.new{path.suffix}")
    try:
        able[named].write(events, beside)  # type: ignore[misc]
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        disk.rename(beside, path)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else " ".join(str(error).split())  # h5py's takes many lines
        raise OSError(f"{path} can't be written: {why}") from None
    except ValueError as error:
        raise ValueError(str(error).replace(str(beside), str(path))) from None
    finally:
        beside.unlink(missing_ok=True)


__all__ = ["FORMATS", "Format", "read_events", "recognise", "write_events"]
