"""HDF5 as tonic, SpikingJelly and Prophesee write it, through the package h5py."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading
from .npz import COLUMN_ALIASES, MAX_EXPANSION, events_from_arrays

EVENT_GROUPS = ("", "events", "CD/events", "data/0", "data")
GZIP_FILTER, LZF_FILTER = 1, 32000  # numbers of HDF5's filters


def read_hdf5(path: Path, size: reading.Size | None = None) -> Events:
    """Events of the first of these groups that has any: the file's root, `events`, `CD/events`, `data/0`, `data`.

    A group has the arrays t (microseconds), x, y and p, or is one array with these fields. The file's attributes `height` and
    `width`, if there are any, are the sensor's. Links and data in other files are refused.

    Raises:  ValueError for other contents, a damaged file, or where the package is missing; OSError
    """
    h5py = reading.import_optional("h5py", path)
    file_bytes = path.stat().st_size
    try:
        with h5py.File(path, "r") as file:
            candidates = (read_arrays(h5py, file, group, file_bytes) for group in EVENT_GROUPS)
            arrays = next(filter(None, candidates), None)
            if arrays is None:
                raise ValueError(f"it has t, x, y, p in none of {', '.join(repr(group or '/') for group in EVENT_GROUPS)}")
            if size is None and {"height", "width"} <= set(file.attrs):
                size = reading.require_sensor_size(path, file.attrs["height"], file.attrs["width"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    return events_from_arrays(path, arrays, size)


def read_arrays(h5py: Any, file: Any, group: str, file_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of one group by name; none, if it has no events."""
    node = file
    for step in group.split("/") if group else ():
        node = get_child(h5py, node, step)
    if isinstance(node, h5py.Dataset) and node.dtype.names:
        array = read_dataset(node, file_bytes)
        return {name: array[name] for name in node.dtype.names}
    if not isinstance(node, h5py.Group):
        return {}
    names = {name for aliases in COLUMN_ALIASES.values() for name in aliases} & set(node)
    if not all(any(name in names for name in aliases) for aliases in COLUMN_ALIASES.values()):
        return {}
    arrays = {name: get_child(h5py, node, name) for name in names}
    return {name: read_dataset(array, file_bytes) for name, array in arrays.items() if isinstance(array, h5py.Dataset)}


def get_child(h5py: Any, node: Any, name: str) -> Any:
    """A group's member, or None; never what a link points to: it may be another file, or a pipe."""
    if not isinstance(node, h5py.Group) or name not in node.keys():  # noqa: SIM118  `in` of a group follows links
        return None
    if not isinstance(node.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} lies elsewhere: copy what it points to into the file")
    return node[name]


def read_dataset(node: Any, file_bytes: int) -> np.ndarray:
    """An HDF5 dataset in memory, unless that would take far more than the file holds."""
    if node.is_virtual or node.external:
        raise ValueError(f"{node.name} lies elsewhere: copy what it points to into the file")
    if node.dtype.hasobject:
        raise ValueError(f"{node.name} holds objects")
    chunk = math.prod(node.chunks) * node.dtype.itemsize if node.chunks else 0
    if (required := max(node.nbytes, chunk)) > MAX_EXPANSION * max(file_bytes, 4096):
        raise ValueError(f"{node.name} would take {required:,} bytes, {required // file_bytes} times the file's")
    if node.chunks:
        require_bounded_chunks(node, chunk)
    return np.asarray(node[()])


def require_bounded_chunks(node: Any, chunk: int) -> None:
    """Refuse chunks that unpack to more than a chunk: HDF5 allocates whatever they claim."""
    plan = node.id.get_create_plist()
    filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
    compressions = [filter_id for filter_id in filters if filter_id in (GZIP_FILTER, LZF_FILTER)]
    if len(compressions) > 1:
        raise ValueError(f"{node.name} is packed more than once; write it with one compression")
    if compressions != [GZIP_FILTER]:  # LZF_FILTER at its best makes a 90th
        return
    for k in range(node.id.get_num_chunks()):
        skipped, content = node.id.read_direct_chunk(node.id.get_chunk_info(k).chunk_offset)
        if not skipped >> filters.index(GZIP_FILTER) & 1 and len(zlib.decompressobj().decompress(content, chunk + 1)) > chunk:
            raise ValueError(f"a chunk of {node.name} unpacks to more than its {chunk:,} bytes; it is damaged")


def write_hdf5(events: Events, path: Path) -> None:
    """The group `events` with t, x, y, p; height and width as attributes."""
    h5py = reading.import_optional("h5py", path)
    with h5py.File(path, "w") as file:
        file.attrs["height"], file.attrs["width"] = events.size
        for name, array in (("t", events.t), ("x", events.x), ("y", events.y), ("p", events.polarity)):
            packed = {"compression": "gzip", "shuffle": True} if len(array) else {}
            file.create_dataset(f"events/{name}", data=array, **packed)
