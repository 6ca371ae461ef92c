"""Events to frames: counts per polarity and pixel."""

import ctypes

import numpy as np

from .events import Events


def frames_by_count(events: Events, T: int) -> np.ndarray:
    """Cut a recording into T frames of equally many events; the last takes the remainder.

    Shapes:  n events -> counts [T, 2, H, W], int32: channel 0 polarity 0, channel 1 polarity 1; they add up to n
    Source:  the published rule (floor(n / T) events per frame), as for DVS128 Gesture and CIFAR10-DVS
    Raises:  ValueError for T below 1, or an event outside the sensor
    """
    require_frames(T)
    last = np.arange(1, T + 1, dtype=np.int64) * (len(events) // T) - 1
    last[-1] = len(events) - 1
    return count(events, None, last)


def frames_by_duration(events: Events, T: int) -> np.ndarray:
    """Cut a recording into T frames of equal duration, from its first event to its last.

    Event t falls into frame floor((t - first) T / (last - first + 1)), in integers, whatever the order of the events.

    Shapes:  n events -> counts [T, 2, H, W], int32, as of `frames_by_count`
    Raises:  ValueError for T below 1, or an event outside the sensor
    """
    require_frames(T)
    first, end = (int(events.t.min()), int(events.t.max()) + 1) if len(events) else (0, 1)
    # frame k ends before the first t with (t - first) T >= (k + 1) (end - first); Python's integers can't overflow
    last = np.array([first - ((first - end) * (k + 1) // T) - 1 for k in range(T)], dtype=np.int64)
    return count(events, events.t, last)


FRAMES = {"count": frames_by_count, "duration": frames_by_duration}


def require_frames(T: int) -> None:
    if T < 1:
        raise ValueError(f"T={T} frames; use 1 or more")


def count(events: Events, position: np.ndarray | None, last: np.ndarray) -> np.ndarray:
    """Counts [T, 2, H, W], int32: an event is in the first frame whose `last` is not below its position.

    position:  int64 [n]; None: the events' numbers
    last:      int64 [T], rising; the last is the largest of all positions
    """
    from ...native import load as native  # brings torch

    arrays = (events.t, events.x, events.y, events.polarity)
    if any(array.shape != (len(events),) for array in arrays):
        raise ValueError(f"t, x, y and polarity of {', '.join(str(array.shape) for array in arrays)} are no recording")
    plain = tuple(array.dtype for array in arrays) == (np.int64, np.uint16, np.uint16, np.uint8)
    return count_in_c(events, position, last) if plain and not native.unavailable_reason() else defined(events, position, last)


def defined(events: Events, position: np.ndarray | None, last: np.ndarray) -> np.ndarray:
    """What `count` is, in NumPy."""
    height, width = events.size
    x, y, polarity = (array.astype(np.int64) for array in (events.x, events.y, events.polarity))
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (polarity < 0) | (polarity > 1)
    if outside.any():
        raise ValueError(is_outside(events, int(np.argmax(outside))))
    frame = np.searchsorted(last, np.arange(len(events)) if position is None else position)
    cell = ((frame * 2 + polarity) * height + y) * width + x
    return np.bincount(cell, minlength=len(last) * 2 * height * width).astype(np.int32).reshape(-1, 2, height, width)


class FramesCall(ctypes.Structure):
    """frames_call of native/frames.inc."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("position", "x", "y", "polarity", "last")),
        *((name, ctypes.c_int64) for name in ("events", "T", "height", "width")),
        ("counts", ctypes.c_void_p),
    )


def count_in_c(events: Events, position: np.ndarray | None, last: np.ndarray) -> np.ndarray:
    """As `defined`, for arrays of the types that `Events` promises."""
    from ...native import load as native

    x, y, polarity = (np.ascontiguousarray(array) for array in (events.x, events.y, events.polarity))
    position = None if position is None else np.ascontiguousarray(position)
    counts = np.zeros((len(last), 2, *events.size), dtype=np.int32)
    pointers = [None if array is None else array.ctypes.data for array in (position, x, y, polarity, last)]
    call = FramesCall(*pointers, len(events), len(last), *events.size, counts.ctypes.data)
    function = native.load(native.selected_variant()).count_events
    function.restype = ctypes.c_int64
    outside = function(ctypes.byref(call))
    if outside >= 0:
        raise ValueError(is_outside(events, outside))
    return counts


def is_outside(events: Events, at: int) -> str:
    """What is wrong with an event outside the sensor."""
    height, width = events.size
    return (
        f"event {at} lies at x={events.x[at]}, y={events.y[at]} with polarity {events.polarity[at]}, "
        f"outside the sensor of {width} x {height} pixels or the polarities 0 and 1"
    )
