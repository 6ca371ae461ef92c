"""AEDAT 3.1, as written by cAER and used by DVS128 Gesture."""

import re
from pathlib import Path

import numpy as np

from . import reading
from .sensor import CAMERA_SIZES, camera_size

PACKET_HEADER_BYTES = 28
POLARITY_EVENT = 1  # the type of packets that hold a camera's events
EVENT_BYTES = 8
ERROR_TEXT = {
    1: "a packet's header is cut there",
    2: "the packet there promises events of no bytes, fewer than none, or more than it has room for",
    3: "the packet there promises more than the file holds",
    4: "the packet there has camera events of another size than 8 bytes",
}


def read_aedat3(path: Path) -> reading.FileEvents:
    """Camera events of all packets, in the order of the file; packets of other types, and events marked invalid, are skipped
    and counted. The sensor is that of the camera that the header names as its source.

    A packet begins with 28 bytes (little-endian: type and source, 16 bits each, then size of an event, offset of its clock,
    overflows of the clock, capacity, events, valid events, 32 bits each). An event is 32 bits (valid 0, polarity 1, row 2-16,
    column 17-31) and its time, 31 bits, to which the packet's overflows add the higher bits.

    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-3.1.html
    Raises:  ValueError for a damaged file; OSError
    """
    raw = reading.map_file(path)
    begin = reading.header_end(path, raw, b"#", last=b"#!END-HEADER")
    header = raw[: min(begin, 65_536)].tobytes()
    if b"#Format:" in header and b"#Format: RAW" not in header:
        raise ValueError(f"{path}: its packets are compressed; write it again as #Format: RAW")
    decoded = reading.decode("aedat3", raw[begin:], EVENT_BYTES, decode_numpy)
    if decoded.error:
        raise ValueError(f"{path} is damaged at byte {begin + decoded.at:,}: {ERROR_TEXT[decoded.error]}; copy it again")
    source = re.search(rb"^#Source[^\n]*", header, re.M)
    size = camera_size(source[0]) if source else None
    notes = reading.skipped_notes(decoded, "invalid event", "other packet")
    return reading.FileEvents(decoded.columns, size, CAMERA_SIZES[b"128"], notes, in_order=decoded.in_order)


def decode_numpy(body: np.ndarray) -> reading.Decoded:
    """The definition of decode_aedat3 in native/events.inc; errors as in ERROR_TEXT."""
    at, others, parts = 0, 0, [(np.empty(0, np.int64), np.empty(0, np.int64))]
    while at < len(body):
        if len(body) - at < PACKET_HEADER_BYTES:
            return reading.Decoded(reading.NO_EVENTS, at, 1)
        packet_type = int(body[at : at + 2].view("<i2")[0])
        event_bytes, _, overflows, capacity, events, _ = map(int, body[at + 4 : at + PACKET_HEADER_BYTES].view("<i4"))
        if event_bytes <= 0 or events < 0 or capacity < events:
            return reading.Decoded(reading.NO_EVENTS, at, 2)
        if event_bytes * capacity > len(body) - at - PACKET_HEADER_BYTES:
            return reading.Decoded(reading.NO_EVENTS, at, 3)
        if packet_type == POLARITY_EVENT:
            if event_bytes != EVENT_BYTES:
                return reading.Decoded(reading.NO_EVENTS, at, 4)
            words = body[at + PACKET_HEADER_BYTES :][: EVENT_BYTES * events].view("<u4")
            data, clock = words.reshape(-1, 2).astype(np.int64).T
            parts.append((data, (clock & 0x7FFFFFFF) | overflows << 31))
        else:
            others += 1
        at += PACKET_HEADER_BYTES + event_bytes * capacity
    data, t = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = data & 1 == 1
    skipped = (int(np.count_nonzero(~keep)), others, 0)
    data = data[keep]
    x, y = ((data >> bit & 0x7FFF).astype(np.uint16) for bit in (17, 2))
    return reading.Decoded((t[keep], x, y, (data >> 1 & 1).astype(np.uint8)), at, 0, skipped)
