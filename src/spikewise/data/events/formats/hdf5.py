"""HDF5 as tonic, Prophesee, v2e, e2vid, MVSEC, DSEC and M3ED write it, through the package h5py."""

import itertools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...hdf5 import get_child, read_dataset
from ...messages import one_line
from ..events import Events
from . import reading
from .npz import MAX_EXPANSION
from .sensor import CAMERA_SIZES, PAIR_NAMES, SIDE_NAMES, size_from_facts
from .table import COLUMN_ALIASES, arrays_from_table, events_from_arrays, find_columns
from .times import MAX_TIME, UNIT_NAMES_OF_FACTS, unit_of_facts

EVENT_GROUPS = ("", "events", "CD/events", "data/0", "data")
TABLE_NAMES = ("events", "event")  # of arrays of four columns
MAX_DEPTH, MAX_NODES = 4, 10_000  # of groups that are searched for events, and of all that is in them
FACTS = (*UNIT_NAMES_OF_FACTS, *itertools.chain(*SIDE_NAMES), *PAIR_NAMES, "t_offset")
MICROSECOND_FACTS = ("ms_to_idx", "ms_map_idx")  # an index by milliseconds, of DSEC and M3ED, whose times are microseconds
MICROSECOND_GROUPS = ("CD/events",)  # of Metavision
MAX_FACT = 3  # numbers of an array that says something of all events
TRUNCATED = re.compile(r"truncated file: eof = (\d+), .*stored_eof = (\d+)")  # how HDF5 says it
MVSEC_SIZE = CAMERA_SIZES[b"346"]


def read_hdf5(
    path: Path, *, time_unit: str | None = None, columns: str | None = None, stream: str | None = None
) -> reading.FileEvents:
    """Events of the first of these groups that has any: the file's root, `events`, `CD/events`, `data/0`, `data`; or else of
    the one group or array that has them, such as `davis/left/events` (MVSEC) or `prophesee/left` (M3ED).

    A group has the arrays t, x, y and p, or is one array with these fields, or one of four columns (v2e, MVSEC), whose
    order is told by its numbers. What the file or the group says besides, as attributes or arrays of a few numbers, is
    honoured: the sensor's size (see `size_from_facts`), M3ED's `calib/resolution` (width, height); `time_unit`, also of the
    array t; and `t_offset` in microseconds, as of DSEC, which is added to all times. Times of DSEC, M3ED and Metavision are
    microseconds. Links and data in other files are refused.

    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says, or else it is taken for the usual one where it may be
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
        if cut := TRUNCATED.search(text):
            text = (
                f"{path} was cut: it has {int(cut[1]):,} of {int(cut[2]):,} bytes; nothing of it can be salvaged, as HDF5 "
                "notes all over the file where its arrays lie; copy it again"
            )
        raise ValueError(text if str(path) in text else f"{path} is not a file of events: {text}") from None
    offset, order = np.asarray(facts.get("t_offset", 0)), None
    if offset.size != 1 or offset.dtype.kind not in "iu" or not -MAX_TIME < int(offset.item()) < MAX_TIME:
        raise ValueError(f"{path}: t_offset should be a whole number of microseconds")
    if isinstance(arrays, np.ndarray):
        arrays, order = arrays_from_table(path, arrays, columns)
    elif columns is not None:
        raise ValueError(f"{path} names its columns, {', '.join(arrays)}; leave out columns=, or --columns")
    is_usual = facts.keys() & MICROSECOND_FACTS or group in MICROSECOND_GROUPS
    said = unit_of_facts(path, facts) or ("us" if is_usual else None)
    found = events_from_arrays(path, arrays, None, time_unit, said_unit=said, offset=int(offset.item()), order=order)
    size, notes = size_from_facts(path, facts, *found.columns[1:3])
    is_mvsec = re.fullmatch(r"davis/(left|right)/events", group) is not None
    return found._replace(size=size, notes=(*found.notes, *notes), usual=MVSEC_SIZE if is_mvsec else None)


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
    return is_table or find_columns(names).keys() == COLUMN_ALIASES.keys()


def read_facts(h5py: Any, file: Any, group: str) -> dict[str, Any]:
    """What attributes, or arrays of a few numbers, say besides the events, by name: of the file, then of the events' groups."""
    facts, node = {}, file
    for step in (None, *(group.split("/") if group else ())):
        node = node if step is None else get_child(h5py, node, step)
        said = {name.lower(): name for name in node.attrs}
        for name in FACTS:
            if name in said:
                facts[name] = node.attrs[said[name]]
            elif isinstance(child := get_child(h5py, node, name), h5py.Dataset) and 1 <= (child.size or 0) <= MAX_FACT:
                facts[name] = read_dataset(child, 0, MAX_EXPANSION)
        names = node.keys() if isinstance(node, h5py.Group) else ()
        facts |= {name: True for name in MICROSECOND_FACTS if name in names}
        if (columns := find_columns(names)).keys() == COLUMN_ALIASES.keys():
            attributes = getattr(get_child(h5py, node, columns["t"][0]), "attrs", {})
            for name in (*UNIT_NAMES_OF_FACTS, "unit", "units"):
                facts |= {"time_unit": attributes[name]} if name in attributes else {}
    calibration = get_child(h5py, node, "calib")  # M3ED's
    if isinstance(resolution := get_child(h5py, calibration, "resolution"), h5py.Dataset) and resolution.shape == (2,):
        facts["sensor_resolution"] = read_dataset(resolution, 0, MAX_EXPANSION)[::-1]
    return facts


def read_arrays(h5py: Any, file: Any, group: str, file_bytes: int) -> dict[str, np.ndarray] | np.ndarray:
    """The arrays of one group by name, or a table of numbers."""
    node = descend(h5py, file, group)
    if isinstance(node, h5py.Dataset):
        array = read_dataset(node, file_bytes, MAX_EXPANSION)
        return {name.lower(): array[name] for name in array.dtype.names} if array.dtype.names else array
    names = [name for name, _ in find_columns(node.keys()).values()]
    arrays = {name: get_child(h5py, node, name) for name in names}
    return {
        name: read_dataset(array, file_bytes, MAX_EXPANSION)
        for name, array in arrays.items()
        if isinstance(array, h5py.Dataset)
    }


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
