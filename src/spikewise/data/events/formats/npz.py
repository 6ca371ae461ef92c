"""NPZ: the arrays t, x, y, p as SpikingJelly writes them."""

import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading
from .sensor import Size, require_sensor_size
from .times import require_time_unit, to_microseconds

COLUMN_ALIASES = {
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "p": ("p", "ps", "pol", "polarity", "polarities"),
}
READ_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError)
HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MAX_EXPANSION = 64  # bytes of the arrays per byte of the file; events compress to about a third


def read_npz(path: Path, *, time_unit: str | None = None) -> reading.FileEvents:
    """Arrays of the same length, t, x, y and p (0 and 1, or -1 and 1); or one array with these fields.

    `height` and `width`, if there are any, are the sensor's, and `time_unit` that of t. Nothing is unpickled.

    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says, or else microseconds
    Raises:  ValueError for other contents, a damaged file, or one that would unpack to far more than it holds; OSError
    """
    file_bytes = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            promised = sum(member.file_size for member in archive.infolist())
            if promised > MAX_EXPANSION * file_bytes + 2**20:
                raise ValueError(f"its arrays would take {promised:,} bytes, {promised // file_bytes} times the file's")
            arrays = {member.filename.removesuffix(".npy"): read_array(archive, member) for member in archive.infolist()}
    except READ_ERRORS as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    fielded = next((array for array in arrays.values() if array.dtype.names), None)
    if fielded is not None:
        arrays |= {name: fielded[name] for name in fielded.dtype.names or ()}
    told = {"height", "width"} <= arrays.keys()
    size = require_sensor_size(path, arrays["height"], arrays["width"]) if told else None
    return events_from_arrays(path, arrays, size, time_unit or (str(arrays["time_unit"]) if "time_unit" in arrays else None))


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array whose own header agrees with the archive's on its size, checked before memory is allocated.

    Raises:  one of READ_ERRORS
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack all at once
        raise ValueError(f"{member.filename[:40]} is packed in a way that NumPy never uses")
    with archive.open(member) as file:
        read_header = HEADER_READERS.get(np.lib.format.read_magic(file))
        if read_header is None:
            raise ValueError(f"{member.filename[:40]} has a newer version than NumPy's 2.0")
        try:
            with warnings.catch_warnings(action="ignore"):  # of arrays written by Python 2
                shape, fortran, dtype = read_header(file)
        except Exception as error:  # it is parsed as Python, which fails in many ways
            raise ValueError(f"the header of {member.filename[:40]} is none ({str(error)[:80]})") from None
        if dtype.hasobject:
            raise ValueError(f"{member.filename[:40]} holds Python objects")
        promised, stored = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if promised != stored or not dtype.itemsize:
            raise ValueError(f"{member.filename[:40]} promises {promised:,} bytes and has {stored:,}")
        content = file.read()
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def summarize_names(names: list[str]) -> str:
    """The first names of a list that may be of any length."""
    shown = ", ".join(name[:40] for name in names[:8]) or "nothing"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8:,} more"


def events_from_arrays(
    path: Path, arrays: Mapping[str, Any], size: Size | None, time_unit: str | None, offset: int = 0
) -> reading.FileEvents:
    """A recording from arrays by name.

    offset:  added to all times, in microseconds

    Raises:  ValueError for missing or ragged arrays, and values that are not a time, pixel or polarity
    """
    require_time_unit(time_unit, path)
    columns = {}
    for name, aliases in COLUMN_ALIASES.items():
        present = next((alias for alias in aliases if alias in arrays), None)
        if present is None:
            raise ValueError(f"{path} has no array {name}; it holds {summarize_names(list(arrays))}")
        columns[name] = np.asarray(arrays[present])
    lengths = [column.shape for column in columns.values()]
    if any(len(shape) != 1 or shape != lengths[0] for shape in lengths):
        raise ValueError(f"{path}: t, x, y and p of shapes {', '.join(map(str, lengths))} are no recording")
    t, notes = to_microseconds(path, columns["t"], time_unit, offset)
    for name, (low, high) in {"x": (0, 65_535), "y": (0, 65_535), "p": (-1, 1)}.items():
        column = columns[name]
        if column.dtype.kind not in "iub" and not (column.dtype.kind == "f" and np.array_equal(column, np.trunc(column))):
            raise ValueError(f"{path}: {name} holds {column.dtype}, not whole numbers")
        wrong = (column < low) | (column > high) if len(column) and column.dtype != bool else np.zeros(0, bool)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(f"{path}: event {first:,} has {name}={column[first]}, outside {low} to {high}")
    polarity = columns["p"].astype(np.int8)
    x, y = columns["x"].astype(np.uint16), columns["y"].astype(np.uint16)
    return reading.FileEvents(
        (t, x, y, (polarity > 0).astype(np.uint8)), size, notes=notes, is_unit_known=time_unit is not None
    )


def encode_npz(events: Events, **more: Any) -> bytes:
    """A recording as uncompressed NPZ in the smallest types that hold it: faster to read than a compressed one.

    more:  further arrays, such as time_unit="us"
    """
    file = io.BytesIO()
    fits = events.t.min(initial=0) >= -(2**31) and events.t.max(initial=0) < 2**31
    t = events.t.astype(np.int32) if fits else events.t
    x, y = (side.astype(np.uint8) if max(events.size) <= 256 else side for side in (events.x, events.y))
    height, width = events.size
    np.savez(file, t=t, x=x, y=y, p=events.polarity, height=height, width=width, **more)
    return file.getvalue()


def write_npz(events: Events, path: Path) -> None:
    """t, x, y, p, height, width and time_unit, compressed."""
    height, width = events.size
    columns = {"t": events.t, "x": events.x, "y": events.y, "p": events.polarity}
    with path.open("wb") as file:
        np.savez_compressed(file, **columns, height=height, width=width, time_unit="us")  # type: ignore[arg-type]
