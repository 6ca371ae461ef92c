"""Events of an event camera."""

from dataclasses import dataclass

import numpy as np

from ...durations import format_duration


@dataclass(frozen=True)
class Events:
    """A recording of an event camera: one entry per event; read from a file, in the order of time.

    t:         time in microseconds, int64 [n]
    x, y:      column and row, uint16 [n]
    polarity:  0 (OFF, darker) or 1 (ON, brighter), uint8 [n]
    size:      (height, width) of the sensor in pixels
    notes:     what a file's reader skipped, dropped, mended or doubts, in words
    is_size_told:  whether file, user or the format's usual camera say the sensor; False: it is the smallest that fits
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    is_size_told: bool = True

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, part: slice | np.ndarray) -> "Events":
        """Some of the events: a slice of them (a view), or those where a mask is true."""
        columns = (self.t[part], self.x[part], self.y[part], self.polarity[part])
        return Events(*columns, self.size, self.notes, self.is_size_told)

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """t, x, y, polarity."""
        return self.t, self.x, self.y, self.polarity

    @property
    def has_promised_types(self) -> bool:
        """Whether the columns are of the types above, which loops in C read."""
        return tuple(column.dtype for column in self.columns) == (np.int64, np.uint16, np.uint16, np.uint8)

    def between(self, start: int, end: int) -> "Events":
        """The events with start <= t < end, in microseconds; a view where they are contiguous."""
        inside = (self.t >= start) & (self.t < end)
        count = int(np.count_nonzero(inside))
        first = int(np.argmax(inside)) if count else 0
        return self[first : first + count] if inside[first : first + count].all() else self[inside]

    def part(self, start: int | None, end: int | None) -> "Events":
        """The events from `start` to before `end`, in microseconds after the earliest event.

        start, end:  None: from the first event, to the last
        Raises:      ValueError for a part that ends before it begins, or begins after the last event
        """
        if start is None and end is None:
            return self
        start, lasts = start or 0, f"the recording lasts {format_duration(self.duration / 1e6)}"
        if end is not None and end <= start:
            said = f"from {format_duration(start / 1e6)} to {format_duration(end / 1e6)}"
            raise ValueError(f"a part {said} is empty: it must end after it begins; {lasts}")
        if start > self.duration or not len(self):
            raise ValueError(f"there is no part from {format_duration(start / 1e6)}: {lasts}")
        first = int(self.t.min())
        return self.between(first + start, first + (self.duration + 1 if end is None else end))

    @property
    def duration(self) -> int:
        """From the earliest event to the latest, in microseconds; 0 without events."""
        return int(self.t.max()) - int(self.t.min()) if len(self.t) else 0
