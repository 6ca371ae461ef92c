"""Prophesee's formats, DAT, EVT 2.0 and EVT 3.0, through the package expelliarmus."""

import re
from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files

WORD = {"dat": 8, "evt2": 4, "evt3": 2}  # bytes
SUFFIX = {"dat": ".dat", "evt2": ".raw", "evt3": ".raw"}  # that expelliarmus asks for


def is_raw(head: bytes, version: bytes) -> bool:
    """Whether a text header names this version of EVT."""
    named = rb"^% (evt " + version + rb"\.0\s*$|format EVT" + version + rb"\b(?!\.[1-9]))"
    return head.startswith(b"%") and re.search(named, head, re.M) is not None


def is_evt2(head: bytes) -> bool:
    return is_raw(head, b"2")


def is_evt3(head: bytes) -> bool:
    return is_raw(head, b"3")


def is_dat(head: bytes) -> bool:
    return head.startswith(b"%") and re.search(rb"^% (evt |format )", head, re.M) is None


def read_dat(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of 8 bytes: time, 32 bits, then column (14 bits), row (14) and polarity (4).

    Raises:  ValueError for a damaged file, or where the package is missing; OSError
    """
    return read(path, size, "dat")


def read_evt2(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of 4 bytes, between words that hold the upper bits of the time.

    Raises:  as `read_dat`
    """
    return read(path, size, "evt2")


def read_evt3(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Words of 2 bytes: rows, columns, runs of columns, and parts of the time.

    Times are expelliarmus's. Where the clock falls, by as little as a microsecond, it sees an overflow and moves all later
    times by 4,096 microseconds: frames by count are right, frames by duration may not be (docs/decisions.md).
    Raises:  as `read_dat`
    """
    return read(path, size, "evt3")


def read(path: Path, size: tuple[int, int] | None, encoding: str) -> Events:
    expelliarmus = files.extra("expelliarmus", path)
    raw = files.bytes_of(path)
    try:
        begin = files.header_end(raw, b"%")
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file was cut") from None
    size = size or size_in(path, raw[:begin].tobytes())
    if encoding == "dat":
        about = raw[begin : begin + 2].tobytes()
        if len(about) < 2 or about[1] != WORD["dat"]:
            raise ValueError(f"{path}: byte {begin + 1:,} should say that an event takes 8 bytes; the file is damaged")
        begin += 2
    rest = (len(raw) - begin) % WORD[encoding]
    if rest:
        raise ValueError(f"{path} was cut: {rest} of {WORD[encoding]} bytes stand at byte {len(raw) - rest:,}; copy it again")
    if path.suffix != SUFFIX[encoding]:
        raise ValueError(f"{path} should end in {SUFFIX[encoding]}: rename it")
    if len(raw) == begin:
        return files.recording(path, files.NO_EVENTS, size)
    try:
        with files.silent():
            events = expelliarmus.Wizard(encoding=encoding).read(path)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}; copy it again") from None
    if events is None:
        raise ValueError(
            f"{path} is damaged, or empty: no events could be read behind its header's {begin:,} bytes; copy it again"
        )
    t, x, y, polarity = (events[name] for name in ("t", "x", "y", "p"))
    if (polarity > 1).any():
        first = int(np.argmax(polarity > 1))
        raise ValueError(f"{path}: event {first:,} has polarity {int(polarity[first])}; the file is damaged")
    columns = (t.copy(), x.astype(np.uint16), y.astype(np.uint16), polarity.copy())
    return files.recording(path, columns, size)


def size_in(path: Path, header: bytes) -> tuple[int, int] | None:
    """(height, width) that a header names.

    Raises:  ValueError for what no sensor has
    """
    geometry = re.search(rb"geometry (\d{1,4})x(\d{1,4})\b", header)
    if geometry:
        return files.sensor(path, int(geometry[2]), int(geometry[1]))
    width, height = (re.search(rb"\b" + name + rb"[= ](\d{1,4})\b", header, re.I) for name in (b"width", b"height"))
    return files.sensor(path, int(height[1]), int(width[1])) if width and height else None
