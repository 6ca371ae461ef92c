"""AEDAT 2.0: what jAER writes, and CIFAR10-DVS. Addresses of a DVS128."""

from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files

BYTES = 8
DVS128 = (128, 128)


def read_aedat2(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of a DVS128, after a header of text: address and time, 32 bits each, big-endian.

    Column, row and polarity are the address's own: bits 1 to 7, 8 to 14, and 0. (jAER shows the sensor with its columns
    mirrored, rows counted from below, and polarity 0 as brighter; CIFAR10-DVS is turned otherwise: `cifar10dvs.py`.)
    Addresses with bit 15, marks of an external signal, are left out. The clock has 32 bits: where it falls by more than half
    its range it has overflowed.

    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html
    Raises:  ValueError for a damaged file, or addresses of another camera; OSError
    """
    raw = files.bytes_of(path)
    try:
        begin = files.header_end(raw, b"#")
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file was cut") from None
    body = raw[begin:]
    if len(body) % BYTES:
        at = begin + len(body) // BYTES * BYTES
        raise ValueError(f"{path} was cut: the event at byte {at:,} has {len(body) % BYTES} of 8 bytes; copy it again")
    if files.compiled():
        arrays, call = files.decode("decode_aedat2", body, len(body) // BYTES)
        beyond = call.at if call.wrong else -1
    else:
        arrays, beyond = defined(body)
    if beyond >= 0:
        raise ValueError(
            f"{path}: the address at byte {begin + beyond:,} has more than 16 bits; only recordings of a DVS128 are read "
            "(convert others to AEDAT 4 with their camera's software)"
        )
    return files.recording(path, arrays, size, usual=DVS128)


def defined(body: np.ndarray) -> tuple[files.Columns, int]:
    """What decode_aedat2 of native/events.inc is, in NumPy: the events, or the first byte of an address beyond 16 bits."""
    address, clock = body.view(">u4").reshape(-1, 2).astype(np.int64).T
    if (address >> 16).any():
        return files.NO_EVENTS, int(np.argmax(address >> 16 != 0)) * BYTES
    t = clock + (np.cumsum(np.diff(clock, prepend=clock[:1]) < -(2**31)) << 32)
    keep = address < 0x8000
    address = address[keep]
    x, y = ((address >> bit & 0x7F).astype(np.uint16) for bit in (1, 8))
    return (t[keep], x, y, (address & 1).astype(np.uint8)), -1
