"""The `.bin` files of N-MNIST and N-Caltech101 (an ATIS camera): five bytes per event."""

from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files

BYTES = 5
OVERFLOW = 240  # a row that no event has: the clock overflowed
LATER = 8192  # microseconds

NMNIST = (34, 34)


def read_atis(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of 5 bytes each, x, y, polarity (1 bit) and time (23 bits), big-endian.

    A row of 240 marks an overflow of the clock: all later times are 8,192 microseconds later, and it is no event.
    Raises:  FileNotFoundError; ValueError with what is wrong with the file
    """
    raw = files.bytes_of(path)
    if len(raw) % BYTES:
        rest = len(raw) % BYTES
        raise ValueError(f"{path} was cut: the event at byte {len(raw) - rest:,} has {rest} of 5 bytes; unpack it again")
    arrays = files.decode("decode_atis", raw, len(raw) // BYTES)[0] if files.compiled() else defined(raw)
    return files.recording(path, arrays, size, usual=NMNIST)


def defined(raw: np.ndarray) -> files.Columns:
    """What decode_atis of native/events.inc is, in NumPy."""
    x, y, high, middle, low = raw.reshape(-1, BYTES).T
    t = (high & 0x7F).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    overflow = y == OVERFLOW
    t += LATER * np.cumsum(overflow)
    keep = ~overflow
    return t[keep], x[keep].astype(np.uint16), y[keep].astype(np.uint16), high[keep] >> 7
