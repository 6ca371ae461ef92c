"""N-MNIST and N-Caltech101 (Orchard et al. 2015): `.bin` files of an ATIS camera."""

from pathlib import Path

import numpy as np

from ..events import Events
from .raw import raw_bytes, refusal, require_inside

SENSOR = (240, 304)
OVERFLOW = 240  # a row that no pixel has
CLOCK = 8192  # microseconds


def read_atis_bin(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of 5 bytes each: x, y, polarity (1 bit) and time (23 bits), big-endian.

    A row of 240 marks an overflow of the clock: all later times are 8,192 microseconds later, and it is no event.

    size:    (height, width); None: the camera's, 240 x 304. N-MNIST has 34 x 34
    Raises:  OSError; ValueError with what is wrong with the file
    """
    raw = raw_bytes(path)
    if len(raw) % 5:
        at = len(raw) - len(raw) % 5
        raise refusal(path, at, f"the file holds {len(raw):,} bytes, where each event takes 5: it was cut; unpack it again")
    x, y, high, middle, low = raw.reshape(-1, 5).T
    overflow = y == OVERFLOW
    t = (high & 0x7F).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    t += CLOCK * np.cumsum(overflow)
    keep = ~overflow
    events = Events(t[keep], x[keep].astype(np.uint16), y[keep].astype(np.uint16), high[keep] >> 7, size or SENSOR)
    return require_inside(events, path)
