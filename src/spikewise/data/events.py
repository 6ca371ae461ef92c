"""Events of an event camera, and readers of their files."""

from dataclasses import dataclass
from pathlib import Path

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


def read_atis_bin(path: Path, size: tuple[int, int]) -> Events:
    """Events of an N-MNIST or N-Caltech101 `.bin` file: 5 bytes each, x, y, polarity (1 bit) and time (23 bits), big-endian.

    A row of 240 marks an overflow of the clock: all later times are 8,192 microseconds later, and it is no event.
    Raises:  FileNotFoundError; ValueError with what is wrong with the file
    """
    raw = np.fromfile(path, dtype=np.uint8)
    if len(raw) % 5:
        raise ValueError(f"{path} holds {len(raw):,} bytes, where each event takes 5: it was cut; unpack it again")
    x, y, high, middle, low = raw.reshape(-1, 5).T
    t = (high & 0x7F).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    overflow = y == 240
    if overflow.any():
        t += 8192 * np.cumsum(overflow)
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), high >> 7, size)
    if overflow.any():
        keep = ~overflow
        events = Events(t[keep], events.x[keep], events.y[keep], events.polarity[keep], size)
    outside = (events.x >= size[1]) | (events.y >= size[0])
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            f"{path}: event {first} lies at x={events.x[first]}, y={events.y[first]}, outside the sensor of "
            f"{size[1]} x {size[0]} pixels; the file is damaged or of another camera"
        )
    return events
