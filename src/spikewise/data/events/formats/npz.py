"""NPZ: the arrays t, x, y, p as SpikingJelly writes them."""

import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..events import Events
from . import raw as files

NAMES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity", "polarities"),
}
DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError)
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
INFLATED = 64  # times the file that its arrays may take; events compress to a third or so


def read_npz(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Arrays of the same length, t (microseconds), x, y and p (0 and 1, or -1 and 1); or one array with these fields.

    `height` and `width`, where there are any, are the sensor's. Nothing is unpickled.
    Raises:  ValueError for other contents, a damaged file, or one that would unpack to far more than it holds; OSError
    """
    there = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            promised = sum(member.file_size for member in archive.infolist())
            if promised > INFLATED * there + 2**20:
                raise ValueError(f"its arrays would take {promised:,} bytes, {promised // there} times the file's")
            found = {member.filename.removesuffix(".npy"): array_in(archive, member) for member in archive.infolist()}
    except DAMAGE as error:
        raise ValueError(f"{path} is no file of events: {' '.join(str(error).split())}") from None
    fielded = next((array for array in found.values() if array.dtype.names), None)
    if fielded is not None:
        found |= {name: fielded[name] for name in fielded.dtype.names or ()}
    if size is None and {"height", "width"} <= found.keys():
        size = files.sensor(path, found["height"], found["width"])
    return from_arrays(path, found, size)


def array_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array whose own header promises what the archive's does, before memory is made for it.

    Raises:  one of DAMAGE
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack all at once
        raise ValueError(f"{member.filename[:40]} is packed in a way that NumPy never uses")
    with archive.open(member) as file:
        read_header = HEADERS.get(np.lib.format.read_magic(file))
        if read_header is None:
            raise ValueError(f"{member.filename[:40]} is of a newer kind than NumPy's 2.0")
        try:
            with warnings.catch_warnings(action="ignore"):  # of arrays written by Python 2
                shape, fortran, dtype = read_header(file)
        except Exception as error:  # it is parsed as a piece of Python, which fails in many ways
            raise ValueError(f"the header of {member.filename[:40]} is none ({str(error)[:80]})") from None
        if dtype.hasobject:
            raise ValueError(f"{member.filename[:40]} holds Python objects")
        promised, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if promised != there or not dtype.itemsize:
            raise ValueError(f"{member.filename[:40]} promises {promised:,} bytes and has {there:,}")
        content = file.read()
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def few(names: list[str]) -> str:
    """The first names of a list that may be of any length."""
    shown = ", ".join(name[:40] for name in names[:8]) or "nothing"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8:,} more"


def from_arrays(path: Path, found: Mapping[str, Any], size: tuple[int, int] | None) -> Events:
    """A recording from arrays by name.

    Raises:  ValueError for missing or ragged arrays, and values that are no time, place or polarity
    """
    columns = {}
    for name, others in NAMES.items():
        given = next((other for other in others if other in found), None)
        if given is None:
            raise ValueError(f"{path} has no array {name}; it holds {few(list(found))}")
        columns[name] = np.asarray(found[given])
    lengths = [column.shape for column in columns.values()]
    if any(len(shape) != 1 or shape != lengths[0] for shape in lengths):
        raise ValueError(f"{path}: t, x, y and p of shapes {', '.join(map(str, lengths))} are no recording")
    for name, (least, most) in {"t": (-(2**62), 2**62), "x": (0, 65_535), "y": (0, 65_535), "p": (-1, 1)}.items():
        column = columns[name]
        if column.dtype.kind not in "iub" and not (column.dtype.kind == "f" and np.array_equal(column, np.trunc(column))):
            raise ValueError(f"{path}: {name} holds {column.dtype}, not whole numbers")
        wrong = (column < least) | (column > most) if len(column) and column.dtype != bool else np.zeros(0, bool)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(f"{path}: event {first:,} has {name}={column[first]}, outside {least} to {most}")
    polarity = columns["p"].astype(np.int8)
    t, x, y = columns["t"].astype(np.int64), columns["x"].astype(np.uint16), columns["y"].astype(np.uint16)
    return files.recording(path, (t, x, y, (polarity > 0).astype(np.uint8)), size)


def write_npz(events: Events, path: Path) -> None:
    """t, x, y, p, height and width, compressed."""
    height, width = events.size
    with path.open("wb") as file:
        np.savez_compressed(file, t=events.t, x=events.x, y=events.y, p=events.polarity, height=height, width=width)
