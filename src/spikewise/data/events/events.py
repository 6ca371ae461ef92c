"""Events of an event camera."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Events:
    """A recording of an event camera: one entry per event, in the order of the file.

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

    def between(self, start: int, end: int) -> "Events":
        """The events with start <= t < end, in microseconds; a view where they are contiguous."""
        inside = (self.t >= start) & (self.t < end)
        count = int(np.count_nonzero(inside))
        first = int(np.argmax(inside)) if count else 0
        return self[first : first + count] if inside[first : first + count].all() else self[inside]

    @property
    def duration(self) -> int:
        """From the earliest event to the latest, in microseconds; 0 without events."""
        return int(self.t.max()) - int(self.t.min()) if len(self.t) else 0
