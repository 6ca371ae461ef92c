"""Text and CSV: a line per event, with the columns t, x, y and polarity in any order."""

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....wording import count
from . import reading
from .reading import DamagedFile
from .sensor import Size, require_sensor_size
from .table import (
    COLUMN_ALIASES,
    OTHER,
    SAMPLE_ROWS,
    SAY_COLUMNS,
    Order,
    as_order,
    column_name,
    guess_order,
    parse_columns,
    polarity_pair,
    summarize_names,
)
from .times import MAX_TIME, UNIT_NAMES, ask_for_unit, overruled, unit_in_comment, usual_unit

HEAD_BYTES = 2**18  # of a file, in which its first events are looked for
MARKS = (b"#", b"%")  # lines that begin so are comments
RPG_MARK = b"#!events.txt"  # v2e's first line: columns and seconds as of the Event Camera Dataset
BOM = b"\xef\xbb\xbf"
NEWLINE = b"\n"
QUOTE = b'"'
WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
SPACES = b" \t\r\n"
SEPARATOR = re.compile(rb"[ \t\r]*[,;][ \t\r]*|[ \t\r]+")
NUMBER = re.compile(rb"([+-]?)(?=[\d.]*\d)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,40}))?")
DATE = re.compile(rb"\d{1,2}:\d\d(:\d\d)?(\.\d*)?|\d{4}-\d\d-\d\d.*")  # 12:30:05.1, 2024-05-01T12:30:05
COMMA = re.compile(rb"[+-]?\d+,\d+([eE][+-]?\d+)?")
MAX_DIGITS, MAX_EXPONENT = 60, 999
EXPONENTS = {"s": 6, "ms": 3, "us": 0, "ns": -3}  # a unit is 10^exponent microseconds
WORDS = {b"true": 1, b"on": 1, b"false": 0, b"off": 0}
POLARITY_CODES = {0: 0, 1: 1, 2: 2, -1: 254, 255: 255}  # as the decoder stores them
POLARITY_BITS = {0: 0, 1: 1, 2: 2, 3: -1, 4: 255}  # and tells which there are
FIELDS, NO_NUMBER, NO_TIME, PART = 1, 2, 3, 4  # errors, as of decode_text in native/events.inc
BLOCK_LINES = 2**15


class Layout(NamedTuple):
    """What the first lines tell.

    begin:         byte where the events begin
    order:         the columns of t, x, y and p
    num_columns:   of every line
    unit:          of t
    assumed_unit:  the same, where nobody says it; "": it is known
    size:          (height, width) of the sensor, if the first line says it
    is_guessed:    whether the order is what the numbers tell, and nobody says it
    """

    begin: int
    order: Order
    num_columns: int
    unit: str = "us"
    assumed_unit: str = ""
    size: Size | None = None
    notes: tuple[str, ...] = ()
    is_guessed: bool = False

    @property
    def takes_parts(self) -> bool:
        """Whether t may be a part of a microsecond; of times that are taken for microseconds it is a sign of seconds."""
        return self.assumed_unit != "us"


def read_text(path: Path, *, columns: str | None = None, time_unit: str | None = None) -> reading.FileEvents:
    """Events of lines of columns, between which are spaces, tabs, a comma or a semicolon.

    Columns are named by the first line, or by a comment before it (`t`, `timestamp`, `time_us`, `x`, `y`, `p`, `polarity`),
    or told by the numbers of four columns (see `guess_order`), which is noted. Times are whole numbers or decimals, rounded to
    the nearest microsecond (nanoseconds downwards). Their unit is what the column's name or a comment says (`t_ms`, `# time in
    ms`); or else they are taken for seconds where any has a fraction, without for microseconds, if they may be.
    Polarities are 0 and 1, -1 and 1, 1 and 2, 0 and 255, true and false, on and off. A first line of two numbers is the
    sensor's width and height. Lines that begin with # or % are comments.

    columns:    their order, such as "t,x,y,p", _ for others; None: as the file says or the numbers tell
    time_unit:  of t, "s", "ms", "us" or "ns"; None: as the file says or the numbers tell
    Source:     https://rpg.ifi.uzh.ch/davis_data.html (events.txt)
    Raises:     ValueError, with the line, for a damaged file; for columns or times that can't be told; OSError
    """
    raw = reading.map_file(path)
    is_quoted = (raw[:HEAD_BYTES] == ord(QUOTE)).any()
    raw = raw[raw != ord(QUOTE)] if is_quoted else raw
    layout = read_layout(path, raw[:HEAD_BYTES].tobytes(), len(raw), columns, time_unit)
    body = raw[layout.begin :]
    decoded = decode(body, layout)
    if decoded.error == PART:  # the first fraction is behind the first lines
        layout = layout._replace(unit="s", assumed_unit="s")
        decoded = decode(body, layout)
    if decoded.error:
        raise damaged_line(path, raw, layout, decoded)
    comments, bits, _ = decoded.skipped
    t, x, y, polarity = decoded.columns
    (_, on), notes = polarity_pair(path, {value for bit, value in POLARITY_BITS.items() if bits >> bit & 1})
    np.equal(polarity, POLARITY_CODES[on], out=polarity.view(bool))
    if is_quoted:
        notes = (*notes, "quotation marks around fields left out")
    if comments:
        notes = (*notes, f"{count(comments, 'comment')} between events skipped")
    if raw[-1] != ord("\n"):
        notes = (*notes, "the last line does not end: it may have been cut")
    columns_read = (t, x, y, polarity)
    return reading.FileEvents(
        columns_read,
        layout.size,
        notes=layout.notes + notes,
        assumed_unit=layout.assumed_unit,
        guessed_order=layout.order if layout.is_guessed else None,
        in_order=decoded.in_order,
    )


def decode(body: np.ndarray, layout: Layout) -> reading.Decoded:
    fields = {"columns": (*layout.order, layout.num_columns), "exponent": EXPONENTS[layout.unit]}
    return reading.decode("text", body, 0, partial(decode_numpy, layout=layout), takes_parts=layout.takes_parts, **fields)


# The first lines -------------------------------------------------------------------------------------------------------------


def looks_like_events(head: bytes) -> bool:
    """Whether the first bytes of a file may be a text of events: one of the first lines has four numbers or more."""
    if b"\0" in head:
        return False
    lines = head.removeprefix(BOM).replace(QUOTE, b"").split(b"\n")
    numbers = [sum(number(field) is not None for field in split(line)) for line in lines[:100] if line.strip()[:1] not in MARKS]
    names_columns = any(named_columns(line) for line in lines[:100])
    return any(so_many >= 4 for so_many in numbers[:3]) or (names_columns and not any(numbers))


def read_layout(path: Path, head: bytes, num_bytes: int, columns: str | None, time_unit: str | None) -> Layout:
    """What the first lines of a file, that has so many bytes, tell of all.

    Raises:  ValueError where they don't
    """
    if head.startswith(WIDE_BOMS):
        raise ValueError(f"{path} is text of 16-bit characters; save it as UTF-8")
    if b"\r" in head and b"\n" not in head:
        raise ValueError(f"{path}: its lines end in a carriage return alone; write them with a line feed (tr '\\r' '\\n')")
    begin = at = len(BOM) if head.startswith(BOM) else 0
    names: Sequence[str] = ()
    comments: list[bytes] = []
    size, is_rpg = None, head.startswith(RPG_MARK, begin)
    rows: list[list[bytes]] = []
    for line in re.findall(rb"[^\n]*\n?", head[at:]):
        line_at, at, text = at, at + len(line), line.strip(SPACES)
        if at == len(head) < num_bytes or len(rows) >= SAMPLE_ROWS:  # a line that may go on beyond the head
            break
        if text[:1] in MARKS or not text:
            names = named_columns(text) or names
            comments += [] if rows else [text]
            continue
        fields = split(text)
        if not rows and not all(number(field) is not None or not field for field in fields):
            names, begin = read_names(path, head, text, line_at, first=not names), at
        elif not rows and size is None and len(fields) == 2 and all(field.isdigit() for field in fields):
            size, begin = require_sensor_size(path, int(fields[1][:6]), int(fields[0][:6])), at
        else:
            begin = begin if rows else line_at
            rows.append(fields)
            if advice := "" if rows[1:] else odd_numbers(text):
                raise ValueError(f"{path}: line {head[:line_at].count(NEWLINE) + 1:,} is {show(text)}; {advice}")
    if not rows and at < num_bytes:
        raise ValueError(f"{path}: its first {HEAD_BYTES:,} bytes hold no line of numbers; it is no text of events")
    num_columns = len(rows[0]) if rows else len(names)
    order = order_by_names(path, names, num_columns, columns)
    if order is None and is_rpg and num_columns in (0, 4):
        order = (0, 1, 2, 3)
    if order is None and not rows:
        raise ValueError(f"{path} holds no events, and names no columns")
    is_guessed = order is None
    order = order or guess_order(path, to_numbers(path, rows))
    unit, notes = told_unit(names, comments, is_rpg=is_rpg)
    unit, notes = (time_unit, overruled(time_unit, unit)) if time_unit else (unit, notes)
    times = [value for row in rows if len(row) > order[0] and (value := number(row[order[0]])) is not None]
    assumed = "" if unit else usual_unit(np.array(times))
    notes = (*notes, f"sensor of {size[1]} x {size[0]} pixels, as the first line says") if size else notes
    return Layout(begin, order, num_columns, unit or assumed, assumed, size, notes, is_guessed)


def told_unit(names: Sequence[str], comments: Sequence[bytes], *, is_rpg: bool) -> tuple[str | None, tuple[str, ...]]:
    """The unit of time that a column's name says, or else a comment before the events; None: neither. And a note."""
    if unit := next((unit for _, unit in map(column_name, names) if unit), None):
        return unit, ()
    for comment in comments:
        if unit := unit_in_comment(comment.decode(errors="replace")):
            return unit, (f"times in {UNIT_NAMES[unit]}, as the comment {show(comment)} says",)
    return "s" if is_rpg else None, ()


def order_by_names(path: Path, names: Sequence[str], num_columns: int, columns: str | None) -> Order | None:
    """The columns as the user says, or the names; None: neither does.

    Raises:  ValueError for names or an order that are not of these columns
    """
    if columns is not None:
        return parse_columns(columns, num_columns or columns.count(",") + 1, path)
    if not names:
        return None
    meanings = [column_name(name)[0] or OTHER for name in names]
    if len(names) != num_columns:
        raise ValueError(f"{path} names {len(names)} columns, and its lines have {num_columns}; {SAY_COLUMNS}")
    if sorted(meaning for meaning in meanings if meaning != OTHER) != ["p", "t", "x", "y"]:
        raise ValueError(f"{path} names its columns {summarize_names(names)}, not t, x, y and p once each; {SAY_COLUMNS}")
    return as_order(meanings)


def split(line: bytes) -> list[bytes]:
    return SEPARATOR.split(line.strip(SPACES))


def split_names(line: bytes) -> list[str]:
    """The names in a line: with a comma, semicolon or tab between them where there is one, or else spaces."""
    text = line.decode(errors="replace").strip()
    return re.split(r"[,;\t]" if re.search(r"[,;\t]", text) else r"\s+", text)


def named_columns(line: bytes) -> list[str]:
    """The names in a line, maybe of a comment; [] where t, x, y and p are not among them."""
    names = split_names(line.strip().lstrip(b"#%"))
    return names if COLUMN_ALIASES.keys() <= {column_name(name)[0] for name in names} else []


def read_names(path: Path, head: bytes, line: bytes, at: int, *, first: bool) -> list[str]:
    """The names of the columns in the first line that is no comment.

    Raises:  ValueError for a line that holds neither names nor numbers
    """
    names = split_names(line.lstrip(b"/"))
    meanings = [column_name(name)[0] for name in names]
    if first and {"t", "x", "y"} <= {*meanings} and "p" not in meanings:
        raise ValueError(f"{path} names its columns {summarize_names(names)}: none is the polarity, which events have; add it")
    if not first or len(names) < 4 or any(NUMBER.fullmatch(name.encode()) for name in names):
        number_of_line = head[:at].count(b"\n") + 1
        why = odd_numbers(line) or "remove it, or mend it"
        raise DamagedFile(f"{path}: line {number_of_line:,} is no event: {show(line)}; {why}", at)
    return names


def odd_numbers(line: bytes) -> str:
    """What to do with a line whose numbers are written in another way; "" where they are not."""
    if any(DATE.fullmatch(field) for field in split(line)):
        return "times of day and dates are not read: write times as one number, such as seconds since the start"
    fields = re.split(rb"[ \t]*[;\t][ \t]*" if re.search(rb"[;\t]", line) else rb" +", line.strip(SPACES))
    if len(fields) >= 4 and any(COMMA.fullmatch(field) for field in fields):
        return "decimal commas are not read: write decimal points (0.5, not 0,5)"
    return ""


def show(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace"))


def to_numbers(path: Path, rows: Sequence[Sequence[bytes]]) -> np.ndarray:
    """The first rows as numbers, float64 [n, columns]; those of another length than the first are left to the decoder."""
    values = [[number(field) for field in row] for row in rows if len(row) == len(rows[0])]
    whole = [row for row in values if None not in row]
    if not whole:
        ends = "end in a separator, which makes a column more" if not rows[0][-1] else "are no events"
        raise ValueError(f"{path}: its first lines {ends}; {SAY_COLUMNS}")
    return np.array(whole, np.float64)


# Numbers and lines: the definition of decode_text ----------------------------------------------------------------------------


def number(field: bytes) -> float | None:
    """The value of a number, or of a word for a polarity; None for anything else."""
    if NUMBER.fullmatch(field):
        return float(field)
    value = WORDS.get(field.lower())
    return None if value is None else float(value)


def whole_number(field: bytes, exponent: int = 0, *, down: bool = False) -> tuple[int, bool] | int:
    """A number such as -12, .5 or 1.25e-05, times 10^exponent, rounded to the nearest (halves away from 0; `down`: downwards),
    and whether there was a part to be rounded; or what is wrong with it.
    """
    parts = NUMBER.fullmatch(field)
    if parts is None:
        return NO_NUMBER
    negative, digits, after, given = parts[1] == b"-", parts[2], parts[3] or b"", int(parts[4] or 0)
    if len(digits) + len(after) > MAX_DIGITS or abs(given) > MAX_EXPONENT:
        return NO_NUMBER
    value, power = int(digits + after or b"0"), given - len(after) + exponent
    if value and power > MAX_DIGITS:
        return NO_TIME
    whole, rest = (value * 10**power, 0) if power >= 0 or not value else divmod(value, scale := 10**-power)
    if rest:
        whole += negative if down else 2 * rest >= scale
    return NO_TIME if whole > MAX_TIME else (-whole if negative else whole, bool(rest))


def parse_line(line: bytes, layout: Layout) -> tuple[int, int, int, int] | int:
    """t, x, y and the polarity's code of a line; or what is wrong with the first wrong column."""
    values = [0, 0, 0, 0]
    roles = {column: role for role, column in enumerate(layout.order)}
    fields = split(line)
    for column, field in enumerate(fields):
        role = roles.get(column)
        if role is None:
            continue
        exponent = EXPONENTS[layout.unit] if role == 0 else 0
        word = WORDS.get(field.lower()) if role == 3 else None
        found = (word, False) if word is not None else whole_number(field, exponent, down=exponent < 0)
        if isinstance(found, int):
            return found if role == 0 else NO_NUMBER
        value, has_part = found
        if role == 0 and has_part and not layout.takes_parts:
            return PART
        if role and (has_part or not (value in POLARITY_CODES if role == 3 else 0 <= value <= 65_535)):
            return NO_NUMBER
        values[role] = POLARITY_CODES[value] if role == 3 else value
    return (values[0], values[1], values[2], values[3]) if len(fields) == layout.num_columns else FIELDS


def lines_of(body: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """The lines of a text, and the bytes where they begin."""
    at = 0
    while at < len(body):
        block = body[at : at + 2**22].tobytes()
        if at + len(block) < len(body):
            end = block.rfind(b"\n") + 1
            block = block[:end] if end else body[at:].tobytes()
        for line in block.split(b"\n") if not block.endswith(b"\n") else block[:-1].split(b"\n"):
            yield at, line
            at += len(line) + 1


def decode_numpy(body: np.ndarray, layout: Layout) -> reading.Decoded:
    """The definition of decode_text in native/events.inc."""
    comments, kinds, parts = 0, 0, [reading.NO_EVENTS]
    codes = {code: bit for bit, value in POLARITY_BITS.items() for code in (POLARITY_CODES[value],)}
    lines = lines_of(body)
    while block := list(itertools.islice(lines, BLOCK_LINES)):
        events = []
        for at, line in block:
            text = line.strip(SPACES)
            if not text or text[:1] in MARKS:
                comments += bool(text)
                continue
            event = parse_line(text, layout)
            if isinstance(event, int):
                return reading.Decoded(reading.NO_EVENTS, at, event)
            events.append(event)
            kinds |= 1 << codes[event[3]]
        columns = zip(zip(*events, strict=True), reading.COLUMN_DTYPES, strict=True) if events else ()
        parts.append(tuple(np.array(column, dtype) for column, dtype in columns) or reading.NO_EVENTS)  # type: ignore[arg-type]
    t, x, y, p = (np.concatenate(column) for column in zip(*parts, strict=True))
    return reading.Decoded((t, x, y, p), skipped=(comments, kinds, 0))


def damaged_line(path: Path, raw: np.ndarray, layout: Layout, decoded: reading.Decoded) -> DamagedFile:
    """The error for a line that the decoder refused, with its number."""
    at = layout.begin + decoded.at
    step = 2**24
    newlines = sum(int(np.count_nonzero(raw[begin : min(begin + step, at)] == ord("\n"))) for begin in range(0, at, step))
    return DamagedFile(f"{path}: line {newlines + 1:,} {describe_damage(raw[at:], layout, decoded.error)}", at)


def describe_damage(raw: np.ndarray, layout: Layout, error: int) -> str:
    """Why the line that begins these bytes was refused."""
    line = raw[:4096].tobytes().split(b"\n")[0].strip()
    fields = split(line)
    why = {
        FIELDS: f"has {count(len(fields), 'column')}, not {layout.num_columns}",
        NO_NUMBER: "has something else than numbers t, x and y (0 to 65,535) and a polarity",
        NO_TIME: f"has a t that is no time in {layout.unit}",
        PART: f"has a t with a fraction, hardly microseconds; {ask_for_unit()}",
    }[error]
    advice = odd_numbers(line)
    return f"{why}: {show(line)}{f'; {advice}' if advice else ''}"
