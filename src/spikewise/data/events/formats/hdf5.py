"""HDF5 as tonic, Prophesee, v2e, e2vid, MVSEC, DSEC and M3ED write it, through the package h5py."""

import contextlib
import importlib
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading
from .npz import MAX_EXPANSION
from .sensor import CAMERA_SIZES, Size, require_sensor_size
from .table import COLUMN_ALIASES, arrays_from_table, events_from_arrays
from .times import MAX_TIME

EVENT_GROUPS = ("", "events", "CD/events", "data/0", "data")
TABLE_NAMES = ("events", "event")  # of arrays of four columns
MAX_DEPTH, MAX_NODES = 4, 10_000  # of groups that are searched for events, and of all that is in them
FACTS = ("height", "width", "geometry", "sensor_resolution", "time_unit", "t_offset")
GZIP_FILTER, LZF_FILTER, BLOSC_FILTER = 1, 32000, 32001  # numbers of HDF5's filters
FILTER_NAMES = {
    4: "SZIP", 307: "bzip2", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP", 32015: "Zstandard",
    32024: "SZ3", 32026: "Blosc2", 36559: "Prophesee's ECF",
}  # fmt: skip
ECF_FILTER = 36559
INSTALL_PLUGINS = "pip install hdf5plugin"
INSTALL_ECF = (
    "install Prophesee's codec (https://github.com/prophesee-ai/hdf5_ecf) and set HDF5_PLUGIN_PATH to its folder, or "
    "convert the file with Metavision (metavision_file_to_dat)"
)
MVSEC_SIZE = CAMERA_SIZES[b"346"]


def read_hdf5(
    path: Path, *, time_unit: str | None = None, columns: str | None = None, stream: str | None = None
) -> reading.FileEvents:
    """Events of the first of these groups that has any: the file's root, `events`, `CD/events`, `data/0`, `data`; or else of
    the one group or array that has them, such as `davis/left/events` (MVSEC) or `prophesee/left` (M3ED).

    A group has the arrays t, x, y and p, or is one array with these fields, or one of four columns (v2e, MVSEC), whose
    order is told by its numbers. What the file or the group says besides, as attributes or arrays of one number, is
    honoured: the sensor's `height` and `width`, `geometry` (640x480) or `sensor_resolution` (height, width), M3ED's
    `calib/resolution` (width, height); `time_unit`; and `t_offset` in microseconds, as of DSEC, which is added to all
    times. Fractions of MVSEC and of e2vid (`events/xs`, `ys`, `ts`, `ps`) are seconds. Links and data in other files are
    refused.

    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says, or else microseconds
    columns:    the order of the columns of one array, such as "t,x,y,p"
    stream:     the group or array, or a part of its name, such as "left"
    Raises:  ValueError for other contents, a damaged file, several streams, or where a package is missing; OSError
    """
    h5py = reading.import_optional("h5py", path)
    file_bytes = path.stat().st_size
    try:
        with h5py.File(path, "r") as file:
            group = find_events(h5py, file, path, stream)
            arrays = read_arrays(h5py, file, group, file_bytes)
            facts = read_facts(h5py, file, group)
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, zlib.error) as error:
        text = one_line(error)
        raise ValueError(text if str(path) in text else f"{path} is not a file of events: {text}") from None
    unit, offset = facts.get("time_unit"), np.asarray(facts.get("t_offset", 0))
    if offset.size != 1 or offset.dtype.kind not in "iu" or not -MAX_TIME < int(offset.item()) < MAX_TIME:
        raise ValueError(f"{path}: t_offset should be a whole number of microseconds")
    unit = unit.decode(errors="replace") if isinstance(unit, bytes) else None if unit is None else str(unit)
    unit, notes = time_unit or unit, tuple[str, ...]()
    is_mvsec = re.fullmatch(r"davis/(left|right)/events", group) is not None
    if isinstance(arrays, np.ndarray):
        arrays, notes = arrays_from_table(path, arrays, columns)
    elif columns is not None:
        raise ValueError(f"{path} names its columns, {', '.join(arrays)}; leave out columns=, or --columns")
    t = next((arrays[name] for name in COLUMN_ALIASES["t"] if name in arrays), None)
    in_seconds = t is not None and t.dtype.kind == "f" and (is_mvsec or {"ts", "xs", "ys", "ps"} <= arrays.keys())
    if in_seconds and unit is None:
        notes = (*notes, "times with fractions taken as seconds; time_unit= or --time-unit says otherwise")
    found = events_from_arrays(
        path, arrays, size_from_facts(path, facts), unit, int(offset.item()), notes, "s" if in_seconds else "us"
    )
    return found._replace(usual=MVSEC_SIZE if is_mvsec else None)


def find_events(h5py: Any, file: Any, path: Path, stream: str | None) -> str:
    """The group, or array, that has the events.

    Raises:  ValueError where there are none, or several and none is said
    """
    usual = [group for group in EVENT_GROUPS if has_events(h5py, descend(h5py, file, group), group)]
    if usual and stream is None:
        return usual[0]
    groups = list(dict.fromkeys([*usual, *search_events(h5py, file)]))
    if not groups:
        raise ValueError("no group of it has t, x, y and p, and no array `events` four columns")
    return reading.choose_stream(path, groups, stream)


def search_events(h5py: Any, file: Any) -> Iterator[str]:
    """All groups and arrays of events down to MAX_DEPTH, by name; links are not followed.

    Raises:  ValueError for a file with too many groups
    """
    waiting, seen = [("", file)], 0
    while waiting:
        group, node = waiting.pop(0)
        for name in node:
            if (seen := seen + 1) > MAX_NODES:
                raise ValueError(f"it has more than {MAX_NODES:,} groups and arrays")
            if not isinstance(node.get(name, getlink=True), h5py.HardLink):
                continue
            child, place = node[name], f"{group}/{name}".lstrip("/")
            if has_events(h5py, child, place):
                yield place
            elif isinstance(child, h5py.Group) and place.count("/") < MAX_DEPTH - 1:
                waiting.append((place, child))


def descend(h5py: Any, node: Any, group: str) -> Any:
    """What lies at a place in the file; None for nothing."""
    for step in group.split("/") if group else ():
        node = get_child(h5py, node, step)
    return node


def has_events(h5py: Any, node: Any, name: str) -> bool:
    """Whether this is a group with arrays of all of t, x, y, p, an array with such fields, or a table of events."""
    if isinstance(node, h5py.Dataset):
        names = {field.lower() for field in node.dtype.names or ()}
        is_table = len(node.shape or ()) == 2 and node.shape[1] == 4 and name.rsplit("/", 1)[-1] in TABLE_NAMES
    else:
        names, is_table = set(node.keys()) if isinstance(node, h5py.Group) else set(), False
    return is_table or all(any(alias in names for alias in aliases) for aliases in COLUMN_ALIASES.values())


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
    calibration = get_child(h5py, node, "calib")  # M3ED's
    if isinstance(resolution := get_child(h5py, calibration, "resolution"), h5py.Dataset) and resolution.shape == (2,):
        facts["sensor_resolution"] = read_dataset(resolution, file_bytes=0)[::-1]
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


def read_arrays(h5py: Any, file: Any, group: str, file_bytes: int) -> dict[str, np.ndarray] | np.ndarray:
    """The arrays of one group by name, or a table of numbers."""
    node = descend(h5py, file, group)
    if isinstance(node, h5py.Dataset):
        array = read_dataset(node, file_bytes)
        return {name.lower(): array[name] for name in array.dtype.names} if array.dtype.names else array
    names = [name for aliases in COLUMN_ALIASES.values() for name in aliases if name in node.keys()]  # noqa: SIM118  `in` follows links
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
        plan = node.id.get_create_plist()
        filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
        require_filters(node.name, filters)
        require_bounded_chunks(node, filters, chunk)
    return np.asarray(node[()])


def require_filters(name: str, filters: list[int]) -> None:
    """Refuse what is packed in a way that this HDF5 can't unpack, also with the package hdf5plugin where it is installed.

    Raises:  ImportError that names the way, and says what to install
    """
    h5z = importlib.import_module("h5py").h5z

    if not all(map(h5z.filter_avail, filters)):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")
    for number in filters:
        if not h5z.filter_avail(number):
            remedy = INSTALL_ECF if number == ECF_FILTER else INSTALL_PLUGINS
            known = FILTER_NAMES.get(number, "an unknown filter")
            raise ImportError(f"{name} is packed with {known} (HDF5 filter {number}), which is not installed: {remedy}")


def require_bounded_chunks(node: Any, filters: list[int], chunk: int) -> None:
    """Refuse chunks that unpack to more than a chunk: HDF5 allocates whatever they claim."""
    compressions = [number for number in filters if number in (GZIP_FILTER, LZF_FILTER, BLOSC_FILTER)]
    if len(compressions) > 1:
        raise ValueError(f"{node.name} is packed more than once; write it with one compression")
    if not compressions or compressions == [LZF_FILTER]:  # LZF at its best makes a 90th
        return
    for k in range(node.id.get_num_chunks()):
        skipped, content = node.id.read_direct_chunk(node.id.get_chunk_info(k).chunk_offset)
        if skipped >> filters.index(compressions[0]) & 1:
            continue
        if compressions == [GZIP_FILTER]:
            unpacked = len(zlib.decompressobj().decompress(content, chunk + 1))
        else:
            unpacked = int.from_bytes(content[4:8], "little")  # Blosc's header says it
        if unpacked > chunk:
            raise ValueError(f"a chunk of {node.name} unpacks to more than its {chunk:,} bytes; it is damaged")


def write_hdf5(events: Events, path: Path) -> None:
    """The group `events` with t, x, y, p; as attributes time_unit, and height and width where they are told.

    The file is made in memory first: where the disk is full, HDF5 ends the process when it closes a file of its own.
    """
    h5py = reading.import_optional("h5py", path)
    with h5py.File(path, "w", driver="core", backing_store=False) as file:
        if events.is_size_told:
            file.attrs["height"], file.attrs["width"] = events.size
        file.attrs["time_unit"] = "us"
        for name, array in (("t", events.t), ("x", events.x), ("y", events.y), ("p", events.polarity)):
            packed = {"compression": "gzip", "shuffle": True} if len(array) else {}
            file.create_dataset(f"events/{name}", data=array, **packed)
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)
