"""The loop over events: how many are in each frame, polarity and pixel."""

import ctypes

import numpy as np

from .events import Events


def bin_events(events: Events, position: np.ndarray | None, bin_edges: np.ndarray) -> np.ndarray:
    """Counts [T, 2, H, W], int32: an event is in the first frame whose edge is not below its position.

    position:   int64 [n]; None: the events' indices
    bin_edges:  the last position of each frame, int64 [T], ascending; the last one is the largest of all positions
    """
    from ...native import load as native  # imports torch

    usable = events.has_promised_types and not native.unavailable_reason()
    return (bin_events_native if usable else bin_events_numpy)(events, position, bin_edges)


def bin_events_numpy(events: Events, position: np.ndarray | None, bin_edges: np.ndarray) -> np.ndarray:
    """The definition of `bin_events`, for columns of any integer types."""
    cells, size = cell_of(events), num_cells(events)
    frame = np.searchsorted(bin_edges, np.arange(len(events)) if position is None else position)
    counts = np.bincount(frame * size + cells, minlength=len(bin_edges) * size)
    return counts.astype(np.int32).reshape(-1, 2, *events.size)


class BinEventsArgs(ctypes.Structure):
    """frames_call of native/frames.inc."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("position", "x", "y", "polarity", "last")),
        *((name, ctypes.c_int64) for name in ("events", "T", "height", "width")),
        ("counts", ctypes.c_void_p),
    )


def bin_events_native(events: Events, position: np.ndarray | None, bin_edges: np.ndarray) -> np.ndarray:
    """The same in C, for columns of the types that `Events` promises."""
    from ...native import load as native

    columns = [
        None if column is None else np.ascontiguousarray(column) for column in (position, events.x, events.y, events.polarity)
    ]
    counts = np.zeros((len(bin_edges), 2, *events.size), dtype=np.int32)
    pointers = [None if array is None else array.ctypes.data for array in (*columns, bin_edges)]
    args = BinEventsArgs(*pointers, len(events), len(bin_edges), *events.size, counts.ctypes.data)
    function = native.load(native.selected_variant()).count_events
    function.restype = ctypes.c_int64
    outside = function(ctypes.byref(args))
    if outside >= 0:
        raise ValueError(outside_message(events, outside))
    return counts


def outside_message(events: Events, index: int) -> str:
    height, width = events.size
    return (
        f"event {index} lies at x={events.x[index]}, y={events.y[index]} with polarity {events.polarity[index]}, "
        f"outside the sensor of {width} x {height} pixels or the polarities 0 and 1"
    )


def num_cells(events: Events) -> int:
    """Pixels of both polarities."""
    return 2 * events.size[0] * events.size[1]


def cell_of(events: Events) -> np.ndarray:
    """The place of each event in a frame [2, H, W] that is one row: int64 [n].

    Raises:  ValueError for an event outside the sensor
    """
    height, width = events.size
    x, y, polarity = (column.astype(np.int64) for column in (events.x, events.y, events.polarity))
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (polarity < 0) | (polarity > 1)
    if outside.any():
        raise ValueError(outside_message(events, int(np.argmax(outside))))
    return (polarity * height + y) * width + x
