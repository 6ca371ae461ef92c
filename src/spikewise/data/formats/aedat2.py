"""AEDAT 2.0, jAER's files: pairs of an address and a time; what an address says depends on the camera."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..events import Events
from .raw import raw_bytes, refusal, require_inside, text_header

MAGIC = b"#!AER-DAT2.0"


class Layout(NamedTuple):
    """Where an address of 32 bits has what.

    x, y:      (mask, shift)
    polarity:  bit
    other:     bits that are set where it is no polarity event
    flip:      CIFAR10-DVS's convention: x = 127 - row, y = 127 - column, polarity = 1 - bit; False: as the address has them
    """

    size: tuple[int, int]
    x: tuple[int, int]
    y: tuple[int, int]
    polarity: int
    other: int = 0
    flip: bool = False


LAYOUTS = {
    "dvs128": Layout((128, 128), x=(0xFE, 1), y=(0x7F00, 8), polarity=0),
    "cifar10-dvs": Layout((128, 128), x=(0xFE, 1), y=(0x7F00, 8), polarity=0, flip=True),
    "davis": Layout((260, 346), x=(0x3FF000, 12), y=(0x7FC00000, 22), polarity=11, other=0x80000400),
}


def read_aedat2(path: Path, size: tuple[int, int] | None = None, *, layout: str | None = None) -> Events:
    """Events of 8 bytes each: address and time, 32 bits, big-endian, behind a text header of any length.

    A time is taken as the one nearest to its predecessor: the clock has 32 bits and wraps.

    size:    (height, width); None: the layout's
    layout:  "dvs128": places and polarity as the address has them; "cifar10-dvs": that address, with x = 127 - row,
             y = 127 - column and polarity = 1 - bit, as the field stores CIFAR10-DVS; "davis": DAVIS240 and 346, where
             frames, inertial data and triggers are skipped; None: "davis" where the header's AEChip says so, else "dvs128"
    Raises:  OSError; ValueError with what is wrong with the file
    """
    lines, begin = text_header(path, b"#", b"#End Of ASCII Header")
    if not lines or not lines[0].startswith(MAGIC):
        raise refusal(path, 0, f"an AEDAT 2.0 file begins with {MAGIC.decode()}, this one does not; convert it with jAER")
    if layout is None:
        layout = "davis" if any(b"AEChip" in line and b"avis" in line for line in lines) else "dvs128"
    if layout not in LAYOUTS:
        raise ValueError(f"no AEDAT 2.0 layout named {layout!r}; known: {', '.join(LAYOUTS)}")
    raw = raw_bytes(path)[begin:]
    if len(raw) % 8:
        at = begin + len(raw) - len(raw) % 8
        raise refusal(path, at, f"{len(raw):,} bytes of events, where each takes 8: the file was cut; bring it again")
    where = LAYOUTS[layout]
    return require_inside(defined(raw, where, size or where.size), path)


def defined(raw: np.ndarray, where: Layout, size: tuple[int, int]) -> Events:
    """Address and time of each event, in NumPy."""
    address, clock = raw.view(">u4").reshape(-1, 2).T.astype(np.uint32)
    t = clock.astype(np.int64)
    if len(t):
        t[1:] = t[0] + np.cumsum(np.diff(clock).view(np.int32), dtype=np.int64)  # differences modulo 2**32
    x, y = (((address & mask) >> shift).astype(np.uint16) for mask, shift in (where.x, where.y))
    polarity = (address >> where.polarity & 1).astype(np.uint8)
    if where.flip:
        x, y, polarity = 127 - y, 127 - x, 1 - polarity
    events = Events(t, x, y, polarity, size)
    if not where.other:
        return events
    keep = address & where.other == 0
    return Events(t[keep], x[keep], y[keep], polarity[keep], size)
