"""Events as NumPy's files: `.npz` of columns or of a structured array, `.npy` of a structured array."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from ..events import Events
from .raw import file_size, require_inside, shown

NAMES = {  # of the columns: ours, SpikingJelly's and tonic's
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "polarity": ("polarity", "p", "ps", "pol", "polarities"),
}
INFLATES = 64  # a compressed file may become so many times larger
FREELY = 1 << 24  # bytes that a file may have unpacked in any case
DEFECTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, UnicodeError, KeyError)


def read_npz(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Columns t, x, y, p, each an array of whole numbers, or one structured array that has them as fields.

    A compressed file may become 64 times larger, or 16 MiB. Nothing in it is unpickled.

    size:    (height, width); None: that of the array `size` in the file, or else the smallest that holds all events
    Raises:  OSError; ValueError with what is wrong with the file
    """
    limit = max(INFLATES * file_size(path), FREELY)
    try:
        with zipfile.ZipFile(path) as packed:
            arrays: dict[str, np.ndarray] = {}
            for member in packed.infolist():
                name = member.filename.removesuffix(".npy")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                    raise ValueError(f"member {name!r} is packed in a way that NumPy does not write; write it with numpy.savez")
                limit -= member.file_size
                if limit < 0:
                    raise ValueError(
                        f"byte {member.header_offset:,}: with member {name!r} it would unpack to more than {INFLATES} times "
                        "its size; if that is meant, write it with numpy.savez, uncompressed"
                    )
                with packed.open(member) as file:
                    arrays[name] = read_array(file, member.file_size, repr(name))
    except DEFECTS as error:
        raise ValueError(f"{shown(path)} is no whole .npz file: {' '.join(str(error).split())}; write it again") from None
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from None
    return from_arrays(arrays, size, path)


def read_npy(path: Path, size: tuple[int, int] | None = None) -> Events:
    """One structured array with the fields t, x, y, p.

    size:    (height, width); None: the smallest that holds all events
    Raises:  OSError; ValueError with what is wrong with the file
    """
    whole = file_size(path)
    try:
        with path.open("rb") as file:
            array = read_array(file, whole, "the array")
    except (*DEFECTS, ValueError) as error:
        raise ValueError(f"{shown(path)}: {' '.join(str(error).split())}") from None
    return from_arrays({"events": array}, size, path)


def read_array(file: IO[bytes], holds: int, name: str) -> np.ndarray:
    """An array in NumPy's format, if its header promises what the `holds` bytes have.

    Raises:  ValueError
    """
    head = io.BytesIO(file.read(min(holds, 1 << 16)))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} is of version {version} of NumPy's format; write it with numpy.savez")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(head)
    number = shape[0] if len(shape) == 1 else -1
    if dtype.hasobject or number < 0 or (dtype.names is None and dtype.kind not in "biu"):
        raise ValueError(f"{name} has the type {short(dtype)} and the shape {shape}; events are columns of whole numbers")
    if number * dtype.itemsize != holds - head.tell():
        raise ValueError(
            f"{name} promises {number:,} entries of {dtype.itemsize} bytes, where {holds - head.tell():,} bytes follow its "
            f"header at byte {head.tell()}; it was cut or damaged, write it again"
        )
    content = head.read() + file.read()
    if len(content) != number * dtype.itemsize:
        raise ValueError(f"{name} holds {len(content):,} of {number * dtype.itemsize:,} bytes; it was cut, write it again")
    return np.frombuffer(content, dtype=dtype)


def short(dtype: np.dtype) -> str:
    text = str(dtype)
    return text if len(text) < 60 else text[:60] + "..."


def from_arrays(arrays: dict[str, np.ndarray], size: tuple[int, int] | None, path: Path) -> Events:
    """Events of named columns, or of the one structured array among them.

    Raises:  ValueError for columns that are missing, of different lengths, or of other numbers than events have
    """
    structured = [array for array in arrays.values() if array.dtype.names]
    columns = {name: structured[0][name] for name in structured[0].dtype.names or ()} if len(structured) == 1 else arrays
    found = {ours: next((columns[name] for name in names if name in columns), None) for ours, names in NAMES.items()}
    t, x, y, polarity = found.values()
    if t is None or x is None or y is None or polarity is None:
        names = ", ".join(map(repr, list(columns)[:8])) or "nothing"
        raise ValueError(f"{shown(path)} has {names}, where events have t, x, y and p; name them so")
    if len({array.shape for array in (t, x, y, polarity)}) > 1 or t.ndim != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(NAMES, (t, x, y, polarity), strict=True))
        raise ValueError(f"{shown(path)}: columns of different lengths ({shapes}); write them again, all of one length")
    if size is None and "size" in arrays:
        stored = arrays["size"]
        if stored.shape != (2,) or stored.dtype.names or not (stored > 0).all() or not (stored <= 1 << 16).all():
            raise ValueError(f"{shown(path)}: its size is no (height, width) in pixels; write it again, or give the size")
        size = (int(stored[0]), int(stored[1]))
    for name, array, most in (("x", x, 1 << 16), ("y", y, 1 << 16), ("polarity", polarity, 2), ("t", t, 1 << 63)):
        if array.dtype.kind not in "biu":
            raise ValueError(f"{shown(path)}: {name} is {short(array.dtype)}; events have whole numbers, times in microseconds")
        low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
        if (low < 0 and name != "t") or high >= most:
            raise ValueError(f"{shown(path)}: {name} goes from {low:,} to {high:,}, where an event has 0 to {most - 1:,}")
    x, y = x.astype(np.uint16), y.astype(np.uint16)
    if size is None:
        size = (int(y.max(initial=0)) + 1, int(x.max(initial=0)) + 1)
    return require_inside(Events(t.astype(np.int64), x, y, polarity.astype(np.uint8), size), path)


def write_npz(events: Events, path: Path) -> None:
    """Columns t, x, y, p, as SpikingJelly writes them, and the sensor's size; uncompressed."""
    with path.open("wb") as file:
        np.savez(file, t=events.t, x=events.x, y=events.y, p=events.polarity, size=np.array(events.size))
        file.flush()
        os.fsync(file.fileno())
