"""AEDAT 3.1 (DVS128 Gesture, DAVIS): packets of events of one type."""

from pathlib import Path

import numpy as np

from ..events import Events
from .raw import raw_bytes, refusal, require_inside, text_header

MAGIC = b"#!AER-DAT3.1"
SENSOR = (128, 128)
POLARITY = 1
HEADER = np.dtype(
    [
        *((name, "<i2") for name in ("type", "source")),
        *((name, "<i4") for name in ("size", "time_at", "overflow", "capacity", "number", "valid")),
    ]
)
EVENT = np.dtype([("data", "<u4"), ("clock", "<i4")])


def read_aedat3(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Polarity events of 8 bytes each: validity, polarity, row, column, and 31 bits of time; the packet's header has the rest.

    Packets of other types and events marked as invalid are skipped.

    size:    (height, width); None: 128 x 128, the DVS128's
    Raises:  OSError; ValueError with what is wrong with the file
    """
    lines, begin = text_header(path, b"#", b"#!END-HEADER")
    if not lines or not lines[0].startswith(MAGIC):
        raise refusal(path, 0, f"an AEDAT 3.1 file begins with {MAGIC.decode()}, this one does not; convert it with jAER or DV")
    for line in lines:
        if line.startswith(b"#Format:") and line.split()[1:] != [b"RAW"]:
            raise refusal(path, 0, f"its events are in the form {line[8:40]!r}, not RAW; save it as RAW")
    return require_inside(defined(raw_bytes(path), begin, path, size or SENSOR), path)


def defined(raw: np.ndarray, begin: int, path: Path, size: tuple[int, int]) -> Events:
    """Walk along the packets, in NumPy."""
    t, data = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    while begin < len(raw):
        if len(raw) - begin < HEADER.itemsize:
            raise refusal(path, begin, f"{len(raw) - begin} bytes of a packet's header, which has 28: the file was cut")
        head = raw[begin : begin + HEADER.itemsize].view(HEADER)[0]
        each, number, overflow = int(head["size"]), int(head["number"]), int(head["overflow"])
        if each < 1 or number < 0 or overflow < 0:
            raise refusal(path, begin, f"a packet of {number:,} events of {each:,} bytes, overflow {overflow:,}: damaged")
        end = begin + HEADER.itemsize + each * number
        if end > len(raw):
            raise refusal(path, begin, f"a packet of {number:,} events of {each:,} bytes ends behind the file: it was cut")
        if head["type"] == POLARITY:
            if each != EVENT.itemsize:
                raise refusal(path, begin, f"polarity events of {each:,} bytes, which have 8: damaged")
            events = raw[begin + HEADER.itemsize : end].view(EVENT)
            events = events[events["data"] & 1 == 1]
            if (events["clock"] < 0).any():
                raise refusal(path, begin, "an event of this packet has a time below 0: damaged")
            t.append(events["clock"].astype(np.int64) | overflow << 31)
            data.append(events["data"])
        begin = end
    word = np.concatenate(data)
    x, y = (word >> 17).astype(np.uint16), (word >> 2 & 0x7FFF).astype(np.uint16)
    return Events(np.concatenate(t), x, y, (word >> 1 & 1).astype(np.uint8), size)
