"""How a recording is divided over time into frames (F1): which events are in which frame."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .events import Events


class Bins(NamedTuple):
    """A division of a recording: an event is in the first frame whose edge is not below its position.

    edges:    the last position of each frame, int64 [T], ascending; the last one is the largest of all positions, or more
    by_time:  whether positions are times, else the events' indices
    """

    edges: np.ndarray
    by_time: bool

    def position(self, events: Events) -> np.ndarray | None:
        """Of each event, int64 [n]; None: its index."""
        return events.t if self.by_time else None

    def frame_of(self, events: Events) -> np.ndarray:
        """The frame of each event, int64 [n]."""
        return np.searchsorted(self.edges, events.t if self.by_time else np.arange(len(events)))

    def ends(self, events: Events) -> np.ndarray:
        """The last microsecond of each frame, int64 [T]; of indices, that of the latest event so far."""
        if self.by_time or not len(events):
            return self.edges
        return np.maximum.accumulate(events.t)[self.edges]


def bins_by_count(events: Events, T: int) -> Bins:
    """T frames of floor(n / T) events each, in their order; the last takes the remainder, too.

    Source:  the published rule for DVS128 Gesture and CIFAR10-DVS; SpikingJelly's split_by="number", tonic's n_event_bins
    """
    edges = np.arange(1, T + 1, dtype=np.int64) * (len(events) // T) - 1
    edges[-1] = len(events) - 1
    return Bins(edges, by_time=False)


def bins_by_duration(events: Events, T: int) -> Bins:
    """T frames of equal duration, from the first event to the last.

    Event t is in frame floor((t - first) T / (last - first + 1)): in integers, whatever the order of the events.
    Source:  SpikingJelly's split_by="time", tonic's n_time_bins
    """
    first, last = time_range(events)
    # frame k ends before the first t with (t - first) T >= (k + 1) (last + 1 - first); Python's integers can't overflow
    return Bins(np.array([first - ((first - last - 1) * (k + 1) // T) - 1 for k in range(T)], dtype=np.int64), by_time=True)


def bins_by_event_count(events: Events, T: int, event_count: int) -> Bins:
    """T frames of `event_count` events each, in their order; the last may hold fewer.

    Event i is in frame floor(i / event_count).
    Source:  tonic's event_count, with include_incomplete
    """
    edges = np.minimum(np.arange(1, T + 1, dtype=np.int64) * min(event_count, len(events)), len(events)) - 1
    return Bins(edges, by_time=False)


def bins_by_time_window(events: Events, T: int, time_window: int) -> Bins:
    """T frames of `time_window` microseconds each, from the first event.

    Event t is in frame floor((t - first) / time_window).
    Source:  SpikingJelly's duration, tonic's time_window, with include_incomplete
    """
    first, _ = time_range(events)
    latest = np.iinfo(np.int64).max
    return Bins(np.array([min(first + k * time_window - 1, latest) for k in range(1, T + 1)], dtype=np.int64), by_time=True)


def time_range(events: Events) -> tuple[int, int]:
    """The earliest and the latest time; 0 and 0 without events."""
    return (int(events.t.min()), int(events.t.max())) if len(events) else (0, 0)


class Split(NamedTuple):
    """A way to divide a recording: into T frames that are equal, or of a fixed size.

    equal:  a function of (events, T)
    fixed:  a function of (events, T, size); no event may lie after the last frame
    size:   the field of `FrameSpec` that holds the fixed size
    """

    equal: Callable[[Events, int], Bins]
    fixed: Callable[[Events, int, int], Bins]
    size: str


SPLITS = {
    "count": Split(bins_by_count, bins_by_event_count, "event_count"),
    "duration": Split(bins_by_duration, bins_by_time_window, "time_window"),
}
