"""The `.bin` files of N-MNIST and N-Caltech101 (an ATIS camera): five bytes per event."""

from pathlib import Path

import numpy as np

from . import reading

EVENT_BYTES = 5
OVERFLOW_ROW = 240  # a row that no event has: it marks an overflow of the clock
OVERFLOW_US = 8192

NMNIST_SIZE = (34, 34)


def read_atis(path: Path) -> reading.FileEvents:
    """Events of 5 bytes each, x, y, polarity (1 bit) and time (23 bits), big-endian.

    A row of 240 is not an event but an overflow of the clock: all later times are 8,192 microseconds later.

    Raises:  FileNotFoundError; ValueError for a truncated file
    """
    raw = reading.map_file(path)
    reading.require_written(path, raw, EVENT_BYTES)
    reading.require_whole_events(path, len(raw), EVENT_BYTES)
    decoded = reading.decode("atis", raw, EVENT_BYTES, decode_numpy)
    return reading.FileEvents(decoded.columns, usual=NMNIST_SIZE, in_order=decoded.in_order)


def decode_numpy(raw: np.ndarray) -> reading.Decoded:
    """The definition of decode_atis in native/events.inc."""
    x, y, high, middle, low = raw.reshape(-1, EVENT_BYTES).T
    t = (high & 0x7F).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    overflow = y == OVERFLOW_ROW
    t += OVERFLOW_US * np.cumsum(overflow)
    keep = ~overflow
    return reading.Decoded((t[keep], x[keep].astype(np.uint16), y[keep].astype(np.uint16), high[keep] >> 7))
