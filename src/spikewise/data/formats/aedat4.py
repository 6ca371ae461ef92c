"""AEDAT 4, what DV writes, through the package aedat."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..events import Events
from . import raw as files

MAGIC = b"#!AER-DAT4.0\r\n"


def read_aedat4(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of the file's first stream of events; other streams are left out.

    Raises:  ValueError for a damaged file, one without events, or where the package is missing; OSError
    """
    aedat = files.extra("aedat", path)
    require_sound(path, files.bytes_of(path))
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


def require_sound(path: Path, raw: np.ndarray) -> None:
    """Refuse what the library would fail on: lengths it makes memory for before it reads, and a header it can't understand.

    A header (its length in 32 bits, then a table: compression, where the packets end, an XML text about the streams), then
    packets: stream and length, 32 bits each.
    """

    def damaged(at: int, what: str) -> ValueError:
        return ValueError(f"{path} is damaged at byte {min(max(at, 0), len(raw)):,}: {what}; copy it again")

    def number(at: int, kind: str = "<u4") -> int:
        end = at + np.dtype(kind).itemsize
        if at < 0 or end > len(raw):
            raise damaged(at, "something lies outside the file")
        return int(raw[at:end].view(kind)[0])

    begin = len(MAGIC) + 4
    if raw[: len(MAGIC)].tobytes() != MAGIC or raw[begin + 4 : begin + 8].tobytes() != b"IOHE":
        raise damaged(0, "it does not begin like AEDAT 4")
    at = begin + number(len(MAGIC))
    table = begin + number(begin)
    fields = table - number(table, "<i4")
    if number(fields, "<u2") < 10:
        raise damaged(fields, "the header tells nothing of its streams")
    _, position, about = (number(fields + 4 + 2 * field, "<u2") for field in range(3))
    text = table + about + number(table + about)
    try:
        ElementTree.fromstring(raw[text + 4 : text + 4 + number(text)].tobytes().decode())
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise damaged(text, f"the text about its streams is none ({error})") from None
    end = number(table + position, "<i8") if position else -1
    end = len(raw) if end < 0 else end
    while at < end:
        length = number(at + 4)
        if at + 8 + length > min(end, len(raw)):
            raise damaged(at, f"the packet there promises {length:,} bytes")
        at += 8 + length
    if at != end:
        raise damaged(at, f"the packets end there, not at {end:,}")
