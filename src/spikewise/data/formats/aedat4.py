"""AEDAT 4, what DV writes, through the package aedat."""

from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files

MAGIC = b"#!AER-DAT4.0\r\n"


def read_aedat4(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of the file's first stream of events; other streams are left out.

    Raises:  ValueError for a damaged file, one without events, or where the package is missing; OSError
    """
    aedat = files.extra("aedat", path)
    require_packets_inside(path, files.bytes_of(path))
    try:
        with files.silent():
            decoder = aedat.Decoder(path)
            streams = {number: about for number, about in decoder.id_to_stream().items() if about["type"] == "events"}
            if not streams:
                raise ValueError("it has no stream of events")
            number, about = min(streams.items())
            packets = [packet["events"] for packet in decoder if packet["stream_id"] == number]
    except BaseException as error:  # a panic of the library, written in Rust, is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | OSError):
            raise
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}; copy it again") from None
    events = np.concatenate(packets) if packets else np.empty(0, [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
    size = size or (int(about["height"]), int(about["width"]))
    t, x, y, on = (events[name] for name in events.dtype.names or ())
    return files.recording(path, (t.astype(np.int64), x.copy(), y.copy(), on.astype(np.uint8)), size)


def require_packets_inside(path: Path, raw: np.ndarray) -> None:
    """Refuse lengths that the file does not hold: the library makes memory for them before it reads.

    A header (its length in 32 bits, then a table whose second field says where the packets end; -1 or missing: with the file),
    then packets: stream and length, 32 bits each.
    """

    def number(at: int, kind: str = "<u4") -> int:
        end = at + np.dtype(kind).itemsize
        if at < 0 or end > len(raw):
            raise ValueError(f"{path} is damaged: byte {min(max(at, 0), len(raw)):,} points outside the file; copy it again")
        return int(raw[at:end].view(kind)[0])

    begin = len(MAGIC) + 4
    at = begin + number(len(MAGIC))
    table = begin + number(begin)
    fields = table - number(table, "<i4")
    end = -1
    if number(fields, "<u2") >= 8 and (offset := number(fields + 6, "<u2")):
        end = number(table + offset, "<i8")
    end = len(raw) if end < 0 else end
    while at < end:
        length = number(at + 4)
        if at + 8 + length > min(end, len(raw)):
            raise ValueError(f"{path} was cut: the packet at byte {at:,} promises {length:,} bytes; copy it again")
        at += 8 + length
    if at != end:
        raise ValueError(f"{path} is damaged: its packets end at byte {at:,}, not at {end:,}; copy it again")
