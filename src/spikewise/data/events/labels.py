"""Tables that say what a recording shows when: read, and placed in the recording's clock."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ...durations import format_duration
from .events import Events
from .formats.times import MICROSECONDS, UNIT_NAMES, find_unit, require_time_unit

LABEL_COLUMNS = {"class": ("class", "label"), "start": ("start", "starttime"), "end": ("end", "endtime", "stop")}
ASK_FOR_UNIT = "say their unit: --labels-unit s, ms, us or ns"
Origin = Literal["start", "clock"]


class Part(NamedTuple):
    """A part of a recording, of one class: start <= t < end, in microseconds; None: from the first event, to the last."""

    label: str
    start: int | None = None
    end: int | None = None


class Labels(NamedTuple):
    """The parts of a recording, and how their times are to be taken.

    is_unit_told:  whether their unit was said; else parts that hardly fit the recording are refused
    origin:        what they count from: "clock", the zero of the recording's clock; "start", its first event; None: nobody
                   said, and they are taken for the clock's, but refused where they reach beyond the recording
    """

    parts: Sequence[Part]
    is_unit_told: bool = True
    origin: Origin | None = None


# Reading ---------------------------------------------------------------------------------------------------------------------


def read_labels(path: Path, time_unit: str | None = None, origin: Origin | None = None, *, may_overlap: bool = False) -> Labels:
    """The rows of a table of labels: CSV with the columns class, start and end, as of DVS128 Gesture (startTime_usec).

    time_unit:    "s", "ms", "us" or "ns"; None: as the names of the columns say (start_ms, end_ms), else microseconds
    may_overlap:  whether a time may have several classes
    Raises:       ValueError that names the line; OSError
    """
    require_time_unit(time_unit)
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of labels: {error}") from None
    names = [re.split(r"[_ \[(]+", cell.strip(" \t)]").lower()) for cell in rows[0]] if rows else []
    stems = [words[0] for words in names]
    places = {column: [stems.index(name) for name in known if name in stems] for column, known in LABEL_COLUMNS.items()}
    if missing := [column for column, found in places.items() if not found]:
        raise ValueError(f"{path} has no column {missing[0]!r} in its first line; use class,start,end")
    found = {unit for column in ("start", "end") if (unit := find_unit(names[places[column][0]][-1]))}
    if len(units := found | ({time_unit} if time_unit else set())) > 1:
        said = f"its first line says {', '.join(sorted(found))}{f', and --labels-unit {time_unit}' if time_unit else ''}"
        raise ValueError(f"{path}: the unit of start and end is one of several: {said}; use one")
    unit = next(iter(units), None)
    parts, lines = [], []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            label, start, end = (row[places[column][0]].strip() for column in ("class", "start", "end"))
            parts.append(Part(require_class(label), *to_times(start, end, unit)))
        except Misfit as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        except (ValueError, IndexError, OverflowError):
            raise ValueError(f"{path}, line {number}: {','.join(row)[:60]!r} should be a class, a start and an end") from None
        lines.append(number)
    if not parts:
        raise ValueError(f"{path} labels nothing")
    if not may_overlap:
        refuse_overlaps(path, parts, lines)
    return Labels(parts, unit is not None, origin)


class Misfit(Exception):
    """Why the two times of a row are no part of a recording."""


def to_times(start: str, end: str, unit: str | None) -> tuple[int, int]:
    """A row's start and end in microseconds.

    unit:    None: microseconds
    Raises:  Misfit; ValueError and OverflowError for what is no number
    """
    numbers = float(start), float(end)
    first, last = (round(number * MICROSECONDS[unit or "us"]) for number in numbers)
    if not numbers[0] < numbers[1]:
        raise Misfit(f"it ends at {end}, not after {start}, where it begins")
    if unit is None and not all(number.is_integer() for number in numbers):
        raise Misfit(f"{start} to {end} are hardly microseconds, as they have fractions; {ASK_FOR_UNIT}")
    if first == last:
        raise Misfit(f"{start} to {end} {UNIT_NAMES[unit or 'us']} take less than a microsecond")
    return first, last


def require_class(label: str) -> str:
    """A name that a folder can have.

    Raises:  ValueError
    """
    if not label or label.startswith(".") or Path(label).name != label:
        raise ValueError(f"the class {label!r} can't be the name of a folder; use another one")
    return label


def refuse_overlaps(path: Path, parts: Sequence[Part], lines: Sequence[int]) -> None:
    """Refuse parts of different classes that share a time, as its windows would be of both.

    Raises:  ValueError that names both lines
    """
    latest: dict[str, tuple[int, int]] = {}  # of each class the latest end so far, and its line
    for (label, start, end), line in sorted(zip(parts, lines, strict=True), key=lambda row: row[0][1:]):
        assert start is not None and end is not None, "rows have both"
        for other, (until, other_line) in latest.items():
            if other != label and until > start:
                first, second = sorted((line, other_line))
                raise ValueError(
                    f"{path}, lines {first} and {second}: {other!r} and {label!r} overlap, so that windows would be of both "
                    "classes; correct them, or say --overlapping-labels"
                )
        latest[label] = max(latest.get(label, (end, line)), (end, line))


# In the clock of the recording -----------------------------------------------------------------------------------------------


def place_labels(source: Path, events: Events, labels: Labels, slack: int) -> tuple[list[Part], tuple[str, ...]]:
    """The parts in the recording's clock, and what is to be said of them.

    events:  in the order of time
    slack:   microseconds by which labels may reach beyond the events without a word
    Raises:  ValueError for labels that are all outside the recording, or may be meant in another way
    """
    spans = [(part.start, part.end) for part in labels.parts if part.start is not None and part.end is not None]
    if not spans or not len(events):
        return list(labels.parts), ()
    first, last = int(events.t[0]), int(events.t[-1])
    if not labels.is_unit_told:
        require_plausible_unit(source, sum(end - start for start, end in spans), last - first)
    shift = first if labels.origin == "start" else 0
    parts = [Part(label, *(time if time is None else time + shift for time in times)) for label, *times in labels.parts]
    begin, end = min(start for start, _ in spans) + shift, max(end for _, end in spans) + shift
    reach = f"labels reach from {format_clock(begin)} to {format_clock(end)}"
    ranges = f"{reach}, events from {format_clock(first)} to {format_clock(last)}"
    if labels.origin is None and max(first - begin, end - last) > slack:
        moved = f"from {format_clock(begin + first)} to {format_clock(end + first)}"
        other = f"counted from the first event, they would reach {moved}"
        raise ValueError(f"{source}: {ranges} of its clock; {other}; say which: --labels-from start, or --labels-from clock")
    if all(stop + shift <= first or start + shift > last for start, stop in spans):
        raise ValueError(f"{source}: {ranges}, and no label has an event; see --labels-from and --labels-unit")
    if max(first - begin, end - last) > slack:
        return parts, (ranges,)
    if labels.origin is None and 10 * abs(first) > slack:
        taken = f"labels are taken for times of the recording's clock, {format_clock(first)} at its first event"
        return parts, (f"{taken}; --labels-from start counts from that event, --labels-from clock says so",)
    return parts, ()


def require_plausible_unit(source: Path, labelled: int, lasts: int) -> None:
    """Refuse labels, taken for microseconds, that take a thousandth of the recording, or a hundred times as long.

    Raises:  ValueError that asks for their unit
    """
    if 1000 * labelled < lasts or labelled > 100 * max(lasts, 1):
        takes, whole = (format_duration(time / 1e6) for time in (labelled, lasts))
        raise ValueError(f"the labels of {source} take {takes} of {whole}, in microseconds; {ASK_FOR_UNIT}")


def format_clock(time: int) -> str:
    """A time of a clock, in microseconds, without rounding: 2.002354 s."""
    return f"{time / 1e6:,.6f}".rstrip("0").rstrip(".") + " s"
