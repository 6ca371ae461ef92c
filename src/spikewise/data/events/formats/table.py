"""Tables of events: which column is t, x, y and p, by name, by what the user says, or by what the numbers can be."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....wording import count
from . import reading
from .sensor import DROP_IT, MAX_SENSOR_SIDE, Size
from .times import UNIT_ALIASES, find_unit, overruled, to_microseconds, usual_unit

COLUMN_ALIASES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "time_stamp", "time stamp"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on", "is_increase"),
}
POLARITIES = ((0, 1), (-1, 1), (1, 2), (0, 255))  # OFF and ON; of a file whose values fit several, the first
JOINED_UNIT = re.compile(rf"(t|ts|time|timestamp)({'|'.join(alias for aliases in UNIT_ALIASES.values() for alias in aliases)})")
PIXEL_WORDS = ("px", "pixel", "pixels", "pos", "position", "addr", "address", "coord", "coordinate")  # x_addr, x [px]
NO_PIXEL = 65_535  # in the place of what no sensor has
OTHER = "_"  # a column that is none of t, x, y, p
SAY_COLUMNS = (
    "say which with columns='t,x,y,p', on the command line --columns (_ for any other column; of a data set --data.columns; "
    "elsewhere `spikewise events convert` it first)"
)
MAX_NAME = 40  # letters of a column's name
SAMPLE_ROWS = 2000  # rows from which the order of columns is told
Order = tuple[int, int, int, int]  # the columns of t, x, y, p


def column_name(name: str) -> tuple[str, str | None]:
    """What a column's name stands for, t, x, y or p, and a unit that it says: `time_us`, `t [s]`; "" and None for others."""
    name = name.strip().strip("\"'").lower()
    if len(name) > MAX_NAME:
        return "", None
    if meaning := next((column for column, aliases in COLUMN_ALIASES.items() if name in aliases), ""):
        return meaning, None
    stem, word = name, ""
    if named := re.fullmatch(r"(.+?)(?:[ _-]+|\s*(?=[\[(]))[\[(]?([^\W\d_]+)[\])]?", name) or JOINED_UNIT.fullmatch(name):
        stem, word = named[1], named[2]
    unit = find_unit(word)
    if unit is None and word not in PIXEL_WORDS:
        return "", None
    meaning = next((column for column, aliases in COLUMN_ALIASES.items() if stem in aliases), "")
    return meaning, unit if meaning == "t" else None


def find_columns(names: Iterable[str]) -> dict[str, tuple[str, str | None]]:
    """Which of the arrays of a file are t, x, y and p, and a unit that the name says: t: (`timestamp_us`, us).

    Of several names that stand for the same, the first in COLUMN_ALIASES, or else in the file.
    """
    found: dict[str, tuple[int, str, str | None]] = {}
    for name in names:
        meaning, unit = column_name(name)
        aliases = COLUMN_ALIASES.get(meaning, ())
        rank = aliases.index(name) if name in aliases else len(aliases)
        if meaning and (meaning not in found or rank < found[meaning][0]):
            found[meaning] = rank, name, unit
    return {meaning: (name, unit) for meaning, (_, name, unit) in found.items()}


def parse_columns(columns: str, num_columns: int, path: Path) -> Order:
    """The order that the user says, such as t,x,y,p.

    Raises:  ValueError for anything but one each of t, x, y and p, or another number of columns
    """
    names = [name.strip() for name in columns.split(",")]
    if sorted(name for name in names if name != OTHER) != ["p", "t", "x", "y"]:
        raise ValueError(f"{path}: columns={columns!r} should name t, x, y and p once each, and {OTHER} for any other column")
    if len(names) != num_columns:
        raise ValueError(f"{path} has {num_columns} columns, and columns={columns!r} names {len(names)}")
    return as_order(names)


def as_order(names: Sequence[str]) -> Order:
    t, x, y, p = (names.index(name) for name in COLUMN_ALIASES)
    return t, x, y, p


def guess_order(path: Path, rows: np.ndarray) -> Order:
    """Which columns are t, x, y and p, by what the first rows hold, float64 [n, 4].

    Time is the one column with fractions, or with more than a sensor's pixels, or else the one that rises and never falls;
    polarity the one with two values of POLARITIES at most; x is taken to be before y, until `reading.settle_order` sees all
    events and the sensor.

    Raises:  ValueError where that is not one column each
    """
    if rows.shape[1] != 4:
        raise ValueError(f"{path} has {count(rows.shape[1], 'column')} without names; {SAY_COLUMNS}")
    rows = rows[:SAMPLE_ROWS]
    kinds = [set(np.unique(column).tolist()) for column in rows.T]
    binary = np.array([any(values <= set(pair) for pair in POLARITIES) for values in kinds])
    large = (rows != np.trunc(rows)).any(axis=0) | (rows >= MAX_SENSOR_SIDE).any(axis=0)
    rising = ~binary & (np.diff(rows, axis=0) >= 0).all(axis=0) & (rows[-1:] > rows[:1]).any(axis=0)
    times = np.flatnonzero(large if large.any() else rising)
    polarities = np.flatnonzero(binary)
    if len(times) != 1 or len(polarities) != 1 or times[0] == polarities[0]:
        raise ValueError(f"{path}: its numbers don't tell which columns are t, x, y and p; {SAY_COLUMNS}")
    x, y = (column for column in range(4) if column not in (times[0], polarities[0]))
    return int(times[0]), x, y, int(polarities[0])


def arrays_from_table(path: Path, table: np.ndarray, columns: str | None) -> tuple[dict[str, np.ndarray], Order | None]:
    """The columns t, x, y, p of a table of numbers [n, columns], or [4, n]; and their order, if it was guessed.

    Raises:  ValueError where it can't be told which is which
    """
    if table.dtype.kind not in "iufb":
        raise ValueError(f"{path}: its table holds {table.dtype}, not numbers")
    width = 4 if columns is None else columns.count(",") + 1
    if table.shape[1] != width and table.shape[0] == width:
        table = table.T
    if columns is not None:
        order, guessed = parse_columns(columns, table.shape[1], path), False
    else:
        guessed = len(table) > 0
        order = guess_order(path, table[:SAMPLE_ROWS].astype(np.float64)) if guessed else (0, 1, 2, 3)
    return {name: table[:, column] for name, column in zip("txyp", order, strict=True)}, order if guessed else None


def summarize_names(names: Sequence[str]) -> str:
    """The first names of a list that may be of any length."""
    shown = ", ".join(name[:40] for name in names[:8]) or "nothing"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8:,} more"


def events_from_arrays(
    path: Path,
    arrays: Mapping[str, Any],
    size: Size | None,
    time_unit: str | None,
    *,
    said_unit: str | None = None,
    offset: int = 0,
    order: Order | None = None,
    notes: tuple[str, ...] = (),
) -> reading.FileEvents:
    """A recording from arrays by name.

    time_unit:  of t, as the user says; None: as the file says
    said_unit:  as the file says; None: the array's name says it (`t_us`), or nobody
    offset:     added to all times, in microseconds
    order:      of the columns of the table that the arrays are from, if it was guessed
    Raises:     ValueError for missing or ragged arrays, and values that are not a time, pixel or polarity
    """
    found = find_columns(arrays)
    if missing := next((name for name in COLUMN_ALIASES if name not in found), None):
        raise ValueError(f"{path} has no array {missing}; it holds {summarize_names(list(arrays))}")
    columns = {name: np.asarray(arrays[found[name][0]]) for name in COLUMN_ALIASES}
    lengths = [column.shape for column in columns.values()]
    if any(len(shape) != 1 or shape != lengths[0] for shape in lengths):
        raise ValueError(f"{path}: t, x, y and p of shapes {', '.join(map(str, lengths))} are no recording")
    said_unit = said_unit or found["t"][1]
    unit, notes = time_unit or said_unit, (*notes, *overruled(time_unit, said_unit))
    assumed = "" if unit else usual_unit(columns["t"])
    t, time_notes = to_microseconds(path, columns["t"], unit or assumed, offset)
    refused = ""
    for name in "xyp":
        column = columns[name]
        if column.dtype.kind not in "iub" and not (column.dtype.kind == "f" and np.array_equal(column, np.trunc(column))):
            raise ValueError(f"{path}: {name} holds {column.dtype}, not whole numbers")
        wrong = (column < 0) | (column > 65_535) if name != "p" and column.dtype != bool else np.zeros(0, bool)
        if wrong.any():
            first = int(np.argmax(wrong))
            refused = refused or f"{path}: event {first:,} has {name}={column[first]}, outside 0 to 65535; {DROP_IT}"
            columns[name] = np.where(wrong, NO_PIXEL, column)
    polarity, polarity_notes = to_polarity(path, columns["p"])
    x, y = columns["x"].astype(np.uint16), columns["y"].astype(np.uint16)
    notes = (*notes, *time_notes, *polarity_notes)
    return reading.FileEvents(
        (t, x, y, polarity), size, notes=notes, assumed_unit=assumed, guessed_order=order, refused=refused
    )


def to_polarity(path: Path, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Polarities of any of the pairs in POLARITIES as 0 and 1, uint8 [n], and what is to be said of them.

    Raises:  ValueError for other values, or of several pairs
    """
    if values.dtype == bool:
        return values.astype(np.uint8), ()
    known = sorted({value for pair in POLARITIES for value in pair})
    counts = [int(np.count_nonzero(values == value)) for value in known]
    if sum(counts) != len(values):
        first = int(np.argmin(np.isin(values, known)))
        raise ValueError(f"{path}: event {first:,} has p={values[first]}, which is no polarity; {describe_polarities()}")
    pair, notes = polarity_pair(path, {value for value, number in zip(known, counts, strict=True) if number})
    return (values == pair[1]).astype(np.uint8), notes


def polarity_pair(path: Path, present: set[int]) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The values of OFF and ON in a file with these polarities, and what is to be said of them.

    Raises:  ValueError where they are of several pairs
    """
    pair = next((pair for pair in POLARITIES if present <= set(pair)), None)
    if pair is None:
        raise ValueError(f"{path} mixes the polarities {', '.join(map(str, sorted(present)))}; {describe_polarities()}")
    return pair, (f"polarity {pair[0]} taken as OFF, {pair[1]} as ON",) if pair[1] > 1 else ()


def describe_polarities() -> str:
    return f"OFF and ON may be {', '.join(f'{off} and {on}' for off, on in POLARITIES)}"
