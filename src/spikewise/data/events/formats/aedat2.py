"""AEDAT 2.0: what jAER writes, and CIFAR10-DVS. Addresses of a DVS128, or of a DAVIS where the header says so."""

import re
from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files

BYTES = 8
DVS128 = (128, 128)
DAVIS = {b"128": DVS128, b"208": (192, 208), b"240": (180, 240), b"346": (260, 346), b"640": (480, 640)}
END = b"#End Of ASCII Header"  # of newer files; in older ones the first line without # is events


def read_aedat2(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of a DVS128 or a DAVIS, after a header of text: address and time, 32 bits each, big-endian.

    Column, row and polarity are the address's own. DVS128: bits 1 to 7, 8 to 14, and 0. DAVIS, where the header's AEChip
    names one: bits 12 to 21, 22 to 30, and 11. (jAER shows the sensor with its columns mirrored, rows counted from below, and
    a DVS128's polarity 0 as brighter; CIFAR10-DVS is turned otherwise: `cifar10dvs.py`.) Left out are marks of an external
    signal (bit 15 of a DVS128, 10 of a DAVIS), and what a DAVIS measures besides (bit 31). The clock has 32 bits: where it
    falls by more than half its range it has overflowed.

    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html
    Raises:  ValueError for a damaged file, or addresses of another camera; OSError
    """
    raw = files.bytes_of(path)
    try:
        begin = files.header_end(raw, b"#", last=END)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file was cut") from None
    body = raw[begin:]
    if len(body) % BYTES:
        at = begin + len(body) // BYTES * BYTES
        raise ValueError(f"{path} was cut: the event at byte {at:,} has {len(body) % BYTES} of 8 bytes; copy it again")
    if chip := re.search(rb"^# *AEChip:[^\n]*(?:davis|sbret)\D*(\d*)", raw[:begin].tobytes(), re.I | re.M):
        return files.recording(path, of_davis(body), size, usual=DAVIS.get(chip[1], DAVIS[b"240"]))
    if files.compiled():
        arrays, call = files.decode("decode_aedat2", body, len(body) // BYTES)
        beyond = call.at if call.wrong else -1
    else:
        arrays, beyond = defined(body)
    if beyond >= 0:
        raise ValueError(
            f"{path}: the address at byte {begin + beyond:,} has more than 16 bits; only those of a DVS128 are read, and of "
            "a DAVIS where the header names it (convert others to AEDAT 4 with their camera's software)"
        )
    return files.recording(path, arrays, size, usual=DVS128)


def defined(body: np.ndarray) -> tuple[files.Columns, int]:
    """What decode_aedat2 of native/events.inc is, in NumPy: the events, or the first byte of an address beyond 16 bits."""
    address, t = addresses(body)
    if (address >> 16).any():
        return files.NO_EVENTS, int(np.argmax(address >> 16 != 0)) * BYTES
    keep = address < 0x8000
    address = address[keep]
    x, y = ((address >> bit & 0x7F).astype(np.uint16) for bit in (1, 8))
    return (t[keep], x, y, (address & 1).astype(np.uint8)), -1


def of_davis(body: np.ndarray) -> files.Columns:
    """The events among a DAVIS's words."""
    address, t = addresses(body)
    keep = address & (1 << 31 | 1 << 10) == 0
    address = address[keep]
    x, y = (address >> 12 & 0x3FF).astype(np.uint16), (address >> 22 & 0x1FF).astype(np.uint16)
    return t[keep], x, y, (address >> 11 & 1).astype(np.uint8)


def addresses(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Addresses, and times without overflows."""
    address, clock = body.view(">u4").reshape(-1, 2).astype(np.int64).T
    return address, clock + (np.cumsum(np.diff(clock, prepend=clock[:1]) < -(2**31)) << 32)
