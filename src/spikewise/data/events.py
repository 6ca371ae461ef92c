"""Events of an event camera."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Events:
    """What an event camera saw: one entry per event, in the order of the file.

    t:         time in microseconds, int64 [n]
    x, y:      column and row, uint16 [n]
    polarity:  0 (darker) or 1 (brighter), uint8 [n]
    size:      (height, width) of the sensor in pixels
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    polarity: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, part: slice) -> "Events":
        """The events of a slice, as a view; `recording[100:200]` is the second hundred."""
        return Events(self.t[part], self.x[part], self.y[part], self.polarity[part], self.size)

    def between(self, start: int, end: int) -> "Events":
        """The events with start <= t < end, in their order: a view where they follow each other, else a copy.

        start, end:  microseconds; times may run backwards
        """
        inside = (self.t >= start) & (self.t < end)
        number = int(np.count_nonzero(inside))
        first = int(np.argmax(inside)) if number else 0
        if inside[first : first + number].all():
            return self[first : first + number]
        return Events(self.t[inside], self.x[inside], self.y[inside], self.polarity[inside], self.size)

    @property
    def duration(self) -> int:
        """Microseconds from the earliest event to the latest; 0 where there are none."""
        return int(self.t.max()) - int(self.t.min()) if len(self) else 0
