"""Events to frames: counts per polarity and pixel."""

import ctypes

import numpy as np

from .events import Events


def frames_by_count(events: Events, T: int) -> np.ndarray:
    """Divide a recording into T frames of equally many events; the last takes the remainder.

    Shapes:  n events -> counts [T, 2, H, W], int32: channel 0 for OFF events, channel 1 for ON events; they add up to n
    Source:  the published rule (floor(n / T) events per frame), as for DVS128 Gesture and CIFAR10-DVS
    Raises:  ValueError for T below 1, or an event outside the sensor
    """
    require_frames(T)
    bin_edges = np.arange(1, T + 1, dtype=np.int64) * (len(events) // T) - 1
    bin_edges[-1] = len(events) - 1
    return bin_events(events, None, bin_edges)


def frames_by_duration(events: Events, T: int) -> np.ndarray:
    """Divide a recording into T frames of equal duration, from its first event to its last.

    Event t falls into frame floor((t - first) T / (last - first + 1)), in integers, whatever the order of the events.

    Shapes:  n events -> counts [T, 2, H, W], int32, as of `frames_by_count`
    Raises:  ValueError for T below 1, or an event outside the sensor
    """
    require_frames(T)
    first, end = (int(events.t.min()), int(events.t.max()) + 1) if len(events) else (0, 1)
    # frame k ends before the first t with (t - first) T >= (k + 1) (end - first); Python's integers can't overflow
    bin_edges = np.array([first - ((first - end) * (k + 1) // T) - 1 for k in range(T)], dtype=np.int64)
    return bin_events(events, events.t, bin_edges)


FRAME_BINNERS = {"count": frames_by_count, "duration": frames_by_duration}


def clip_counts(frames: np.ndarray, max_count: int) -> np.ndarray:
    """Counts of which none is above `max_count`; 0: as they are. A pixel that fires by itself would outweigh all others."""
    return np.minimum(frames, max_count) if max_count else frames


def require_frames(T: int) -> None:
    if T < 1:
        raise ValueError(f"T={T} frames; use 1 or more")


def bin_events(events: Events, position: np.ndarray | None, bin_edges: np.ndarray) -> np.ndarray:
    """Counts [T, 2, H, W], int32: an event is in the first frame whose edge is not below its position.

    position:   int64 [n]; None: the events' indices
    bin_edges:  the last position of each frame, int64 [T], ascending; the last one is the largest of all positions
    """
    from ...native import load as native  # imports torch

    columns = (events.t, events.x, events.y, events.polarity)
    if any(column.shape != (len(events),) for column in columns):
        raise ValueError(f"t, x, y and polarity of {', '.join(str(column.shape) for column in columns)} are no recording")
    as_promised = tuple(column.dtype for column in columns) == (np.int64, np.uint16, np.uint16, np.uint8)
    binner = bin_events_native if as_promised and not native.unavailable_reason() else bin_events_numpy
    return binner(events, position, bin_edges)


def bin_events_numpy(events: Events, position: np.ndarray | None, bin_edges: np.ndarray) -> np.ndarray:
    """The definition of `bin_events`, for columns of any integer types."""
    height, width = events.size
    x, y, polarity = (column.astype(np.int64) for column in (events.x, events.y, events.polarity))
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (polarity < 0) | (polarity > 1)
    if outside.any():
        raise ValueError(outside_message(events, int(np.argmax(outside))))
    frame = np.searchsorted(bin_edges, np.arange(len(events)) if position is None else position)
    cell = ((frame * 2 + polarity) * height + y) * width + x
    return np.bincount(cell, minlength=len(bin_edges) * 2 * height * width).astype(np.int32).reshape(-1, 2, height, width)


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
