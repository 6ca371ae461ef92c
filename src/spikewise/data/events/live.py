"""Events as a camera delivers them, and the frames that they become, each as soon as it is complete."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...durations import format_duration
from ...wording import choice, option
from .bin_events import bin_events, cell_of, num_cells
from .bins import SPLITS
from .events import Events
from .frames import FrameSpec, clip_counts
from .representations import LatestEvents

MAX_GAP = 100_000  # empty frames in a row; more of them are a clock that jumped


class DamagedStream(ValueError):
    """A stream that cannot go on; what came before it is whole."""


class Packet(NamedTuple):
    """What a camera delivers at once.

    events:   in the order of their times
    until:    the microsecond up to which all events are delivered; None: that of the last one may go on
    arrived:  when, in seconds of `time.monotonic`
    """

    events: Events
    until: int | None
    arrived: float


class LiveFrame(NamedTuple):
    """A frame of a stream.

    values:      float32 [2, H, W]
    end:         its last microsecond, on the camera's clock
    num_events:  in it
    """

    values: np.ndarray
    end: int
    num_events: int


class LiveFrames:
    """Frames of a stream, in constant memory: those that `FrameSpec.frames` makes of the whole recording.

    spec:       with a size of its frames, time_window or event_count, as nobody knows how long a stream is
    max_count:  of events in a pixel of a frame; 0: no limit
    late:       events that came after their frame was complete, which are left out
    Raises:     ValueError for frames without a size
    """

    def __init__(self, spec: FrameSpec, max_count: int = 0):
        if spec.size is None:
            names = choice(option(split.size) for split in SPLITS.values())
            raise ValueError(f"a stream has no end to divide by {spec.T}; say the size of its frames ({names})")
        self.spec, self.max_count, self.by_time = spec, max_count, spec.split_by == "duration"
        self.begin: int | None = None  # of the open frame, by time
        self.latest_time: int = np.iinfo(np.int64).min
        self.num_events = self.late = 0
        self.counts: np.ndarray | None = None  # of the open frame, [2, H, W]
        self.latest: LatestEvents  # made with the counts

    def push(self, events: Events, until: int | None = None) -> Iterator[LiveFrame]:
        """The frames that these events complete.

        until:   as of a Packet
        Raises:  DamagedStream where times jump ahead by more than MAX_GAP frames; ValueError for an event outside the sensor
        """
        while len(events):
            inside = self.count_inside(events)
            self.add(events[:inside])
            events = events[inside:]
            if len(events) or self.num_events == self.spec.event_count:
                yield self.close()
        while until is not None and self.by_time and self.begin is not None and self.last_microsecond <= until:
            yield self.close()

    def finish(self) -> Iterator[LiveFrame]:
        """The last frame, if events are in it."""
        if self.num_events:
            yield self.close()

    @property
    def last_microsecond(self) -> int:
        """Of the open frame."""
        if not self.by_time:
            return self.latest_time
        assert self.begin is not None and self.spec.size is not None, "an event came"
        return self.begin + self.spec.size - 1

    def count_inside(self, events: Events) -> int:
        """How many of the next events are in the open frame."""
        assert self.spec.size is not None
        if not self.by_time:
            return min(self.spec.size - self.num_events, len(events))
        if self.begin is None:
            self.begin = int(events.t[0])
        beyond = events.t > self.last_microsecond
        inside = int(np.argmax(beyond)) if beyond.any() else len(events)
        if inside < len(events) and (gap := int(events.t[inside]) - self.last_microsecond) > MAX_GAP * self.spec.size:
            raise DamagedStream(f"times jump ahead by {format_duration(gap / 1e6)}, more than {MAX_GAP:,} frames")
        return inside

    def add(self, events: Events) -> None:
        """Events of the open frame, and such as are too late for theirs."""
        if self.begin is not None and (early := events.t < self.begin).any():
            self.late += int(np.count_nonzero(early))
            events = events[~early]
        if self.counts is None:
            self.counts, self.latest = np.zeros((2, *events.size), np.int32), LatestEvents(num_cells(events))
        if not len(events):
            return
        self.num_events += len(events)
        self.latest_time = max(self.latest_time, int(events.t.max()))
        if self.spec.representation == "counts":
            self.counts += bin_events(events, None, np.array([len(events) - 1], np.int64))[0]
        else:
            self.latest.add(cell_of(events), events.t)

    def close(self) -> LiveFrame:
        """The open frame, behind which the next one opens."""
        assert self.counts is not None, "it opened with an event"
        end, num_events = self.last_microsecond, self.num_events
        if self.spec.representation == "counts":
            values = clip_counts(self.counts, self.max_count).astype(np.float32)
            self.counts[:] = 0
        else:
            values = self.latest.surface(np.int64(end), self.by_time, self.spec.tau).reshape(self.counts.shape)
        self.num_events = 0
        if self.by_time:
            self.begin = end + 1
        return LiveFrame(values, end, num_events)


def play(
    events: Events,
    spec: FrameSpec,
    speed: float = 1.0,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Packet]:
    """A recording as a camera delivers it: what is in a frame, when the frame's time is over.

    spec:   with a size of its frames
    speed:  how many times as fast as it was; inf: as fast as it is taken
    """
    assert spec.size is not None, "LiveFrames saw it"
    events = sort_by_time(events) if spec.split_by == "duration" else events
    first, start = int(events.t[0]), clock()
    for k in range(spec.num_frames(events)):
        if spec.split_by == "duration":
            until = first + (k + 1) * spec.size - 1
            begin, end = np.searchsorted(events.t, [until + 1 - spec.size, until + 1])
            part, ends = events[begin:end], until + 1
        else:
            part, until = events[k * spec.size : (k + 1) * spec.size], None
            ends = int(part.t.max())
        due = start + (ends - first) / 1e6 / speed
        if (early := due - clock()) > 0:
            sleep(early)
        yield Packet(part, until, clock() if speed == float("inf") else due)


def sort_by_time(events: Events) -> Events:
    """The events in the order of their times; those of one time as they are."""
    if (events.t[1:] >= events.t[:-1]).all():
        return events
    note = "times that run backwards put in order"
    return replace(events[np.argsort(events.t, kind="stable")], notes=(*events.notes, note))
