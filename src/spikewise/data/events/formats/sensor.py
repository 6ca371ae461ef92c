"""The sensor of a recording: what its file says, what its camera has, and events that lie beyond."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....wording import count

Size = tuple[int, int]  # height, width
MAX_SENSOR_SIDE = 4096  # pixels
CAMERA_SIZES = {b"128": (128, 128), b"208": (192, 208), b"240": (180, 240), b"346": (260, 346), b"640": (480, 640)}
SIDE_NAMES = (("height", "width"), ("sensor_height", "sensor_width"), ("sizey", "sizex"))  # in small letters
PAIR_NAMES = ("geometry", "sensor_resolution", "resolution", "sensor_size", "sensorsize", "image_size", "img_size")
MANY_EVENTS = 100  # of fewer, none is said to be far from the others
SAY_IT = "say the sensor with size=(height, width), on the command line --sensor HEIGHT,WIDTH"
DROP_IT = "to leave such events out, add drop_outside=True, on the command line --drop-outside"


def camera_size(text: bytes) -> Size | None:
    """(height, width) of a DVS128 or DAVIS from its name, such as DAVIS346red; None: unknown."""
    named = re.search(rb"(?:dvs|davis)\D{0,2}(\d{3})", text, re.I)
    return CAMERA_SIZES.get(named[1]) if named else None


def require_sensor_size(path: Path, height: Any, width: Any) -> Size:
    """(height, width) that a file stores.

    Raises:  ValueError for anything but whole numbers from 1 to 4,096
    """
    sides = [np.asarray(side) for side in (height, width)]
    if any(side.size != 1 or side.dtype.kind not in "iu" or not 0 < int(side.item()) <= MAX_SENSOR_SIDE for side in sides):
        raise ValueError(f"{path}: height and width should be whole numbers from 1 to {MAX_SENSOR_SIDE:,}")
    return int(sides[0].item()), int(sides[1].item())


def size_from_facts(path: Path, facts: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> tuple[Size | None, tuple[str, ...]]:
    """(height, width) that a file says by one of many names, None where it says nothing; and what is to be said of it.

    Height and width have names of their own, or a text of both is width x height (`640x480`), and so are three numbers
    (tonic's width, height, polarities). Two numbers are height and width in `sensor_resolution` (e2vid), and otherwise the
    longer one is the width; unless only the other order fits the events.

    facts:   attributes, or arrays of a few numbers, by name in small letters
    Raises:  ValueError for what no sensor has
    """
    for names in SIDE_NAMES:
        if {*names} <= facts.keys():
            return require_sensor_size(path, facts[names[0]], facts[names[1]]), ()
    name = next((name for name in PAIR_NAMES if name in facts), None)
    if name is None:
        return None, ()
    value = np.asarray(facts[name])
    if value.dtype.kind in "SU":
        text = (
            value.item().decode(errors="replace") if value.dtype.kind == "S" else str(value.item()) if value.size == 1 else ""
        )
        sides = re.fullmatch(r"\D{0,2}(\d{1,4})\s*[x*,]\s*(\d{1,4})\D{0,2}", text)
        return require_sensor_size(path, *(map(int, (sides[2], sides[1])) if sides else (0, 0))), ()
    pair = value.reshape(-1)
    if len(pair) == 3:
        return require_sensor_size(path, pair[1], pair[0]), ()
    first, second = require_sensor_size(path, *(pair if len(pair) == 2 else (0, 0)))
    size = (first, second) if name == "sensor_resolution" else (min(first, second), max(first, second))
    if not fits(x, y, size) and fits(x, y, size[::-1]):
        size = size[1], size[0]
    says = f"{name} {first}, {second} taken as a sensor of {size[1]} x {size[0]} pixels; size= or --sensor says otherwise"
    return size, () if first == second or (name, size) == ("sensor_resolution", (first, second)) else (says,)


def fits(x: np.ndarray, y: np.ndarray, size: Size) -> bool:
    return int(y.max(initial=0)) < size[0] and int(x.max(initial=0)) < size[1]


def guess_size(path: Path, x: np.ndarray, y: np.ndarray, needed: Size, usual: Size | None) -> Size:
    """(height, width) of a sensor of which nothing is said: the usual one, or the smallest that fits, if events lie beyond.

    needed:  the smallest that fits all events
    Raises:  ValueError where a few events alone would make it twice as large, or more than 4,096 pixels a side
    """
    if usual and needed[0] <= usual[0] and needed[1] <= usual[1]:
        return usual
    if max(needed) > MAX_SENSOR_SIDE:
        raise ValueError(
            f"{path} is damaged: events lie up to x={needed[1] - 1}, y={needed[0] - 1}; no sensor is that large; {SAY_IT}; "
            f"{DROP_IT}"
        )
    if len(x) >= MANY_EVENTS:
        far = (x > x.max() // 2, "x", needed[1]), (y > y.max() // 2, "y", needed[0])
        for beyond, axis, side in far:
            few = int(np.count_nonzero(beyond))
            if 0 < few <= max(1, len(x) // 1000):
                raise ValueError(
                    f"{path}: {few:,} of {count(len(x), 'event')} beyond {axis}={(side - 1) // 2}, up to {axis}={side - 1}, "
                    f"would double the sensor, of which the file says nothing; {SAY_IT}; {DROP_IT}"
                )
    return needed


def outside(path: Path, x: np.ndarray, y: np.ndarray, needed: Size, size: Size, *, drop: bool) -> np.ndarray | None:
    """Which events lie beyond the sensor, bool [n]; None: no one does.

    Raises:  ValueError for such an event, unless they are to be dropped
    """
    if needed[0] <= size[0] and needed[1] <= size[1]:
        return None
    beyond = (x >= size[1]) | (y >= size[0])
    if not drop:
        first = int(np.argmax(beyond))
        raise ValueError(
            f"{path}: event {first:,} lies at x={x[first]}, y={y[first]}, outside the sensor of {size[1]} x {size[0]} pixels; "
            f"the file is damaged or of another camera; {count(int(np.count_nonzero(beyond)), 'event')} of {len(x):,} do so; "
            f"{DROP_IT}"
        )
    return beyond
