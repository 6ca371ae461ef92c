"""Prophesee's formats DAT, EVT 2.0, EVT 2.1 and EVT 3.0."""

import re
from pathlib import Path

import numpy as np

from . import reading
from .sensor import Size, require_sensor_size

WORD_BYTES = {"dat": 8, "evt2": 4, "evt21": 8, "evt3": 2}
DAT_TRIGGERS = 14  # the type of a DAT file that holds no camera events
NEW_DAT_VERSION = 2
OFF, ON, TIME_HIGH, TRIGGER = 0, 1, 8, 10  # kinds of words, their upper 4 bits; EVT 3.0 has no OFF and ON, but
ROW, COLUMN, VECTOR_BASE, VECTOR_12, VECTOR_8, TIME_LOW = 0, 2, 3, 4, 5, 6
KINDS = {"dat": ()} | dict.fromkeys(("evt2", "evt21", "evt3"), ("external trigger", "other word", "untimed event"))
HEADER_END = re.compile(rb"(?:%(?! end\b)[^\n]*\n)*+% end\b[^\n]*\n")
TEXT_LINE = re.compile(rb"%([^\n]*)\n")

# Headers ---------------------------------------------------------------------------------------------------------------------


def has_evt_version(head: bytes, version: bytes) -> bool:
    """Whether a text header names this version of EVT, such as 2.1: as `evt 2.1`, or `format EVT21;...`."""
    major, minor = version.split(b".")
    short = major + (rb"(\.?0)?" if minor == b"0" else rb"\.?" + minor)
    named = rb"^% (evt " + re.escape(version) + rb"\s*$|format EVT" + short + rb"\s*(;|$))"
    return head.startswith(b"%") and re.search(named, head, re.M | re.I) is not None


def is_dat(head: bytes) -> bool:
    """Whether a file begins with a line of text after %, and is not EVT; the first event of an ATIS file may be a %, too."""
    return re.match(rb"%[\t\x20-\x7e]*\r?\n", head) is not None and re.search(rb"^% (evt |format )", head, re.M) is None


def header_end(path: Path, raw: np.ndarray) -> int:
    """Where the header ends: at the line `% end`, or else before the first line that is not text after a %.

    The first word of the data may begin with the byte of %, too; what follows it up to a line's end is hardly text.

    Raises:  ValueError for a header whose last line does not end
    """
    if ended := HEADER_END.match(raw.data):
        return ended.end()
    at = 0
    while (line := TEXT_LINE.match(raw.data, at)) and is_text(line[1]):
        at = line.end()
    rest = raw[at : at + 256].tobytes()
    if rest.startswith(b"% ") and b"\n" not in rest and is_text(rest) and at + len(rest) == len(raw):
        raise ValueError(f"{path}: the header's line at byte {at:,} does not end; the file was cut")
    return at


def is_text(line: bytes) -> bool:
    try:
        return line.decode().rstrip("\r").replace("\t", " ").isprintable()
    except UnicodeDecodeError:
        return False


def parse_geometry(path: Path, header: bytes) -> Size | None:
    """(height, width) that a header stores, or None.

    Raises:  ValueError for what no sensor has
    """
    if geometry := re.search(rb"geometry (\d{1,4})x(\d{1,4})\b", header):
        return require_sensor_size(path, int(geometry[2]), int(geometry[1]))
    height, width = (re.search(rb"\b" + name + rb"[= ](\d{1,4})\b", header, re.I) for name in (b"height", b"width"))
    return require_sensor_size(path, int(height[1]), int(width[1])) if width and height else None


# Readers ---------------------------------------------------------------------------------------------------------------------


def read_prophesee(path: Path, *, encoding: str) -> reading.FileEvents:
    """Events of a DAT, EVT 2.0, 2.1 or EVT 3.0 file; times are as the words say, overflows of the clock added.

    DAT: 8 bytes per event, time (32 bits), then column (14), row (14) and polarity (4); before version 2 column (9), row (8)
    and polarity (1).
    EVT: words that begin with their kind (4 bits), little-endian.
    EVT 2.0: words of 32 bits. 0 and 1: an OFF or ON event, time (6), column (11), row (11); 8: the time's upper 28 bits.
    EVT 2.1: words of 64 bits, as of EVT 2.0, but for 32 bits at their end, which of 32 columns have an event. Some cameras
    write the upper half of a word first.
    EVT 3.0: words of 16 bits. 0: row; 2: event, with polarity (1) and column (11); 3: polarity and base column of the vectors
    that follow; 4 and 5: which of the next 12 or 8 columns have an event; 6 and 8: lower and upper 12 bits of the time.
    External triggers (10) and words of other kinds are skipped and counted, and so are events before the first time or row.

    Source:    https://docs.prophesee.ai/stable/data/encoding_formats/index.html
    encoding:  "dat", "evt2", "evt21" or "evt3"
    Raises:    ValueError for a damaged file; OSError
    """
    raw = reading.map_file(path)
    begin = header_end(path, raw)
    header = raw[:begin].tobytes()
    size, decode = parse_geometry(path, header), DECODERS[encoding]
    if encoding == "dat":
        begin += require_dat_events(path, raw[begin : begin + 2].tobytes(), begin)
    reading.require_written(path, raw, WORD_BYTES[encoding], begin)
    reading.require_whole_events(path, len(raw), WORD_BYTES[encoding], begin)
    body = raw[begin:]
    if (
        encoding == "dat"
        and (version := re.search(rb"^% version (\d)", header, re.M | re.I))
        and int(version[1]) < NEW_DAT_VERSION
    ):
        return reading.FileEvents(decode_old_dat(body).columns, size)
    if re.search(rb"endianness[= ]big", header):
        raise ValueError(f"{path} holds big-endian words, which are not read; convert it with its camera's software")
    if encoding == "evt21" and has_upper_half_first(header, body):
        body = body.view("<u4").reshape(-1, 2)[:, ::-1].copy().view(np.uint8).reshape(-1)
    decoded = reading.decode(encoding, body, 8 if encoding == "dat" else 4 if encoding == "evt2" else 0, decode)
    if decoded.error:
        polarity = int(body[decoded.at + 7]) >> 4
        at = begin + decoded.at
        raise reading.DamagedFile(f"{path}: the event at byte {at:,} has polarity {polarity}; the file is damaged", at)
    return reading.FileEvents(
        decoded.columns, size, notes=reading.skipped_notes(decoded, *KINDS[encoding]), in_order=decoded.in_order
    )


def require_dat_events(path: Path, event_type: bytes, begin: int) -> int:
    """The bytes, two, that say which events a DAT file holds.

    Raises:  ValueError for other ones than a camera's
    """
    if len(event_type) < 2 or event_type[1] != WORD_BYTES["dat"]:
        raise ValueError(f"{path}: byte {begin + 1:,} should say that an event takes 8 bytes; the file is damaged")
    if event_type[0] == DAT_TRIGGERS:
        raise ValueError(f"{path} holds external triggers, and no camera events; name the file that ends in _cd.dat or _td.dat")
    return len(event_type)


def has_upper_half_first(header: bytes, body: np.ndarray) -> bool:
    """Whether words of 64 bits have their upper half first: as the header says, or else where the first word's time is."""
    if named := re.search(rb"endianness[= ](\w+)", header):
        return named[1] == b"legacy"
    first = [int(body[at]) >> 4 for at in (7, 3)] if len(body) else []
    return first[:1] != [TIME_HIGH] and first[1:] == [TIME_HIGH]


# Definitions of the decoders in native/events.inc ----------------------------------------------------------------------------


def decode_dat(body: np.ndarray) -> reading.Decoded:
    """Error 1: a polarity above 1."""
    t, word = body.view("<u4").reshape(-1, 2).astype(np.int64).T
    if (wrong := word >> 29 != 0).any():
        return reading.Decoded(reading.NO_EVENTS, int(np.argmax(wrong)) * 8, 1)
    return as_decoded(add_overflows(t, 32), word & 0x3FFF, word >> 14 & 0x3FFF, word >> 28)


def decode_old_dat(body: np.ndarray) -> reading.Decoded:
    """Of versions before 2; in NumPy alone."""
    t, word = body.view("<u4").reshape(-1, 2).astype(np.int64).T
    return as_decoded(add_overflows(t, 32), word & 0x1FF, word >> 9 & 0xFF, word >> 17 & 1)


def decode_evt2(body: np.ndarray) -> reading.Decoded:
    word = body.view("<u4").astype(np.int64)
    kind = word >> 28
    high, known = time_high(kind, word & 0xFFFFFFF, 28)
    event = kind <= ON
    keep = event & known
    at = word[keep]
    t = high[keep] << 6 | (at >> 22 & 63)
    skipped = count_skipped(kind, (OFF, ON, TIME_HIGH), int(np.count_nonzero(event & ~known)))
    return as_decoded(t, at >> 11 & 0x7FF, at & 0x7FF, kind[keep], skipped)


def decode_evt21(body: np.ndarray) -> reading.Decoded:
    valid, upper = body.view("<u4").reshape(-1, 2).astype(np.int64).T
    kind = upper >> 28
    high, known = time_high(kind, upper & 0xFFFFFFF, 28)
    word, bit = np.nonzero((valid[:, None] >> np.arange(32) & 1) * (kind <= ON)[:, None])
    early = int(np.count_nonzero(~known[word]))
    word, bit = word[known[word]], bit[known[word]]
    t = high[word] << 6 | (upper[word] >> 22 & 63)
    x, y = (upper[word] >> 11 & 0x7FF) + bit, upper[word] & 0x7FF
    return as_decoded(t, x, y, kind[word], count_skipped(kind, (OFF, ON, TIME_HIGH), early))


def decode_evt3(body: np.ndarray) -> reading.Decoded:
    words = body.view("<u2").astype(np.int64)
    kind, value = words >> 12, words & 0xFFF
    high, timed = time_high(kind, value, 12)
    low, _ = latest(kind == TIME_LOW, value)
    row, placed = latest(kind == ROW, value & 0x7FF)
    base, _ = latest(kind == VECTOR_BASE, value)
    step = 12 * (kind == VECTOR_12) + 8 * (kind == VECTOR_8)
    moved = np.cumsum(step) - step  # columns that vectors before this word took
    moved -= latest(kind == VECTOR_BASE, moved)[0]
    single = kind == COLUMN
    valid = np.where(single, 1, np.where(kind == VECTOR_12, value, np.where(kind == VECTOR_8, value & 0xFF, 0)))
    column = np.where(single, value & 0x7FF, (base & 0x7FF) + moved)
    polarity = np.where(single, value, base) >> 11
    word, bit = np.nonzero(valid[:, None] >> np.arange(12) & 1)
    known = (timed & placed)[word]
    early = int(np.count_nonzero(~known))
    word, bit = word[known], bit[known]
    t = high[word] << 12 | low[word]
    kinds = (ROW, COLUMN, VECTOR_BASE, VECTOR_12, VECTOR_8, TIME_LOW, TIME_HIGH)
    return as_decoded(t, column[word] + bit, row[word], polarity[word], count_skipped(kind, kinds, early))


def latest(told: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last value that was told at or before each word, 0 before the first, and whether there was one: int64 and bool [n]"""
    last = np.maximum.accumulate(np.where(told, np.arange(len(told)), -1))
    return np.where(last < 0, 0, value[last]), last >= 0


def time_high(kind: np.ndarray, value: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The time's upper bits at each word, overflows added, and whether they are known."""
    told = kind == TIME_HIGH
    high = np.zeros_like(value)
    high[told] = add_overflows(value[told], bits)
    return latest(told, high)


def add_overflows(clock: np.ndarray, bits: int) -> np.ndarray:
    """A clock of so many bits that goes on where it fell by more than half its range."""
    return clock + (np.cumsum(np.diff(clock, prepend=clock[:1]) < -(1 << bits - 1)) << bits)


def count_skipped(kind: np.ndarray, known_kinds: tuple[int, ...], early: int) -> tuple[int, int, int]:
    """External triggers, words of other kinds, and events before the first time or row."""
    triggers = int(np.count_nonzero(kind == TRIGGER))
    return triggers, int(np.count_nonzero(~np.isin(kind, known_kinds))) - triggers, early


def as_decoded(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray, skipped: tuple[int, int, int] = (0, 0, 0)
) -> reading.Decoded:
    return reading.Decoded(
        (t, x.astype(np.uint16), y.astype(np.uint16), polarity.astype(np.uint8)), at=0, error=0, skipped=skipped
    )


DECODERS = {"dat": decode_dat, "evt2": decode_evt2, "evt21": decode_evt21, "evt3": decode_evt3}
