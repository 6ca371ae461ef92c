"""HDF5: t, x, y, p as arrays or as fields of one, as tonic, SpikingJelly and Prophesee write them; through the package h5py."""

from pathlib import Path
from typing import Any

import numpy as np

from ..events import Events
from . import raw as files
from .npz import INFLATED, NAMES, from_arrays, sensor

PLACES = ("", "events", "CD/events", "data/0", "data")


def read_hdf5(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of the first of these places that has any: the file itself, `events`, `CD/events`, `data/0`, `data`.

    There stand t (microseconds), x, y and p as arrays, or one array with these fields. The file's attributes `height` and
    `width`, where there are any, are the sensor's.
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
                        size = sensor(path, file.attrs["height"], file.attrs["width"])
                    break
            else:
                raise ValueError(f"it has t, x, y, p in none of {', '.join(repr(place or '/') for place in PLACES)}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of events: {' '.join(str(error).split())}") from None
    return from_arrays(path, found, size)


def arrays_at(h5py: Any, file: Any, place: str, there: int) -> dict[str, np.ndarray]:
    """The arrays at one place by name; none, if there are no events."""
    node = file.get(place) if place else file
    if isinstance(node, h5py.Dataset) and node.dtype.names:
        array = whole(node, there)
        return {name: array[name] for name in node.dtype.names}
    if not isinstance(node, h5py.Group):
        return {}
    names = {name for others in NAMES.values() for name in others} & set(node)
    arrays = {name: node[name] for name in names}
    if not all(any(name in names for name in others) for others in NAMES.values()):
        return {}
    return {name: whole(array, there) for name, array in arrays.items() if isinstance(array, h5py.Dataset)}


def whole(node: Any, there: int) -> np.ndarray:
    """A data set in memory, unless it would take far more than the file holds."""
    if node.dtype.hasobject:
        raise ValueError(f"{node.name} holds objects")
    if node.nbytes > INFLATED * max(there, 4096):
        raise ValueError(f"{node.name} would take {node.nbytes:,} bytes, {node.nbytes // there} times the file's")
    return np.asarray(node[()])


def write_hdf5(events: Events, path: Path) -> None:
    """The group `events` with t, x, y, p; height and width as attributes."""
    h5py = files.extra("h5py", path)
    with h5py.File(path, "w") as file:
        file.attrs["height"], file.attrs["width"] = events.size
        for name, array in (("t", events.t), ("x", events.x), ("y", events.y), ("p", events.polarity)):
            packed = {"compression": "gzip", "shuffle": True} if len(array) else {}
            file.create_dataset(f"events/{name}", data=array, **packed)
