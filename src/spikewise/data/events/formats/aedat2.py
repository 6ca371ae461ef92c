"""AEDAT 2.0, as written by jAER and used by CIFAR10-DVS: addresses of a DVS128, or of a DAVIS where the header names one."""

import re
from pathlib import Path

import numpy as np

from ..events import Events
from . import reading

EVENT_BYTES = 8
DVS128_SIZE = (128, 128)
DAVIS_SIZES = {b"128": DVS128_SIZE, b"208": (192, 208), b"240": (180, 240), b"346": (260, 346), b"640": (480, 640)}
HEADER_END = b"#End Of ASCII Header"  # of newer files; in older ones events begin at the first line without #


def read_aedat2(path: Path, size: reading.Size | None = None) -> Events:
    """Events of a DVS128 or a DAVIS, after a text header: address and time, 32 bits each, big-endian.

    Column, row and polarity are as in the address. DVS128: bits 1 to 7, 8 to 14, and 0. DAVIS, where AEChip in the header
    names one: bits 12 to 21, 22 to 30, and 11. (jAER displays columns mirrored, rows from below, and polarity 0 of a DVS128 as
    ON; CIFAR10-DVS is turned in another way: `cifar10_dvs.py`.) Marks of an external signal (bit 15 of a DVS128, 10 of a
    DAVIS) and a DAVIS's other measurements (bit 31) are skipped. The clock has 32 bits: where it falls by more than half its
    range, it has overflowed.

    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html
    Raises:  ValueError for a damaged file, or addresses of another camera; OSError
    """
    raw = reading.map_file(path)
    begin = reading.header_end(path, raw, b"#", last=HEADER_END)
    reading.require_whole_events(path, len(raw), EVENT_BYTES, begin)
    body = raw[begin:]
    if chip := re.search(rb"^# *AEChip:[^\n]*(?:davis|sbret)\D*(\d*)", raw[:begin].tobytes(), re.I | re.M):
        return reading.make_events(path, decode_davis(body), size, DAVIS_SIZES.get(chip[1], DAVIS_SIZES[b"240"]))
    decoded = reading.decode("aedat2", body, EVENT_BYTES, decode_numpy)
    if decoded.error:
        raise ValueError(
            f"{path}: the address at byte {begin + decoded.at:,} has more than 16 bits; only those of a DVS128 are read, and "
            "of a DAVIS where the header names it (convert others to AEDAT 4 with their camera's software)"
        )
    return reading.make_events(path, decoded.columns, size, DVS128_SIZE)


def decode_numpy(body: np.ndarray) -> reading.Decoded:
    """The definition of decode_aedat2 in native/events.inc; error 1: an address of more than 16 bits."""
    address, t = read_addresses(body)
    if (too_long := address >> 16 != 0).any():
        return reading.Decoded(reading.NO_EVENTS, int(np.argmax(too_long)) * EVENT_BYTES, 1)
    keep = address < 0x8000
    address = address[keep]
    x, y = ((address >> bit & 0x7F).astype(np.uint16) for bit in (1, 8))
    return reading.Decoded((t[keep], x, y, (address & 1).astype(np.uint8)))


def decode_davis(body: np.ndarray) -> reading.Columns:
    """The events among a DAVIS's words."""
    address, t = read_addresses(body)
    keep = address & (1 << 31 | 1 << 10) == 0
    address = address[keep]
    x, y = (address >> 12 & 0x3FF).astype(np.uint16), (address >> 22 & 0x1FF).astype(np.uint16)
    return t[keep], x, y, (address >> 11 & 1).astype(np.uint8)


def read_addresses(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Addresses, and times with the clock's overflows added."""
    address, clock = body.view(">u4").reshape(-1, 2).astype(np.int64).T
    return address, clock + (np.cumsum(np.diff(clock, prepend=clock[:1]) < -(2**31)) << 32)
