"""AEDAT 3.1, as written by cAER and used by DVS128 Gesture."""

import re
from pathlib import Path

import numpy as np

from ....wording import count
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


def read_aedat3(path: Path, *, stream: str | None = None) -> reading.FileEvents:
    """Camera events of all packets, in the order of the file; packets of other types, and events marked invalid, are skipped
    and counted. The sensor is that of the camera that the header names as its source.

    A packet begins with 28 bytes (little-endian: type and source, 16 bits each, then size of an event, offset of its clock,
    overflows of the clock, capacity, events, valid events, 32 bits each). An event is 32 bits (valid 0, polarity 1, row 2-16,
    column 17-31) and its time, 31 bits, to which the packet's overflows add the higher bits.

    stream:  the number of the camera, where the header names several sources and more than one has camera events
    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-3.1.html
    Raises:  ValueError for a damaged file, or a camera that is not said; OSError
    """
    raw = reading.map_file(path)
    begin = reading.header_end(path, raw, b"#", last=b"#!END-HEADER")
    header = raw[: min(begin, 65_536)].tobytes()
    if b"#Format:" in header and b"#Format: RAW" not in header:
        raise ValueError(f"{path}: its packets are compressed; write it again as #Format: RAW")
    sources = {number.decode(): line for line, number in re.findall(rb"^(#Source (\d+)[^\n]*)", header, re.M)}
    body, others = raw[begin:], tuple[str, ...]()
    if len(sources) > 1 or stream is not None:
        body, chosen, others = select_camera(path, body, stream)
        sources = {chosen: sources.get(chosen, b"")}
    decoded = reading.decode("aedat3", body, EVENT_BYTES, decode_numpy)
    if decoded.error:
        at = begin + decoded.at
        raise reading.DamagedFile(f"{path} is damaged at byte {at:,}: {ERROR_TEXT[decoded.error]}; copy it again", at)
    size = next((camera_size(line) for line in sources.values()), None)
    notes = (*others, *reading.skipped_notes(decoded, "invalid event", "other packet"))
    return reading.FileEvents(decoded.columns, size, CAMERA_SIZES[b"128"], notes, in_order=decoded.in_order)


def select_camera(path: Path, body: np.ndarray, stream: str | None) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """The packets without those of other cameras, the camera's number, and a note; all of them where one is damaged.

    Raises:  ValueError where there are several cameras and none is said, or another one
    """
    packets, at = [], 0
    while at + PACKET_HEADER_BYTES <= len(body):
        kind, source = map(int, body[at : at + 4].view("<i2"))
        event_bytes, _, _, capacity = map(int, body[at + 4 : at + 20].view("<i4"))
        end = at + PACKET_HEADER_BYTES + event_bytes * capacity
        if not at < end <= len(body):
            break
        packets.append((at, end, str(source) if kind == POLARITY_EVENT else ""))
        at = end
    cameras = sorted({camera for _, _, camera in packets if camera})
    chosen = reading.choose_stream(path, cameras, stream)
    if at != len(body) or len(cameras) < 2:
        return body, chosen, ()
    parts = [body[begin:end] for begin, end, camera in packets if camera in ("", chosen)]
    skipped = count(len(packets) - len(parts), "packet")
    return np.concatenate(parts), chosen, (f"{skipped} of other cameras skipped",)


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
