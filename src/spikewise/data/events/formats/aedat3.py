"""AEDAT 3.1: what cAER writes, and DVS128 Gesture."""

from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files

HEADER = 28  # bytes before a packet's events
POLARITY = 1  # the type of packets that hold a camera's events
EVENT = 8  # bytes of such an event
DVS128 = (128, 128)
WRONG = {
    1: "a packet's header is cut there",
    2: "the packet there promises events of no bytes, fewer than none, or more than it has room for",
    3: "the packet there promises more than the file holds",
    4: "the packet there has camera events of another size than 8 bytes",
}


def read_aedat3(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Camera events of all packets, in the order of the file; packets of other kinds, and events marked invalid, are left out.

    A packet has 28 bytes of header (little-endian: type and source, 16 bits each, then size of an event, place of its clock,
    overflows of the clock, room, events, valid events, 32 bits each). An event is 32 bits (valid 0, polarity 1, row 2-16,
    column 17-31) and its time, 31 bits, above which stand the packet's overflows.

    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-3.1.html
    Raises:  ValueError for a damaged file; OSError
    """
    raw = files.bytes_of(path)
    try:
        begin = files.header_end(raw, b"#", last=b"#!END-HEADER")
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file was cut") from None
    header = raw[: min(begin, 65_536)].tobytes()
    if b"#Format:" in header and b"#Format: RAW" not in header:
        raise ValueError(f"{path}: its packets are compressed; write it again as #Format: RAW")
    body = raw[begin:]
    if files.compiled():
        arrays, call = files.decode("decode_aedat3", body, len(body) // EVENT)
        at, wrong = call.at, call.wrong
    else:
        arrays, at, wrong = defined(body)
    if wrong:
        raise ValueError(f"{path} is damaged at byte {begin + at:,}: {WRONG[wrong]}; copy it again")
    return files.recording(path, arrays, size, usual=DVS128)


def defined(body: np.ndarray) -> tuple[files.Columns, int, int]:
    """What decode_aedat3 of native/events.inc is, in NumPy: the events, the byte where it stopped, and why (0: the end)."""
    at, parts = 0, [(np.empty(0, np.int64), np.empty(0, np.int64))]
    while at < len(body):
        if len(body) - at < HEADER:
            return files.NO_EVENTS, at, 1
        kind = int(body[at : at + 2].view("<i2")[0])
        each, _, overflows, room, events, _ = (int(number) for number in body[at + 4 : at + HEADER].view("<i4"))
        if each <= 0 or events < 0 or room < events:
            return files.NO_EVENTS, at, 2
        if each * room > len(body) - at - HEADER:
            return files.NO_EVENTS, at, 3
        if kind == POLARITY:
            if each != EVENT:
                return files.NO_EVENTS, at, 4
            data, clock = body[at + HEADER :][: EVENT * events].view("<u4").reshape(-1, 2).astype(np.int64).T
            parts.append((data, (clock & 0x7FFFFFFF) | overflows << 31))
        at += HEADER + each * room
    data, t = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = data & 1 == 1
    data = data[keep]
    x, y = ((data >> bit & 0x7FFF).astype(np.uint16) for bit in (17, 2))
    return (t[keep], x, y, (data >> 1 & 1).astype(np.uint8)), at, 0
