"""A recording to frames: how they are told (`FrameSpec`), made of events, and written."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import disk
from ...durations import format_duration
from ...wording import choice, count, option, unknown_name
from .bin_events import num_cells
from .bins import SPLITS, time_range
from .events import Events
from .filters import apply_filters, parse_filters
from .representations import REPRESENTATIONS

FRAMES_SUFFIXES = (".npy", ".npz", ".png")
MAX_BYTES = 2**34  # of all frames of a recording


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


def to_frames(events: Events, T: int | None = None, *, num_frames: int | None = None, **options: Any) -> np.ndarray:
    """A recording as frames [T, 2, H, W].

    T, options:  the fields of `FrameSpec`
    num_frames:  T, as the command line calls it
    Raises:      ValueError for both names of T, an option out of its range, or an event outside the sensor
    """
    if T is not None and num_frames is not None:
        raise ValueError("T and num_frames are the same; give one of them")
    spec = FrameSpec(T if num_frames is None else num_frames, **options)
    return spec.frames(spec.select(events))


def smallest_type(frames: np.ndarray) -> np.ndarray:
    """Counts in the smallest unsigned integer type that holds them; other frames as they are."""
    return frames.astype(np.min_scalar_type(int(frames.max(initial=0)))) if frames.dtype == np.int32 else frames


def require_frames_file(path: Path) -> None:
    """Refuse a file that frames can't be written into, before they are made.

    Raises:  ValueError, FileNotFoundError
    """
    if path.suffix.lower() not in FRAMES_SUFFIXES:
        raise ValueError(
            f"{path.name} has no format that frames are written in; end it with one of {', '.join(FRAMES_SUFFIXES)}"
        )
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
