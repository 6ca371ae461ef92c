"""Events to frames (F1, F2): how a recording is divided over time, and what a frame holds of its events."""

import ctypes
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import disk
from ...durations import format_duration
from ...wording import choice, count, option, unknown_name
from .events import Events
from .filters import apply_filters, parse_filters

FRAMES_SUFFIXES = (".npy", ".npz", ".png")
MAX_BYTES = 2**34  # of all frames of a recording

# Division: which events are in which frame -----------------------------------------------------------------------------------


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

# Contents: what a frame holds of its events ----------------------------------------------------------------------------------


def event_counts(events: Events, bins: Bins, tau: float) -> np.ndarray:
    """Events per frame, polarity and pixel: int32 [T, 2, H, W]; they add up to the number of events."""
    return bin_events(events, bins.position(events), bins.edges)


def time_surface(events: Events, bins: Bins, tau: float) -> np.ndarray:
    """exp(-age / tau) of the latest event of each polarity and pixel, at the end of each frame; 0 before the first.

    A frame ends at the first microsecond after it; one by count, at the time of its latest event. Events of
    earlier frames go on to count.

    Shapes:  n events -> float32 [T, 2, H, W], 0 to 1
    tau:     microseconds, above 0
    Source:  Lagorce et al. 2017 (HOTS), over the whole sensor; tonic's ToTimesurface
    """
    cells, frames, ends = cell_of(events), bins.frame_of(events), bins.ends(events)
    order = np.argsort(frames, kind="stable")
    starts = np.searchsorted(frames[order], np.arange(len(ends) + 1))
    latest, seen = np.full(num_cells(events), np.iinfo(np.int64).min), np.zeros(num_cells(events), dtype=bool)
    surfaces = np.zeros((len(ends), *seen.shape), dtype=np.float32)
    for k, end in enumerate(ends):
        new = order[starts[k] : starts[k + 1]]
        np.maximum.at(latest, cells[new], events.t[new])
        seen[cells[new]] = True
        age = difference(end, latest[seen]) + bins.by_time
        surfaces[k, seen] = np.exp(-age / tau)
    return surfaces.reshape(-1, 2, *events.size)


def voxel_grid(events: Events, bins: Bins, tau: float) -> np.ndarray:
    """Each event shared by the two of T points in time that it lies between, the nearer one taking more; by polarity.

    With t* = (T - 1) (t - first) / (last - first), an event gives max(0, 1 - |k - t*|) to frame k. The signed
    grid of the source is grid[:, 1] - grid[:, 0].

    Shapes:  n events -> float32 [T, 2, H, W]; they add up to the number of events
    Source:  Zhu et al. 2019; tonic's ToVoxelGrid of B bins is the first B frames of this one with T = B + 1, signed
    """
    first, last = time_range(events)
    T, cells, size = len(bins.edges), cell_of(events), num_cells(events)
    place = difference(events.t, np.int64(first)) * ((T - 1) / max(last - first, 1))
    frame = np.clip(place.astype(np.int64), 0, max(T - 2, 0))
    later = np.clip(place - frame, 0, 1)  # the share of the later of the two
    at = frame * size + cells
    places, shares = (np.append(at, at + size), np.append(1 - later, later)) if T > 1 else (at, 1 - later)
    grid = np.bincount(places, shares, minlength=T * size)
    return grid.astype(np.float32).reshape(-1, 2, *events.size)


def difference(later: np.ndarray | np.int64, earlier: np.ndarray | np.int64) -> np.ndarray:
    """The difference of int64, not negative, as float64: exact before it is rounded, where int64 would overflow."""
    return np.asarray(later.astype(np.uint64) - earlier.astype(np.uint64), np.float64)


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


class Representation(NamedTuple):
    """What a frame holds: a function of (events, bins, tau), and a line for `spikewise list`."""

    function: Callable[[Events, Bins, float], np.ndarray]
    description: str


REPRESENTATIONS = {
    "counts": Representation(event_counts, "events per pixel and polarity"),
    "time_surface": Representation(
        time_surface, "exp(-age / tau) of the latest event per pixel and polarity, at a frame's end"
    ),
    "voxel_grid": Representation(voxel_grid, "events shared linearly by the two nearest of T points in time, per polarity"),
}

# A recording to frames -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameSpec:
    """How a recording becomes frames [T, 2, H, W]: channel 0 of OFF events, channel 1 of ON events.

    T:               how many frames; None: as many as the size given takes
    split_by:        "count" or "duration": T frames of equally many events, or of equal duration
    representation:  a name in REPRESENTATIONS: "counts", int32; "time_surface", "voxel_grid", float32
    time_window:     split_by="duration": microseconds of each frame, 1 or more, from the first event; None: equal shares
    event_count:     split_by="count": events of each frame, 1 or more; None: equal shares
    tau:             of time surfaces, microseconds, above 0
    filter:          of noise, in their order, as "hot_pixels=500,background=10ms"; see `filters.FILTERS`
    With a size and T, the first T frames are taken; a recording that ends before has empty ones at its end.
    Raises:          ValueError that names the field
    """

    T: int | None = None
    split_by: str = "count"
    representation: str = "counts"
    time_window: int | None = None
    event_count: int | None = None
    tau: float = 50_000
    filter: str = ""

    def __post_init__(self):
        if self.split_by not in SPLITS:
            raise ValueError(f"{option('split_by', self.split_by)} is unknown; use {choice(SPLITS)}")
        if self.representation not in REPRESENTATIONS:
            raise ValueError(unknown_name("representation", self.representation, REPRESENTATIONS))
        for split_by, split in SPLITS.items():
            size = getattr(self, split.size)
            if size is not None and split_by != self.split_by:
                raise ValueError(
                    f"{option(split.size)} is for {option('split_by', split_by)}, given {self.split_by!r}; use both alike"
                )
            if size is not None and size < 1:
                raise ValueError(f"{option(split.size, size)}; use 1 or more")
        if self.T is None and self.size is None:
            raise ValueError(f"say how many frames (T, --num-frames), or their size ({SPLITS[self.split_by].size})")
        if self.T is not None and self.T < 1:
            raise ValueError(f"T={self.T} frames; use 1 or more")
        if not self.tau > 0:
            raise ValueError(f"{option('tau', self.tau)}; use microseconds above 0")
        if self.representation == "voxel_grid" and (self.split_by != "duration" or self.size):
            needed = f"use {option('split_by', 'duration')}, without {option('time_window')}"
            raise ValueError(f"a voxel_grid divides time into T equal parts: {needed}")
        parse_filters(self.filter)

    @property
    def size(self) -> int | None:
        """Of each frame, where it is fixed."""
        return getattr(self, SPLITS[self.split_by].size)

    def select(self, events: Events) -> Events:
        """The events of a recording that become frames: what filters leave, in the first T frames; notes tell the rest."""
        events = apply_filters(events, self.filter)
        if self.T is None or self.size is None or not len(events):
            return events
        if self.split_by == "count":
            chosen, each = events[: self.T * self.size], count(self.size, "event")
        else:
            first, last = time_range(events)
            end = first + self.T * self.size
            chosen, each = events.between(first, end) if last >= end else events, format_duration(self.size / 1e6)
        if not (beyond := len(events) - len(chosen)):
            return events
        note = f"{count(beyond, 'event')} after {count(self.T, 'frame')} of {each} left out"
        return replace(chosen, notes=(*chosen.notes, note))

    def frames(self, events: Events) -> np.ndarray:
        """The frames [T, 2, H, W] of events that `select` returned.

        Raises:  ValueError for an event outside the sensor, or frames that need more than 16 GiB
        """
        split = SPLITS[self.split_by]
        if any(column.shape != (len(events),) for column in events.columns):
            raise ValueError(
                f"t, x, y and polarity of {', '.join(str(column.shape) for column in events.columns)} are no recording"
            )
        T = self.T or self.num_frames(events)
        if T * num_cells(events) * 4 > MAX_BYTES:
            raise ValueError(
                f"{T:,} frames of {events.size[1]} x {events.size[0]} pixels need {T * num_cells(events) / 2**28:,.0f} GiB; "
                "use fewer of them, or a part of the recording"
            )
        bins = split.equal(events, T) if self.size is None else split.fixed(events, T, self.size)
        return REPRESENTATIONS[self.representation].function(events, bins, self.tau)

    def num_frames(self, events: Events) -> int:
        """How many frames of the fixed size a recording takes, at least 1."""
        first, last = time_range(events) if self.split_by == "duration" else (1, len(events))
        assert self.size is not None, "seen when this was made"
        return max(1, -(-(last - first + 1) // self.size))


def to_frames(events: Events, T: int | None = None, **options: Any) -> np.ndarray:
    """A recording as frames [T, 2, H, W].

    T, options:  the fields of `FrameSpec`
    Raises:      ValueError for an option out of its range, or an event outside the sensor
    """
    spec = FrameSpec(T, **options)
    return spec.frames(spec.select(events))


def smallest_type(frames: np.ndarray) -> np.ndarray:
    """Counts in the smallest unsigned integer type that holds them; other frames as they are."""
    return frames.astype(np.min_scalar_type(int(frames.max(initial=0)))) if frames.dtype == np.int32 else frames


def require_frames_file(path: Path) -> None:
    """Refuse a file that frames can't be written into, before they are made.

    Raises:  ValueError, FileNotFoundError
    """
    if path.suffix.lower() not in FRAMES_SUFFIXES:
        raise ValueError(f"{path.name} has no format that frames are written in; end it with one of {', '.join(FRAMES_SUFFIXES)}")
    disk.require_folder_of(path)


def write_frames(frames: np.ndarray, path: Path) -> None:
    """Write frames, completely or not at all: .npy, one array; .npz, compressed, under the name `frames`; .png, a picture.

    Raises:  as `require_frames_file`; OSError
    """
    require_frames_file(path)
    if path.suffix.lower() == ".png":
        from .plot import plot_frame_sheet

        plot_frame_sheet(frames, path)
        return
    with io.BytesIO() as content:
        rest: list[memoryview] = []
        if path.suffix.lower() == ".npz":
            np.savez_compressed(content, frames=frames)
        else:
            np.lib.format.write_array_header_1_0(content, np.lib.format.header_data_from_array_1_0(frames))
            rest.append(np.ascontiguousarray(frames).data.cast("B"))
        disk.write_stream(path.absolute(), [content.getvalue(), *rest])


def frames_by_count(events: Events, T: int) -> np.ndarray:
    """Divide a recording into T frames of equally many events: counts, int32 [T, 2, H, W]; see `bins_by_count`."""
    return to_frames(events, T, split_by="count")


def frames_by_duration(events: Events, T: int) -> np.ndarray:
    """Divide a recording into T frames of equal duration: counts, int32 [T, 2, H, W]; see `bins_by_duration`."""
    return to_frames(events, T, split_by="duration")


FRAME_BINNERS = {"count": frames_by_count, "duration": frames_by_duration}  # into T frames of counts, by `split_by`


def clip_counts(frames: np.ndarray, max_count: int) -> np.ndarray:
    """Counts of which none is above `max_count`; 0: as they are. A pixel that fires by itself would outweigh all others."""
    return np.minimum(frames, max_count) if max_count else frames


# The loop over events --------------------------------------------------------------------------------------------------------


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
