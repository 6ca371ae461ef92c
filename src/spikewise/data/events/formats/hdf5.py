"""HDF5: t, x, y, p as arrays or as fields of one, as tonic, SpikingJelly and Prophesee write them; through the package h5py."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..events import Events
from . import raw as files
from .npz import INFLATED, NAMES, from_arrays

PLACES = ("", "events", "CD/events", "data/0", "data")
GZIP, LZF = 1, 32000  # numbers of HDF5's filters


def read_hdf5(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of the first of these places that has any: the file itself, `events`, `CD/events`, `data/0`, `data`.

    There stand t (microseconds), x, y and p as arrays, or one array with these fields. The file's attributes `height` and
    `width`, where there are any, are the sensor's. What lies elsewhere, in other files or behind links, is not read.
    Raises:  ValueError for other contents, a damaged file, or where the package is missing; OSError
    """
    h5py = files.extra("h5py", path)
    there = path.stat().st_size
    try:
        with h5py.File(path, "r") as file:
            for place in PLACES:
                found = arrays_at(h5py, file, place, there)
                if found:
                    if size is None and {"height", "width"} <= set(file.attrs):
                        size = files.sensor(path, file.attrs["height"], file.attrs["width"])
                    break
            else:
                raise ValueError(f"it has t, x, y, p in none of {', '.join(repr(place or '/') for place in PLACES)}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"{path} is no file of events: {' '.join(str(error).split())}") from None
    return from_arrays(path, found, size)


def arrays_at(h5py: Any, file: Any, place: str, there: int) -> dict[str, np.ndarray]:
    """The arrays at one place by name; none, if there are no events."""
    node = file
    for step in place.split("/") if place else ():
        node = child(h5py, node, step)
    if isinstance(node, h5py.Dataset) and node.dtype.names:
        array = whole(node, there)
        return {name: array[name] for name in node.dtype.names}
    if not isinstance(node, h5py.Group):
        return {}
    names = {name for others in NAMES.values() for name in others} & set(node)
    if not all(any(name in names for name in others) for others in NAMES.values()):
        return {}
    arrays = {name: child(h5py, node, name) for name in names}
    return {name: whole(array, there) for name, array in arrays.items() if isinstance(array, h5py.Dataset)}


def child(h5py: Any, node: Any, name: str) -> Any:
    """What a group has under a name, or None; never what a link points to: it may be another file, or a pipe."""
    if not isinstance(node, h5py.Group) or name not in node.keys():  # noqa: SIM118  `in` of a group follows links
        return None
    if not isinstance(node.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} lies elsewhere: copy what it points to into the file")
    return node[name]


def whole(node: Any, there: int) -> np.ndarray:
    """A data set in memory, unless it would take far more than the file holds."""
    if node.is_virtual or node.external:
        raise ValueError(f"{node.name} lies elsewhere: copy what it points to into the file")
    if node.dtype.hasobject:
        raise ValueError(f"{node.name} holds objects")
    chunk = math.prod(node.chunks) * node.dtype.itemsize if node.chunks else 0
    if (takes := max(node.nbytes, chunk)) > INFLATED * max(there, 4096):
        raise ValueError(f"{node.name} would take {takes:,} bytes, {takes // there} times the file's")
    if node.chunks:
        require_bounded(node, chunk)
    return np.asarray(node[()])


def require_bounded(node: Any, chunk: int) -> None:
    """Refuse chunks that unpack to more than a chunk: HDF5 makes memory for whatever comes."""
    plan = node.id.get_create_plist()
    packings = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
    packed_by = [packing for packing in packings if packing in (GZIP, LZF)]
    if len(packed_by) > 1:
        raise ValueError(f"{node.name} is packed more than once; write it with one compression")
    if packed_by != [GZIP]:  # LZF at its best makes a 90th
        return
    for k in range(node.id.get_num_chunks()):
        skipped, content = node.id.read_direct_chunk(node.id.get_chunk_info(k).chunk_offset)
        if not skipped >> packings.index(GZIP) & 1 and len(zlib.decompressobj().decompress(content, chunk + 1)) > chunk:
            raise ValueError(f"a chunk of {node.name} unpacks to more than its {chunk:,} bytes; it is damaged")


def write_hdf5(events: Events, path: Path) -> None:
    """The group `events` with t, x, y, p; height and width as attributes."""
    h5py = files.extra("h5py", path)
    with h5py.File(path, "w") as file:
        file.attrs["height"], file.attrs["width"] = events.size
        for name, array in (("t", events.t), ("x", events.x), ("y", events.y), ("p", events.polarity)):
            packed = {"compression": "gzip", "shuffle": True} if len(array) else {}
            file.create_dataset(f"events/{name}", data=array, **packed)
