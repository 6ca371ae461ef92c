"""NumPy's files: NPZ of the arrays t, x, y, p as SpikingJelly writes them, and single arrays (NPY)."""

import io
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading
from .cut_zip import unpack_members
from .sensor import size_from_facts
from .table import SAY_COLUMNS, Order, arrays_from_table, events_from_arrays, find_columns, summarize_names
from .times import unit_of_facts

READ_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError)
HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MAX_EXPANSION = 64  # bytes of the arrays per byte of the file; events compress to about a third


def read_npz(path: Path, *, time_unit: str | None = None, columns: str | None = None) -> reading.FileEvents:
    """Arrays of the same length, t, x, y and p; or one array with these fields; or one table of four columns.

    `height` and `width` or `sensor_size` (see `size_from_facts`), if there are any, are the sensor's, and `time_unit`, or the
    name of t (`t_us`, `timestamp_ns`), says its unit. Nothing is unpickled.

    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says, or else it is taken for the usual one where it may be
    columns:    the order of a table's columns, such as "t,x,y,p"; None: it is told by the numbers
    Raises:  ValueError for other contents, a damaged file, or one that would unpack to far more than it holds; OSError
    """
    file_bytes = path.stat().st_size
    try:
        with open_zip(path) as archive:
            promised = sum(member.file_size for member in archive.infolist())
            if promised > MAX_EXPANSION * file_bytes + 2**20:
                raise ValueError(f"its arrays would take {promised:,} bytes, {promised // file_bytes} times the file's")
            arrays = {member.filename.removesuffix(".npy"): read_member(archive, member) for member in archive.infolist()}
    except reading.DamagedFile:
        raise
    except READ_ERRORS as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    order = None
    events = [name for name, array in arrays.items() if array.dtype.names or is_table(array.shape, columns)]
    if len(events) == 1 and "x" not in find_columns(arrays):
        fields, order = split_array(path, arrays[events[0]], columns)
        arrays |= fields
    elif columns is not None:
        raise ValueError(f"{path} holds {summarize_names(list(arrays))}, and not one table; leave out columns=, or --columns")
    found = events_from_arrays(path, arrays, None, time_unit, said_unit=unit_of_facts(path, arrays), order=order)
    size, notes = size_from_facts(path, {name.lower(): array for name, array in arrays.items()}, *found.columns[1:3])
    return found._replace(size=size, notes=(*found.notes, *notes))


def read_npy(path: Path, *, time_unit: str | None = None, columns: str | None = None) -> reading.FileEvents:
    """One array: with the fields t, x, y and p, or a table of four columns. Nothing is unpickled.

    time_unit, columns:  as of `read_npz`
    Raises:  ValueError for other contents or a damaged file; OSError
    """
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = read_header(file, path.name, path.stat().st_size)
            begin = file.tell()
    except reading.DamagedFile:
        raise
    except READ_ERRORS as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    if not (dtype.names and len(shape) == 1) and not (is_table(shape, columns) and dtype.names is None):
        wanted = f"give an array with the fields t, x, y, p, or of four columns; of others {SAY_COLUMNS}"
        raise ValueError(f"{path} holds {dtype} of shape {shape}; {wanted}")
    empty = 0 in shape  # of no bytes, which can't be mapped
    array = np.empty(shape, dtype) if empty else np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")
    arrays, order = split_array(path, array, columns)
    return events_from_arrays(path, arrays, None, time_unit, order=order)


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip file to read.

    Raises:  DamagedFile where its directory is missing or damaged: the members' own headers tell, too
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        what = f"{path} was cut or is damaged: the directory at its end can't be read ({one_line(error)})"
        raise reading.DamagedFile(f"{what}; copy it again", path.stat().st_size) from None


def is_table(shape: tuple[int, ...], columns: str | None) -> bool:
    """Whether an array has four columns, or as many as the user says."""
    return len(shape) == 2 and (4 if columns is None else columns.count(",") + 1) in shape


def split_array(path: Path, array: np.ndarray, columns: str | None) -> tuple[dict[str, np.ndarray], Order | None]:
    """The fields of an array by name, or the columns of a table as t, x, y, p; and their order, if it was guessed.

    Raises:  ValueError for columns that can't be told, or said of an array that has names
    """
    if not array.dtype.names:
        return arrays_from_table(path, array, columns)
    if columns is not None:
        raise ValueError(f"{path} names its fields, {', '.join(array.dtype.names)}; leave out columns=, or --columns")
    return {name.lower(): array[name] for name in array.dtype.names}, None


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
    shape, fortran, dtype = read_claims(file, name)
    promised, stored = math.prod(shape) * dtype.itemsize, num_bytes - file.tell()
    if promised > stored > 0 and isinstance(file, io.BufferedReader):  # of its own, and not in an archive
        message = f"{file.name} was cut: it promises {promised:,} bytes of numbers and has {stored:,}"
        raise reading.DamagedFile(message, num_bytes, num_bytes - stored + promised)
    if promised != stored or not dtype.itemsize:
        raise ValueError(f"{name[:40]} promises {promised:,} bytes and has {stored:,}")
    return shape, fortran, dtype


def read_claims(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """What the header of an array of NumPy's says: shape, whether it is in Fortran's order, and dtype.

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
    return shape, fortran, dtype


# Files that were cut ---------------------------------------------------------------------------------------------------------


def end_npz(path: Path) -> None:
    """Write a file that was cut anew, with a directory: the arrays that are left, those of events as long as the shortest.

    Raises:  ValueError for members that take far more than the file has
    """
    with unpack_members(path, MAX_EXPANSION * path.stat().st_size + 2**20) as members:
        found = {name.removesuffix(".npy"): read_rows(file, name) for name, file in members.items()}
    arrays = {name: array for name, array in found.items() if array is not None}
    columns = [name for name, _ in find_columns(arrays).values() if arrays[name].ndim == 1]
    shortest = min((len(arrays[name]) for name in columns), default=0)
    arrays |= {name: arrays[name][:shortest] for name in columns}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def end_npy(path: Path) -> None:
    """Write an array that was cut anew, of the rows that are whole.

    Raises:  ValueError where none can be told
    """
    array = read_rows(path, path.name)
    if array is None:
        raise ValueError(f"{path} holds no whole rows: its columns lie one after another, or its header is damaged")
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def read_rows(path: Path, name: str) -> np.ndarray | None:
    """An array, or the rows of it that its file holds whole; None where none can be told."""
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = read_claims(file, name)
            content = file.read()
        if len(content) == math.prod(shape) * dtype.itemsize:
            return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    except READ_ERRORS:
        return None
    row = math.prod(shape[1:]) * dtype.itemsize
    if not shape or row <= 0 or (fortran and len(shape) > 1):
        return None
    rows = max(0, min(shape[0], len(content) // row))
    return np.frombuffer(content[: rows * row], dtype).reshape(rows, *shape[1:])


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
    """time_unit, height and width where they are told, t, x, y, p, compressed; events last, as a cut file loses its end."""
    sensor = dict(zip(("height", "width"), events.size, strict=True)) if events.is_size_told else {}
    columns = {"t": events.t, "x": events.x, "y": events.y, "p": events.polarity}
    with path.open("wb") as file:
        np.savez_compressed(file, time_unit="us", **sensor, **columns)  # type: ignore[arg-type]
