"""Files of event cameras: one reader per format, and one function that knows which is meant."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..events import Events
from . import aedat2, aedat3
from .aedat2 import read_aedat2
from .aedat3 import read_aedat3
from .atis import read_atis_bin
from .npz import read_npy, read_npz, write_npz
from .raw import file_size, shown

HEAD = 1 << 12  # bytes by which a file is recognised


class Format(NamedTuple):
    """A kind of file.

    read:      a function of (path, size), size None where the file or its format knows it
    write:     a function of (events, path), or None
    suffixes:  by which a file is recognised whose bytes do not tell
    begins:    whether the first bytes of a file are of this kind; None: they do not tell
    about:     a line for people
    needs:     the library that its extra brings; empty: none
    """

    read: Callable[[Path, tuple[int, int] | None], Events]
    write: Callable[[Events, Path], None] | None
    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool] | None
    about: str
    needs: str = ""


FORMATS: dict[str, Format] = {
    "aedat3": Format(
        read_aedat3, None, (".aedat",), lambda head: head.startswith(aedat3.MAGIC), "AEDAT 3.1: DVS128 Gesture, DAVIS"
    ),
    "aedat2": Format(read_aedat2, None, (), lambda head: head.startswith(aedat2.MAGIC), "AEDAT 2.0 of jAER: DVS128, DAVIS"),
    "cifar10-dvs": Format(
        partial(read_aedat2, layout="cifar10-dvs"),
        None,
        (),
        None,
        "AEDAT 2.0 of CIFAR10-DVS: x = 127 - row, y = 127 - column, polarity = 1 - bit; only by name",
    ),
    "npz": Format(
        read_npz, write_npz, (".npz",), lambda head: head.startswith(b"PK\x03\x04"), "columns t, x, y, p, or a structured array"
    ),
    "npy": Format(read_npy, None, (".npy",), lambda head: head.startswith(b"\x93NUMPY"), "a structured array with t, x, y, p"),
    "atis": Format(read_atis_bin, None, (".bin",), None, "N-MNIST, N-Caltech101: 5 bytes per event"),
}


def read_events(path: str | Path, format: str | None = None, size: tuple[int, int] | None = None) -> Events:
    """Read the recording of an event camera.

    format:  one of FORMATS; None: recognised by the file's first bytes, then by its name
    size:    (height, width) of the sensor in pixels, 1 to 65,536; None: the file's, its format's, or the
             smallest that holds all events
    Raises:  ValueError or OSError in one line
    """
    path = Path(path)
    if size is not None and not (len(size) == 2 and all(1 <= side <= 1 << 16 for side in size)):
        raise ValueError(f"size={size} is no (height, width) of 1 to 65,536 pixels")
    name = recognise(path) if format is None else known(format)
    file_size(path)
    return FORMATS[name].read(path, size)


def recognise(path: str | Path) -> str:
    """The name of a file's format.

    Raises:  ValueError that lists the formats; OSError
    """
    path = Path(path)
    file_size(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    for name, kind in FORMATS.items():
        if kind.begins and kind.begins(head):
            return name
    for name, kind in FORMATS.items():
        if path.suffix.lower() in kind.suffixes:
            return name
    raise ValueError(
        f"{shown(path)} is of no known format, neither by its first bytes ({head[:4].hex(' ') or 'none'}) nor by its name; "
        f"name one of {', '.join(FORMATS)}"
    )


def write_events(events: Events, path: str | Path, format: str | None = None) -> None:
    """Write a recording beside, then rename: the file is there whole, or as it was.

    format:  one of FORMATS that can be written; None: by the file's name
    Raises:  ValueError; OSError
    """
    path = Path(path)
    writers = {name: kind for name, kind in FORMATS.items() if kind.write}
    if format is None:
        format = next((name for name, kind in writers.items() if path.suffix.lower() in kind.suffixes), path.suffix)
    if format not in writers:
        raise ValueError(f"events can't be written as {format!r}; use {' or '.join(writers)}")
    write = writers[format].write
    assert write is not None, "only formats that can be written"
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(events, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def known(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"no format named {name!r}; known: {', '.join(FORMATS)}")
    return name


__all__ = ["FORMATS", "Format", "read_events", "recognise", "write_events"]
