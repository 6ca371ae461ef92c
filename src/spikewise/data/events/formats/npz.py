"""NumPy's files: NPZ of the arrays t, x, y, p as SpikingJelly writes them, and single arrays (NPY)."""

import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading
from .sensor import require_sensor_size
from .table import arrays_from_table, events_from_arrays, summarize_names

READ_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError)
HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MAX_EXPANSION = 64  # bytes of the arrays per byte of the file; events compress to about a third


def read_npz(path: Path, *, time_unit: str | None = None, columns: str | None = None) -> reading.FileEvents:
    """Arrays of the same length, t, x, y and p; or one array with these fields; or one table of four columns.

    `height` and `width`, if there are any, are the sensor's, and `time_unit` that of t. Nothing is unpickled.

    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says, or else microseconds
    columns:    the order of a table's columns, such as "t,x,y,p"; None: it is told by the numbers
    Raises:  ValueError for other contents, a damaged file, or one that would unpack to far more than it holds; OSError
    """
    file_bytes = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            promised = sum(member.file_size for member in archive.infolist())
            if promised > MAX_EXPANSION * file_bytes + 2**20:
                raise ValueError(f"its arrays would take {promised:,} bytes, {promised // file_bytes} times the file's")
            arrays = {member.filename.removesuffix(".npy"): read_member(archive, member) for member in archive.infolist()}
    except READ_ERRORS as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    notes: tuple[str, ...] = ()
    events = [name for name, array in arrays.items() if array.dtype.names or is_table(array)]
    if len(events) == 1 and not {"x", "xs"} & arrays.keys():
        fields, notes = split_array(path, arrays[events[0]], columns)
        arrays |= fields
    elif columns is not None:
        raise ValueError(f"{path} holds {summarize_names(list(arrays))}, and not one table; leave out columns=, or --columns")
    told = {"height", "width"} <= arrays.keys()
    size = require_sensor_size(path, arrays["height"], arrays["width"]) if told else None
    time_unit = time_unit or (str(arrays["time_unit"]) if "time_unit" in arrays else None)
    return events_from_arrays(path, arrays, size, time_unit, notes=notes)


def read_npy(path: Path, *, time_unit: str | None = None, columns: str | None = None) -> reading.FileEvents:
    """One array: with the fields t, x, y and p, or a table of four columns. Nothing is unpickled.

    time_unit, columns:  as of `read_npz`
    Raises:  ValueError for other contents or a damaged file; OSError
    """
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = read_header(file, path.name, path.stat().st_size)
            begin = file.tell()
    except READ_ERRORS as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    if not (dtype.names and len(shape) == 1) and not (len(shape) == 2 and 4 in shape and dtype.names is None):
        raise ValueError(f"{path} holds {dtype} of shape {shape}; give an array with the fields t, x, y, p, or of four columns")
    empty = 0 in shape  # of no bytes, which can't be mapped
    array = np.empty(shape, dtype) if empty else np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")
    arrays, notes = split_array(path, array, columns)
    return events_from_arrays(path, arrays, None, time_unit, notes=notes)


def is_table(array: np.ndarray) -> bool:
    return array.ndim == 2 and 4 in array.shape


def split_array(path: Path, array: np.ndarray, columns: str | None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The fields of an array by name, or the columns of a table as t, x, y, p; and notes.

    Raises:  ValueError for columns that can't be told, or said of an array that has names
    """
    if not array.dtype.names:
        return arrays_from_table(path, array, columns)
    if columns is not None:
        raise ValueError(f"{path} names its fields, {', '.join(array.dtype.names)}; leave out columns=, or --columns")
    return {name.lower(): array[name] for name in array.dtype.names}, ()


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array whose own header agrees with the archive's on its size, checked before memory is allocated.

    Raises:  one of READ_ERRORS
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack all at once
        raise ValueError(f"{member.filename[:40]} is packed in a way that NumPy never uses")
    with archive.open(member) as file:
        shape, fortran, dtype = read_header(file, member.filename, member.file_size)
        content = file.read()
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def read_header(file: IO[bytes], name: str, num_bytes: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and dtype of an array of NumPy's, that takes what the file has after them.

    Raises:  ValueError, or another of READ_ERRORS
    """
    read_version = HEADER_READERS.get(np.lib.format.read_magic(file))
    if read_version is None:
        raise ValueError(f"{name[:40]} has a newer version than NumPy's 2.0")
    try:
        with warnings.catch_warnings(action="ignore"):  # of arrays written by Python 2
            shape, fortran, dtype = read_version(file)
    except Exception as error:  # it is parsed as Python, which fails in many ways
        raise ValueError(f"the header of {name[:40]} is none ({str(error)[:80]})") from None
    if dtype.hasobject:
        raise ValueError(f"{name[:40]} holds Python objects, which are not unpickled; save arrays of numbers")
    promised, stored = math.prod(shape) * dtype.itemsize, num_bytes - file.tell()
    if promised != stored or not dtype.itemsize:
        raise ValueError(f"{name[:40]} promises {promised:,} bytes and has {stored:,}")
    return shape, fortran, dtype


def write_npz(events: Events, path: Path) -> None:
    """t, x, y, p, height and width where they are told, and time_unit, compressed."""
    sensor = dict(zip(("height", "width"), events.size, strict=True)) if events.is_size_told else {}
    columns = {"t": events.t, "x": events.x, "y": events.y, "p": events.polarity}
    with path.open("wb") as file:
        np.savez_compressed(file, **columns, **sensor, time_unit="us")  # type: ignore[arg-type]
