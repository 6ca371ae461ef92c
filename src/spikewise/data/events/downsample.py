"""Events of a large sensor on a smaller canvas: cropped, then binned. Each event that is left lies in exactly one pixel."""

import ctypes
import functools
from typing import Literal

import numpy as np

from .bin_events import outside_message
from .events import Events
from .formats.reading import COLUMN_DTYPES, allocate_columns
from .formats.sensor import MAX_SENSOR_SIDE, Size

Crop = Literal["none", "centre"] | tuple[int, int, int, int]  # or a region of the sensor: top, left, height, width
CUT_AWAY = 0xFFFF  # in a table: what lies there on the sensor has no place on the canvas


def downsample(events: Events, size: int | Size | None = None, crop: Crop = "none", *, in_place: bool = False) -> Events:
    """A recording on a canvas of `size` pixels; the numbers of events in its pixels add up to those inside the crop.

    Proportions are kept. With crop="none" or a region, what is left of the canvas beside it stays empty, the same on both
    sides; events are never spread over a larger canvas. With nothing to do, `events` themselves are returned.

    size:    (height, width) of the canvas in pixels, or the side of a square; None: as large as what the crop leaves
    crop:    "none", the whole sensor; "centre", its largest centred part of the canvas's proportions; or a region of it,
             (top, left, height, width) in pixels. Events outside are left out
    in_place:  whether the arrays of `events` may be changed: less memory, and a third of the time saved
    Source:  E15 (docs/equations.md)
    Raises:  ValueError for a size or a region that is none, or a region or an event outside the sensor
    """
    canvas, rows, columns = pixel_tables(events.size, size, crop)
    if canvas == events.size and is_identity(rows) and is_identity(columns):
        return events
    require_inside(events)
    from ...native import load as native  # imports torch

    arrays = (events.t, events.x, events.y, events.polarity)
    as_promised = tuple(array.dtype for array in arrays) == COLUMN_DTYPES
    if not as_promised or native.unavailable_reason():
        return move_numpy(events, canvas, rows, columns)
    in_place = in_place and all(array.flags.writeable and array.flags.c_contiguous for array in arrays)
    return move_native(events, canvas, rows, columns, in_place=in_place)


def require_inside(events: Events) -> None:
    """Refuse an event outside the sensor.

    Raises:  ValueError that names the first one
    """
    for column, side in ((events.y, events.size[0]), (events.x, events.size[1])):
        if len(column) and (column.max() >= side or column.min() < 0):
            raise ValueError(outside_message(events, int(np.argmax((column >= side) | (column < 0)))))


def is_identity(table: np.ndarray) -> bool:
    return np.array_equal(table, np.arange(len(table)))


# Where pixels go: E15 --------------------------------------------------------------------------------------------------------


@functools.lru_cache(64)
def pixel_tables(sensor: Size, size: int | Size | None, crop: Crop) -> tuple[Size, np.ndarray, np.ndarray]:
    """The canvas, and the row and the column of it for each of the sensor's, uint16; CUT_AWAY for none.

    Raises:  ValueError for a size that is none, or a region outside the sensor
    """
    size = (size, size) if isinstance(size, int) else size
    if size is not None and not (len(size) == 2 and all(0 < side <= MAX_SENSOR_SIDE for side in size)):
        raise ValueError(f"size={size} is out of range; use 1 to {MAX_SENSOR_SIDE:,} pixels, one number or height,width")
    top, left, height, width = crop_box(sensor, size, crop)
    canvas = size or (height, width)
    if crop == "centre":  # has the canvas's proportions already, but for rounding
        fitted = min(height, canvas[0]), min(width, canvas[1])
    elif height <= canvas[0] and width <= canvas[1]:
        fitted = height, width
    else:
        fitted = largest_within((height, width), canvas)
    rows = pixel_table(sensor[0], top, height, fitted[0], canvas[0])
    return canvas, rows, pixel_table(sensor[1], left, width, fitted[1], canvas[1])


def crop_box(sensor: Size, size: Size | None, crop: Crop) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what is kept of the sensor.

    Raises:  ValueError for a region outside the sensor, or another word
    """
    if crop == "none" or (crop == "centre" and size is None):
        return 0, 0, *sensor
    if crop == "centre":
        assert size is not None, "asked above"
        height, width = largest_within(size, sensor)
        return (sensor[0] - height) // 2, (sensor[1] - width) // 2, height, width
    if isinstance(crop, str) or len(crop) != 4:
        raise ValueError(f"crop={crop!r} is unknown; use none, centre, or a region top,left,height,width in pixels")
    top, left, height, width = crop
    if min(top, left) < 0 or min(height, width) < 1 or top + height > sensor[0] or left + width > sensor[1]:
        raise ValueError(
            f"the crop top,left,height,width = {','.join(map(str, crop))} is not inside the sensor, whose height,width = "
            f"{sensor[0]},{sensor[1]}; use a smaller one"
        )
    return crop


def largest_within(proportions: Size, bounds: Size) -> Size:
    """The largest (height, width) of these proportions within bounds, rounded down."""
    height, width = proportions
    if width * bounds[0] >= height * bounds[1]:
        return max(1, height * bounds[1] // width), bounds[1]
    return bounds[0], max(1, width * bounds[0] // height)


def pixel_table(side: int, begin: int, length: int, fitted: int, canvas: int) -> np.ndarray:
    """floor((k - begin) fitted / length) + floor((canvas - fitted) / 2) for k from begin to begin + length, uint16 [side]."""
    table = np.full(side, CUT_AWAY, np.uint16)
    table[begin : begin + length] = np.arange(length, dtype=np.int64) * fitted // length + (canvas - fitted) // 2
    return table


# Events to where they go -----------------------------------------------------------------------------------------------------


def move_numpy(events: Events, canvas: Size, rows: np.ndarray, columns: np.ndarray) -> Events:
    """The definition of downsample_events in native/downsample.inc."""
    x, y = columns[events.x], rows[events.y]
    moved = Events(events.t, x, y, events.polarity, canvas, events.notes)
    kept = (x != CUT_AWAY) & (y != CUT_AWAY)
    return moved if kept.all() else moved[kept]


class DownsampleArgs(ctypes.Structure):
    """downsample_args of native/downsample.inc."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("t", "x", "y", "polarity", "columns", "rows")),
        ("events", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("kept_t", "kept_x", "kept_y", "kept_polarity")),
    )


def move_native(events: Events, canvas: Size, rows: np.ndarray, columns: np.ndarray, *, in_place: bool) -> Events:
    """The same in C. Where nothing is cut away, times and polarities are the recording's own."""
    from ...native import load as native

    given = [np.ascontiguousarray(column) for column in (events.t, events.x, events.y, events.polarity)]
    cuts = bool((rows == CUT_AWAY).any() or (columns == CUT_AWAY).any())
    if in_place:
        kept = (events.t, events.x, events.y, events.polarity)
    elif cuts:
        kept = allocate_columns(len(events))
    else:
        kept = (events.t, np.empty(len(events), np.uint16), np.empty(len(events), np.uint16), events.polarity)
    outputs = [column.ctypes.data if cuts or place in (1, 2) else None for place, column in enumerate(kept)]
    pointers = [array.ctypes.data for array in (*given, columns, rows)]
    args = DownsampleArgs(*pointers, len(events), *outputs)
    native.load(native.selected_variant()).downsample_events(ctypes.byref(args))
    t, x, y, polarity = (column[: args.events] for column in kept)
    return Events(t, x, y, polarity, canvas, events.notes)
