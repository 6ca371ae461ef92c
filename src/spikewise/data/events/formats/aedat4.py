"""AEDAT 4, what DV writes, through the package aedat."""

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ...messages import one_line
from . import reading
from .sensor import require_sensor_size

MAGIC = b"#!AER-DAT4.0\r\n"
LZ4, ZSTD = 0x184D2204, 0xFD2FB528  # the first bytes of their frames
MAX_EXPANSION = 64  # unpacked bytes per byte of a packet
MIN_ALLOWED_BYTES = 1 << 22  # unpacked bytes that are always allowed: the largest block of LZ4
MAX_ZSTD_BLOCK = 1 << 17  # unpacked bytes
MAX_ZSTD_WINDOW = 13  # 8 MiB, as 2 ** (10 + 13): what a decoder should support


def read_aedat4(path: Path, *, stream: str | None = None) -> reading.FileEvents:
    """Events of the file's stream of events; streams of frames, inertia and triggers are skipped.

    stream:  the number of the stream, where several are of events, as of two cameras
    Raises:  ValueError for a damaged file, one without events, several streams of events, or where the package is missing;
             OSError
    """
    aedat = reading.import_optional("aedat", path)
    starts = find_packets(path, raw := reading.map_file(path))
    with refuse_damage(path):
        decoder = aedat.Decoder(path)
        streams = {str(number): info for number, info in sorted(decoder.id_to_stream().items())}
    cameras = [number for number, info in streams.items() if info["type"] == "events"]
    if not cameras:
        others = ", ".join(sorted({str(info["type"]) for info in streams.values()})) or "nothing"
        raise ValueError(f"{path} has no stream of events; it holds {others}")
    chosen = reading.choose_stream(path, cameras, stream)
    packets, allowed, whole = [], max(MAX_EXPANSION * len(raw), MIN_ALLOWED_BYTES), 0
    with refuse_damage(path, lambda: starts[whole] if whole < len(starts) else None):
        for packet in decoder:
            whole += 1
            if str(packet["stream_id"]) == chosen:
                packets.append(packet["events"])
                allowed -= packets[-1].nbytes
            if allowed < 0:
                raise ValueError(f"its events take more than {MAX_EXPANSION} times the file's {len(raw):,} bytes")
    events = np.concatenate(packets) if packets else np.empty(0, [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
    size = require_sensor_size(path, streams[chosen]["height"], streams[chosen]["width"])
    notes = tuple(f"camera {other} skipped" for other in cameras if other != chosen)
    t, x, y, on = (events[name] for name in events.dtype.names or ())
    return reading.FileEvents((t.astype(np.int64), x.copy(), y.copy(), on.astype(np.uint8)), size, notes=notes)


@contextlib.contextmanager
def refuse_damage(path: Path, place: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Errors of the library as one line; it writes some to standard error by itself.

    place:  a function that tells the byte before which all is whole; None: nobody knows
    """
    try:
        with reading.suppress_stderr():
            yield
    except BaseException as error:  # a panic of the library, written in Rust, is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | OSError):
            raise
        if (at := place()) is not None:
            raise reading.DamagedFile(f"{path} is damaged at byte {at:,}: {one_line(error)}; copy it again", at) from None
        raise ValueError(f"{path} is damaged: {one_line(error)}; copy it again") from None


def find_packets(path: Path, raw: np.ndarray) -> list[int]:
    """Where packets begin.

    What the library would fail on is refused: lengths for which it allocates memory before it reads, a damaged header.

    A header (its length in 32 bits, then a table: compression, where the packets end, an XML text about the streams), then
    packets: stream and length, 32 bits each.
    """

    def damaged(at: int, what: str) -> ValueError:
        return ValueError(f"{path} is damaged at byte {min(max(at, 0), len(raw)):,}: {what}; copy it again")

    def damaged_packet(at: int, what: str) -> reading.DamagedFile:
        return reading.DamagedFile(str(damaged(at, what)), at)

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
    packing, position, about = header_fields(number, table, damaged)
    compression = number(table + packing, "<i4") if packing else 0
    text = table + about + number(table + about)
    try:
        ElementTree.fromstring(raw[text + 4 : text + 4 + number(text)].tobytes().decode())
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise damaged(text, f"the text about its streams is none ({error})") from None
    end = number(table + position, "<i8") if position else -1
    end, starts = len(raw) if end < 0 else end, []
    while at < end:
        starts.append(at)
        if at + 8 > len(raw):
            raise damaged_packet(at, "the packet there is cut")
        length = number(at + 4)
        if at + 8 + length > min(end, len(raw)):
            raise damaged_packet(at, f"the packet there promises {length:,} bytes")
        try:
            unpacked = max_unpacked_bytes(raw[at + 8 : at + 8 + length].tobytes(), compression)
        except ValueError as error:
            raise damaged_packet(at, str(error)) from None
        if unpacked > max(MAX_EXPANSION * length, MIN_ALLOWED_BYTES):
            raise damaged_packet(at, f"the packet there would become up to {unpacked:,} bytes, of {length:,}")
        at += 8 + length
    if at != end:
        raise damaged_packet(at, f"the packets end there, not at {end:,}")
    return starts


def header_fields(number: Callable[..., int], table: int, damaged: Callable[[int, str], ValueError]) -> tuple[int, int, int]:
    """Where compression, the end of the packets and the text about the streams lie in the header's table; 0: nowhere."""
    fields = table - number(table, "<i4")
    if number(fields, "<u2") < 10:
        raise damaged(fields, "the header tells nothing of its streams")
    packing, position, about = (number(fields + 4 + 2 * field, "<u2") for field in range(3))
    return packing, position, about


def end_packets(path: Path) -> None:
    """Let the header of a file that was cut behind a packet, or in the data behind them, say that they end where it does."""
    with path.open("r+b") as file:
        content = file.read(2**16)

        def number(at: int, kind: str = "<u4") -> int:
            return int(np.frombuffer(content, kind, 1, at)[0])

        begin = len(MAGIC) + 4
        table = begin + number(begin)
        _, position, _ = header_fields(number, table, lambda _at, what: ValueError(what))
        if position and number(table + position, "<i8"):  # it lies in the file
            file.seek(table + position)
            file.write(path.stat().st_size.to_bytes(8, "little"))


def max_unpacked_bytes(packet: bytes, compression: int) -> int:
    """Upper bound of a packet's unpacked size, from the headers of its frames and blocks; nothing is unpacked.

    compression:  0 none, 1 and 2 LZ4, 3 and 4 Zstandard
    Source:       the frame formats of LZ4 (1.6.2) and Zstandard (RFC 8878, 3.1.1)
    Raises:       ValueError for a packet that is not packed in this way
    """
    if compression == 0:
        return len(packet)
    try:
        frame = {1: lz4_frame, 2: lz4_frame, 3: zstd_frame, 4: zstd_frame}[compression]
        at = max_bytes = 0
        while at < len(packet) or not at:
            at, more = frame(packet, at)
            max_bytes += more
        if at > len(packet):
            raise IndexError
    except (KeyError, IndexError, struct.error):
        raise ValueError(f"the packet there is not packed as its header says (compression {compression})") from None
    return max_bytes


def lz4_frame(packet: bytes, at: int) -> tuple[int, int]:
    """Where an LZ4 frame ends, and an upper bound of its unpacked bytes."""
    magic, flags, block = struct.unpack_from("<IBB", packet, at)
    largest = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}[block >> 4 & 7]
    if magic != LZ4:
        raise IndexError
    at += 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    max_bytes = 0
    while size := struct.unpack_from("<I", packet, at)[0]:
        at += 4 + (size & 0x7FFFFFFF) + (4 if flags & 16 else 0)
        # a byte adds at most 255 to a match's length
        max_bytes += size & 0x7FFFFFFF if size >> 31 else min(largest, 255 * size)
    return at + 4 + (4 if flags & 4 else 0), max_bytes


def zstd_frame(packet: bytes, at: int) -> tuple[int, int]:
    """Where a Zstandard frame ends, and an upper bound of its unpacked bytes."""
    magic, flags = struct.unpack_from("<IB", packet, at)
    single, length = flags >> 5 & 1, flags >> 6
    if magic != ZSTD or not (single or packet[at + 5] >> 3 <= MAX_ZSTD_WINDOW):
        raise IndexError
    at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[length]
    last = max_bytes = 0
    while not last:
        head = int.from_bytes(struct.unpack_from("<3s", packet, at)[0], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if kind == 3:
            raise IndexError
        at += 3 + (1 if kind == 1 else size)
        max_bytes += MAX_ZSTD_BLOCK if kind == 2 else size
    return at + (4 if flags & 4 else 0), max_bytes
