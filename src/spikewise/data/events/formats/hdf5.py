"""HDF5 as tonic, SpikingJelly and Prophesee write it, through the package h5py."""

import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading
from .npz import COLUMN_ALIASES, MAX_EXPANSION, events_from_arrays
from .sensor import Size, require_sensor_size
from .times import MAX_TIME

EVENT_GROUPS = ("", "events", "CD/events", "data/0", "data")
FACTS = ("height", "width", "geometry", "sensor_resolution", "time_unit", "t_offset")
GZIP_FILTER, LZF_FILTER = 1, 32000  # numbers of HDF5's filters


def read_hdf5(path: Path, *, time_unit: str | None = None) -> reading.FileEvents:
    """Events of the first of these groups that has any: the file's root, `events`, `CD/events`, `data/0`, `data`.

    A group has the arrays t, x, y and p, or is one array with these fields. What the file or the group says besides, as
    attributes or arrays of one number, is honoured: the sensor's `height` and `width`, `geometry` (640x480) or
    `sensor_resolution` (height, width); `time_unit`; and `t_offset` in microseconds, as of DSEC, which is added to all times.
    Links and data in other files are refused.

    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says, or else microseconds
    Raises:  ValueError for other contents, a damaged file, or where the package is missing; OSError
    """
    h5py = reading.import_optional("h5py", path)
    file_bytes = path.stat().st_size
    try:
        with h5py.File(path, "r") as file:
            for group in EVENT_GROUPS:
                arrays = read_arrays(h5py, file, group, file_bytes)
                if arrays:
                    facts = read_facts(h5py, file, group)
                    break
            else:
                raise ValueError(f"it has t, x, y, p in none of {', '.join(repr(group or '/') for group in EVENT_GROUPS)}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"{path} is not a file of events: {one_line(error)}") from None
    unit, offset = facts.get("time_unit"), np.asarray(facts.get("t_offset", 0))
    if offset.size != 1 or offset.dtype.kind not in "iu" or not -MAX_TIME < int(offset.item()) < MAX_TIME:
        raise ValueError(f"{path}: t_offset should be a whole number of microseconds")
    unit = unit.decode(errors="replace") if isinstance(unit, bytes) else None if unit is None else str(unit)
    return events_from_arrays(path, arrays, size_from_facts(path, facts), time_unit or unit, int(offset.item()))


def read_facts(h5py: Any, file: Any, group: str) -> dict[str, Any]:
    """What attributes, or arrays of one number, say besides the events, by name: of the file, then of the events' groups."""
    facts, node = {}, file
    for step in (None, *(group.split("/") if group else ())):
        node = node if step is None else get_child(h5py, node, step)
        for name in FACTS:
            if name in node.attrs:
                facts[name] = node.attrs[name]
            elif isinstance(child := get_child(h5py, node, name), h5py.Dataset) and child.size == 1:
                facts[name] = read_dataset(child, file_bytes=0).item()
    return facts


def size_from_facts(path: Path, facts: dict[str, Any]) -> Size | None:
    """(height, width) of the sensor; None: the file says nothing.

    Raises:  ValueError for what no sensor has
    """
    if {"height", "width"} <= facts.keys():
        return require_sensor_size(path, facts["height"], facts["width"])
    if "geometry" in facts:
        text = facts["geometry"].decode(errors="replace") if isinstance(facts["geometry"], bytes) else str(facts["geometry"])
        sides = re.fullmatch(r"\s*(\d{1,4})\s*x\s*(\d{1,4})\s*", text)
        return require_sensor_size(path, *(map(int, (sides[2], sides[1])) if sides else (0, 0)))
    if "sensor_resolution" in facts:
        resolution = np.asarray(facts["sensor_resolution"]).reshape(-1)
        return require_sensor_size(path, *(resolution if len(resolution) == 2 else (0, 0)))
    return None


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
        raise ValueError(f"{node.name} would take {required:,} bytes, {required // max(file_bytes, 1)} times the file's")
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
    """The group `events` with t, x, y, p; height, width and time_unit as attributes."""
    h5py = reading.import_optional("h5py", path)
    with h5py.File(path, "w") as file:
        file.attrs["height"], file.attrs["width"] = events.size
        file.attrs["time_unit"] = "us"
        for name, array in (("t", events.t), ("x", events.x), ("y", events.y), ("p", events.polarity)):
            packed = {"compression": "gzip", "shuffle": True} if len(array) else {}
            file.create_dataset(f"events/{name}", data=array, **packed)
