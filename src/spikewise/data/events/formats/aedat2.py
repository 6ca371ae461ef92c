"""AEDAT 2.0, as written by jAER and used by CIFAR10-DVS: addresses of a DVS128, or of a DAVIS where the header names one."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from . import reading
from .sensor import CAMERA_SIZES, Size

EVENT_BYTES = 8
UPRIGHT = 0x7F  # 127 - column is column ^ 0x7f
MIN_SWAPPED_BYTES = 4 * EVENT_BYTES  # fewer words tell little of the order of its bytes
DVS128_SIZE = CAMERA_SIZES[b"128"]
V2E_MARK = re.compile(rb"^#[^\n]*\bv2e\b", re.M)  # which writes a DAVIS's addresses, and names no chip
HEADER_END = b"#End Of ASCII Header"  # of newer files; in older ones events begin at the first line without #


def read_aedat2(path: Path, *, raw: bool = False) -> reading.FileEvents:
    """Events of a DVS128 or a DAVIS, after a text header: address and time, 32 bits each, big-endian.

    DVS128: column in bits 1 to 7, row in 8 to 14, polarity in 0, with 0 as ON. DAVIS: bits 12 to 21, 22 to 30, and 11,
    with 1 as ON; where AEChip in the header names one, where v2e wrote the file, or where every address has such bits
    alone. Both count columns from the right and rows from below (jAER's convention), and are turned upright. Marks of an
    external signal (bit 15 of a DVS128, 10 of a DAVIS) and a DAVIS's other measurements (bit 31) are skipped and counted.
    The clock has 32 bits: where it falls by more than half its range, it has overflowed. Words that fit the camera only
    if they are little-endian are read so, and that is noted.

    raw:     columns, rows and polarities as the addresses have them
    Source:  https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html
    Raises:  ValueError for a damaged file, or addresses of another camera; OSError
    """
    content = reading.map_file(path)
    begin = reading.header_end(path, content, b"#", last=HEADER_END)
    reading.require_written(path, content, EVENT_BYTES, begin)
    reading.require_whole_events(path, len(content), EVENT_BYTES, begin)
    body, header = content[begin:], content[:begin].tobytes()
    if chip := re.search(rb"^# *AEChip:[^\n]*(davis|sbret)\D*(\d*)", header, re.I | re.M):
        # an SBret10 is the first DAVIS240
        return read_davis(body, CAMERA_SIZES.get(chip[2]) if chip[1].lower() == b"davis" else CAMERA_SIZES[b"240"], raw=raw)
    if V2E_MARK.search(header):
        return read_davis(body, None, raw=raw)
    flip = 0 if raw else UPRIGHT
    numpy = partial(decode_numpy, flip=flip)
    decoded, swapped = decode_either(
        body, lambda words: reading.decode("aedat2", words, EVENT_BYTES, numpy, flip=flip), None
    )  # seven bits lie on its sensor
    if decoded.error and b"AEChip:" not in header and has_davis_addresses(body):
        found = read_davis(body, None, raw=raw)
        return found._replace(notes=("the header names no camera; its addresses are those of a DAVIS", *found.notes))
    if decoded.error:
        raise reading.DamagedFile(
            f"{path}: the address at byte {begin + decoded.at:,} has more than 16 bits; only those of a DVS128 are read, and "
            "of a DAVIS where the header names it (convert others to AEDAT 4 with their camera's software)",
            begin + decoded.at,
        )
    notes = swapped + reading.skipped_notes(decoded, "external signal")
    return reading.FileEvents(decoded.columns, DVS128_SIZE, notes=notes, in_order=decoded.in_order)


def read_davis(body: np.ndarray, size: Size | None, *, raw: bool) -> reading.FileEvents:
    """Events of a DAVIS's words; of a sensor of which nothing is said, the DAVIS346's where they lie beyond a DAVIS240's."""
    decoded, swapped = decode_either(body, decode_davis, size or CAMERA_SIZES[b"346"])
    _, x, y, _ = decoded.columns
    small = CAMERA_SIZES[b"240"]
    notes = swapped + reading.skipped_notes(decoded, "external signal", "other measurement")
    if size is None and (x.max(initial=0) >= small[1] or y.max(initial=0) >= small[0]):
        size = CAMERA_SIZES[b"346"]
        notes = (*notes, f"sensor taken as a DAVIS346's, {size[1]} x {size[0]} pixels, as events lie beyond a DAVIS240's")
    return reading.FileEvents(decoded.columns, size, notes=notes, is_rotated=not raw)


def has_davis_addresses(body: np.ndarray) -> bool:
    """Whether addresses have more than a DVS128's 16 bits, in either order of bytes, and events only those of a DAVIS."""
    address = body.view(">u4")[::2]
    events = address[address >> 31 == 0]
    return bool((events >> 16).any() and (body.view("<u4")[::2] >> 16).any()) and not (events & 0x3FF).any()


def decode_either(
    body: np.ndarray, decode: Callable[[np.ndarray], reading.Decoded], size: Size | None
) -> tuple[reading.Decoded, tuple[str, ...]]:
    """The words decoded as big-endian, or as little-endian where only that fits the camera; and what is to be said."""

    def fits(decoded: reading.Decoded) -> bool:
        _, x, y, _ = decoded.columns
        return not decoded.error and (size is None or (int(x.max(initial=0)) < size[1] and int(y.max(initial=0)) < size[0]))

    decoded = decode(body)
    if len(body) < MIN_SWAPPED_BYTES or fits(decoded) or not fits(little := decode(body.view("<u4").byteswap().view(np.uint8))):
        return decoded, ()
    return little, ("words are little-endian, other than the format has them",)


def decode_numpy(body: np.ndarray, flip: int = 0) -> reading.Decoded:
    """The definition of decode_aedat2 in native/events.inc; error 1: an address of more than 16 bits.

    flip:  UPRIGHT: columns from the left, rows from above, and 1 for ON; 0: as the addresses have them
    """
    address, t = read_addresses(body)
    if (too_long := address >> 16 != 0).any():
        return reading.Decoded(reading.NO_EVENTS, int(np.argmax(too_long)) * EVENT_BYTES, 1)
    keep = address < 0x8000
    address = address[keep]
    x, y = ((address >> bit & 0x7F ^ flip).astype(np.uint16) for bit in (1, 8))
    return reading.Decoded(
        (t[keep], x, y, ((address ^ flip) & 1).astype(np.uint8)), skipped=(int(np.count_nonzero(~keep)), 0, 0)
    )


def decode_davis(body: np.ndarray) -> reading.Decoded:
    """The events among a DAVIS's words; in NumPy alone."""
    address, t = read_addresses(body)
    keep = address & (1 << 31 | 1 << 10) == 0
    others = int(np.count_nonzero(address >> 31))
    skipped = (int(np.count_nonzero(~keep)) - others, others, 0)
    address = address[keep]
    x, y = (address >> 12 & 0x3FF).astype(np.uint16), (address >> 22 & 0x1FF).astype(np.uint16)
    return reading.Decoded((t[keep], x, y, (address >> 11 & 1).astype(np.uint8)), skipped=skipped)


def read_addresses(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Addresses, and times with the clock's overflows added."""
    address, clock = body.view(">u4").reshape(-1, 2).astype(np.int64).T
    return address, clock + (np.cumsum(np.diff(clock, prepend=clock[:1]) < -(2**31)) << 32)
