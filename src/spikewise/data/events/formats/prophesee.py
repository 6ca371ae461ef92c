"""Prophesee's formats DAT, EVT 2.0 and EVT 3.0, through the package expelliarmus."""

import re
from pathlib import Path

import numpy as np

from ...messages import one_line
from ..events import Events
from . import reading

WORD_BYTES = {"dat": 8, "evt2": 4, "evt3": 2}
SUFFIX = {"dat": ".dat", "evt2": ".raw", "evt3": ".raw"}  # that expelliarmus requires


def has_evt_version(head: bytes, version: bytes) -> bool:
    """Whether a text header names this version of EVT."""
    named = rb"^% (evt " + version + rb"\.0\s*$|format EVT" + version + rb"\b(?!\.[1-9]))"
    return head.startswith(b"%") and re.search(named, head, re.M) is not None


def is_dat(head: bytes) -> bool:
    """Whether a file begins with a line of text after %, and is not EVT; the first event of an ATIS file may be a %, too."""
    return re.match(rb"%[\t\x20-\x7e]*\r?\n", head) is not None and re.search(rb"^% (evt |format )", head, re.M) is None


def read_prophesee(path: Path, size: reading.Size | None = None, *, encoding: str) -> Events:
    """Events of a DAT, EVT 2.0 or EVT 3.0 file.

    DAT has 8 bytes per event: time, 32 bits, then column (14 bits), row (14) and polarity (4). EVT 2.0 has 4 bytes per event,
    between words that hold the higher bits of the time. EVT 3.0 has words of 2 bytes: rows, columns, runs of columns, and parts
    of the time. Its times are as expelliarmus decodes them: where the clock falls, by as little as a microsecond, it assumes an
    overflow and moves all later times by 4,096 microseconds. Frames by count are right, frames by duration may not be
    (docs/decisions.md).

    encoding:  "dat", "evt2" or "evt3"
    Raises:    ValueError for a damaged file, or where the package is missing; OSError
    """
    expelliarmus = reading.import_optional("expelliarmus", path)
    raw = reading.map_file(path)
    begin = reading.header_end(path, raw, b"%")
    size = size or parse_geometry(path, raw[:begin].tobytes())
    if encoding == "dat":
        event_type = raw[begin : begin + 2].tobytes()
        if len(event_type) < 2 or event_type[1] != WORD_BYTES["dat"]:
            raise ValueError(f"{path}: byte {begin + 1:,} should say that an event takes 8 bytes; the file is damaged")
        begin += 2
    reading.require_whole_events(path, len(raw), WORD_BYTES[encoding], begin)
    if path.suffix != SUFFIX[encoding]:
        raise ValueError(f"{path} should end in {SUFFIX[encoding]}: rename it")
    if len(raw) == begin:
        return reading.make_events(path, reading.NO_EVENTS, size)
    try:
        with reading.suppress_stderr():
            events = expelliarmus.Wizard(encoding=encoding).read(path)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {one_line(error)}; copy it again") from None
    if events is None:
        raise ValueError(f"{path} is damaged, or empty: no events follow its header of {begin:,} bytes; copy it again")
    t, x, y, polarity = (events[name] for name in ("t", "x", "y", "p"))
    if (polarity > 1).any():
        first = int(np.argmax(polarity > 1))
        raise ValueError(f"{path}: event {first:,} has polarity {int(polarity[first])}; the file is damaged")
    return reading.make_events(path, (t.copy(), x.astype(np.uint16), y.astype(np.uint16), polarity.copy()), size)


def parse_geometry(path: Path, header: bytes) -> reading.Size | None:
    """(height, width) that a header stores, or None.

    Raises:  ValueError for what no sensor has
    """
    if geometry := re.search(rb"geometry (\d{1,4})x(\d{1,4})\b", header):
        return reading.require_sensor_size(path, int(geometry[2]), int(geometry[1]))
    height, width = (re.search(rb"\b" + name + rb"[= ](\d{1,4})\b", header, re.I) for name in (b"height", b"width"))
    return reading.require_sensor_size(path, int(height[1]), int(width[1])) if width and height else None
