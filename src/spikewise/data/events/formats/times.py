"""Times of recordings: units, and clocks that overflowed or were reset."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....durations import format_duration
from ....wording import count

MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # per unit
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
UNIT_ALIASES = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "msecs", "millisecond", "milliseconds"),
    "us": ("us", "usec", "usecs", "microsecond", "microseconds", "\u00b5s", "\u03bcs"),
    "ns": ("ns", "nsec", "nsecs", "nanosecond", "nanoseconds"),
}
TIME_WORD = re.compile(r"(?<![a-z])(t|ts|times?|time[ _]?stamps?|(time[ _]?)?units?)(?![a-z])", re.I)
UNIT_WORD = re.compile(r"(?<![\w'])(?<!\d )([a-z\u00b5\u03bc]+)(?!\w)", re.I)  # not of a number: 5 s
UNIT_NAMES_OF_FACTS = ("time_unit", "time_units", "t_unit", "timestamp_unit", "unit_of_time")
MAX_TIME = 2**62
# what recordings are like, to tell the unit of their times
OTHER_READINGS = {"us": ("ms", "ns"), "s": ("ms", "us")}
MAX_RATE, MIN_RATE = 5e7, 100  # events per second
MAX_PIXEL_RATE, MIN_PIXEL_RATE = 300, 0.03  # the same per pixel; recordings of all kinds have 1 to 50
QUIET_PIXEL_RATE = 0.01  # below it, a usual rate in nanoseconds is as likely: 9,000 events per second of 1280 x 720 pixels
BURST = 1000  # events that may come at once
SHORTEST, SHORT, LONG = 1e-5, 0.01, 100  # seconds: below SHORT they are pieces, above LONG they are known to be lively
MANY_EVENTS, FEW_RATES, FEW_STEPS = 100, 20, 3  # below, a low rate, a high one, and equal steps tell nothing
# clocks
JITTER_US = 100_000  # times of neighbouring events may run backwards by so much: packets that came late
NEAR_START = 0.1  # of a fall: one that ends so near to the first time is a reset, of whatever size
CLOCK_RANGE = 2**32  # microseconds; a fall by more than half of it is an overflow
FEW_FALLS = 3  # or one in a thousand events: with more, the events are not in the order of time
APART = 10  # times as long as the rest of a recording takes; few events that lie so far from it are wild
FEW_EVENTS = 10  # or one in a thousand: so few, ahead of all others, are wild; before or after a reset there are more
CLOCK_NOTES = {
    "overflowed": "a clock of 32 bits overflowed, {}: times go on",
    "ahead": "times leap ahead and fall back, {}: left as in the file, and sorted",
    "alone": "times fall back {}, with few events before or after: left as in the file, and sorted",
    "reset": "the clock was reset, {}: times go on",
}
BLOCK = 2**16  # events compared at a time, so that the differences stay in the cache

# Units -----------------------------------------------------------------------------------------------------------------------


def require_time_unit(unit: str | None, path: Path | None = None) -> None:
    """Refuse an unknown unit; None: not said.

    Raises:  ValueError
    """
    if unit is not None and unit not in MICROSECONDS:
        raise ValueError(f"{f'{path}: ' if path else ''}time_unit={unit!r} is unknown; use {', '.join(MICROSECONDS)}")


def unit_of_facts(path: Path, facts: Mapping[str, Any]) -> str | None:
    """The unit that a file says of its times, as an attribute or an array of one word; None: none.

    Raises:  ValueError for an unknown unit
    """
    name = next((name for name in UNIT_NAMES_OF_FACTS if name in facts), None)
    if name is None:
        return None
    value = np.asarray(facts[name])
    word = value.item() if value.size == 1 else ""
    word = word.decode(errors="replace") if isinstance(word, bytes) else str(word)
    unit = find_unit(word)
    if unit is None:
        raise ValueError(f"{path}: {name}={word!r} is unknown; use {', '.join(MICROSECONDS)}, or {ask_for_unit()}")
    return unit


def find_unit(text: str) -> str | None:
    """The unit that a word of a file stands for: us, usec, microseconds; None for other words."""
    word = text.strip().lower()
    return next((unit for unit, aliases in UNIT_ALIASES.items() if word in aliases), None)


def unit_in_comment(line: str) -> str | None:
    """The unit that a line of a file's header says of its times, such as `# timestamps in ms`; None: no one, or several."""
    if not TIME_WORD.search(line):
        return None
    units = {unit for word in UNIT_WORD.findall(line) if (unit := find_unit(word))}
    return units.pop() if len(units) == 1 else None


def to_microseconds(path: Path, t: np.ndarray, unit: str, offset: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """Times of any numbers as microseconds, int64 [n], rounded to the nearest (nanoseconds downwards), and what is to be said.

    offset:  microseconds, added
    Raises:  ValueError for what is no time
    """
    if t.dtype.kind not in "iuf":
        raise ValueError(f"{path}: t holds {t.dtype}, not numbers")
    factor = MICROSECONDS[unit]
    notes: tuple[str, ...] = ()
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = ~np.less_equal(np.abs(t.astype(np.float64)), MAX_TIME / max(factor, 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"{path}: event {first:,} has t={t[first]}, which is no time in {UNIT_NAMES[unit]}")
    if t.dtype.kind == "f":
        step = float(np.spacing(np.abs(t).max())) * factor if len(t) else 0.0
        if step > 1:
            notes = (f"times are {t.dtype} and coarse: {step:.3g} microseconds apart at the end",)
        t = np.rint(t.astype(np.float64) * factor).astype(np.int64)
    elif factor < 1:
        t = t.astype(np.int64) // round(1 / factor)
    else:
        t = t.astype(np.int64) * round(factor)
    return t + offset if offset else t, notes


def overruled(time_unit: str | None, said: str | None) -> tuple[str, ...]:
    """What is to be said where the user gives another unit than the file says."""
    if time_unit is None or said is None or time_unit == said:
        return ()
    return (f"times taken as {UNIT_NAMES[time_unit]}, as time_unit= or --time-unit says; the file says {UNIT_NAMES[said]}",)


class UnclearUnit(ValueError):
    """A file that may be whole, and whose unit of time has to be told."""


# Units that nobody says ------------------------------------------------------------------------------------------------------


def usual_unit(t: np.ndarray) -> str:
    """The unit that most such numbers are in: with fractions seconds, whole ones microseconds."""
    with np.errstate(invalid="ignore"):
        return "s" if t.dtype.kind == "f" and not np.array_equal(t, np.trunc(t)) else "us"


def require_plausible(path: Path, t: np.ndarray, unit: str, num_pixels: int, leap: str = "") -> str:
    """What is to be said of times, in microseconds, that were taken for ones of the usual unit.

    unit:        "us" or "s"
    num_pixels:  of the sensor
    leap:        that makes most of the duration, in words
    Raises:      ValueError that asks for the unit, where they hardly are in this one, or may as well be in another
    """
    seconds = duration(t)
    if doubt := doubt_unit(t, unit, num_pixels):
        if leap:
            takes = f"{leap}, so that {count(len(t), 'event')} take {format_duration(seconds)} if t is in {UNIT_NAMES[unit]}"
            raise UnclearUnit(f"{path}: {takes}; {DROP_APART}; if the times are right, {ask_for_unit()}")
        others = {other: seconds * MICROSECONDS[other] / MICROSECONDS[unit] for other in OTHER_READINGS[unit]}
        fitting = {other: lasts for other, lasts in others.items() if is_possible(len(t), lasts) and lasts >= SHORTEST}
        named = "".join(f", or {format_duration(lasts)} in {UNIT_NAMES[other]}" for other, lasts in fitting.items())
        takes = f"{count(len(t), 'event')} take {format_duration(seconds)} if t is in {UNIT_NAMES[unit]}{named}"
        raise UnclearUnit(f"{path}: {takes} ({doubt}); {ask_for_unit()}")
    what = f"{count(len(t), 'event')} in {format_duration(seconds)}" if seconds else count(len(t), "event")
    return (
        f"times taken as {UNIT_NAMES[unit]}: {'whole numbers' if unit == 'us' else 'numbers with fractions'}, {what}; "
        "time_unit= or --time-unit says otherwise"
    )


DROP_APART = "few events far apart from all others are left out by drop_outside=True, on the command line --drop-outside"


def ask_for_unit() -> str:
    return (
        "say which unit: time_unit='s', 'ms', 'us' or 'ns', on the command line --time-unit (of a data set --data.time-unit; "
        "elsewhere `spikewise events convert` it first)"
    )


def duration(t: np.ndarray) -> float:
    """Seconds from the first time, in microseconds, to the last."""
    return (int(t.max()) - int(t.min())) / 1e6 if len(t) else 0.0


def doubt_unit(t: np.ndarray, unit: str, num_pixels: int) -> str:
    """Why times, int64 [n] in microseconds, may not be of the unit that they were taken for; "" where they are.

    Doubted are times beyond a century; recordings too slow or too fast for any camera; steps that are all multiples of 1,000
    microseconds, which are whole nanoseconds or milliseconds of a clock of microseconds; whole numbers that make a usual
    recording in milliseconds, too, or no usual one in microseconds; and sensors quieter than most, with a usual rate in
    nanoseconds.
    """
    n, seconds = len(t), duration(t)
    if (last := max(abs(int(t.min(initial=0))), abs(int(t.max(initial=0))))) > 2**52:
        return f"an event would be at {last / 3.15e13:,.0f} years"
    if not is_possible(n, seconds):
        return f"no camera is so {'fast' if n > MAX_RATE * seconds else 'slow'}"
    if seconds and n >= FEW_STEPS and is_coarse(t):
        is_settled = unit == "s" and not is_possible(n, seconds / 1000)
        return "" if is_settled else f"all times are whole {'thousands' if unit == 'us' else 'thousandths'}"
    if unit == "us" and n >= MANY_EVENTS and n < QUIET_PIXEL_RATE * seconds * num_pixels:
        return "few sensors are so quiet" if is_usual(n, seconds / 1000, num_pixels) else ""
    return doubt_microseconds(n, seconds, num_pixels) if unit == "us" and seconds and n >= FEW_RATES else ""


def doubt_microseconds(num_events: int, seconds: float, num_pixels: int) -> str:
    """Why a recording that is so short may be one of milliseconds; "" where it is none."""
    if not is_possible(num_events, 1000 * seconds):
        return ""
    if seconds < SHORT:
        return "few recordings are so short"
    if num_events > MAX_PIXEL_RATE * seconds * num_pixels:
        return "few pixels are so fast"
    return "either is usual" if is_usual(num_events, 1000 * seconds, num_pixels) else ""


def is_possible(num_events: int, seconds: float) -> bool:
    """Whether a camera may give so many events in this time: not too many, and of long recordings not too few."""
    if num_events > BURST + MAX_RATE * seconds or (num_events >= MANY_EVENTS and num_events < MIN_RATE * seconds):
        return False
    return seconds <= LONG or num_events >= 10 * seconds**2  # 1,000 per second in 100 s, 10,000 in 1,000 s


def is_usual(num_events: int, seconds: float, num_pixels: int) -> bool:
    """Whether most recordings are like this: of 10 ms or more, and with a rate per pixel between noise and flicker."""
    least, most = (rate * seconds * num_pixels for rate in (MIN_PIXEL_RATE, MAX_PIXEL_RATE))
    return is_possible(num_events, seconds) and seconds >= SHORT and least <= num_events <= most


def is_coarse(t: np.ndarray) -> bool:
    """Whether times, int64 [n], are whole multiples of 1,000 apart."""
    return not ((t[:1000] - t[0]) % 1000).any() and not ((t - t[0]) % 1000).any()


# Clocks ----------------------------------------------------------------------------------------------------------------------


def mend_clock(t: np.ndarray) -> tuple[str, ...]:
    """Let times go on where a clock was set back; changed in place. What was done, for the user.

    A fall by more than half of 32 bits is an overflow, and 2^32 microseconds are added. Another fall by more than 0.1 s, or
    one of any size that leads back to the first time, or nearly, is a reset, after which times go on from the last one; but
    where a few events were ahead of all others, and the clock falls back behind them, or where only a few events lie between
    two falls, nothing is changed. With many falls the events are not in the order of time, and none is a reset.

    t:  microseconds, int64 [n]
    """
    falls = find_falls(t)
    if not len(falls):
        return ()
    if len(falls) > max(FEW_FALLS, len(t) // 1000):
        return ()
    shift, begin, shifts = 0, 0, []
    found: dict[str, list[str]] = {"overflowed": [], "ahead": [], "alone": [], "reset": []}
    for at, end in itertools.pairwise([*falls.tolist(), len(t)]):
        fall = int(t[at - 1]) - int(t[at])
        place = f"by {fall / 1e6:,.6g} s at event {at:,}"
        if CLOCK_RANGE // 2 < fall <= CLOCK_RANGE:
            shift += CLOCK_RANGE
            found["overflowed"].append(place)
        elif ahead := events_ahead(t, begin, at):
            found["ahead"].append(f"{count(ahead, 'event')} before event {at:,}")
        elif min(at - begin, end - at) < FEW_EVENTS or is_undone(t, at, end):
            found["alone"].append(place)
        else:
            shift += fall
            found["reset"].append(place)
        shifts.append(shift)
        begin = at
    for at, end, more in zip(falls, [*falls[1:], len(t)], shifts, strict=True):
        t[at:end] += more
    return tuple(CLOCK_NOTES[kind].format(first_and_count(places)) for kind, places in found.items() if places)


def first_and_count(places: list[str]) -> str:
    return places[0] if len(places) == 1 else f"{places[0]}, and {count(len(places) - 1, 'time')} more"


def find_falls(t: np.ndarray) -> np.ndarray:
    """Events that are much earlier than the one before them, or a reset clock's first: their numbers, int64.

    A reset of less than JITTER_US leads back to the first time, or nearly, and FEW_EVENTS or more are before and after it.
    """
    found = find_earlier(t)
    fall = t[found - 1] - t[found]
    is_reset = (t[found] - t[:1] <= NEAR_START * fall) & (np.minimum(found, len(t) - found) >= FEW_EVENTS)
    is_reset &= np.count_nonzero(fall <= JITTER_US) <= FEW_FALLS  # with more they are jitter
    return found[(fall > JITTER_US) | is_reset]


def find_earlier(t: np.ndarray) -> np.ndarray:
    """Events that are earlier than the one before them: their numbers, int64."""
    found = []
    for begin in range(1, len(t), BLOCK):
        end = min(begin + BLOCK, len(t))
        fallen = t[begin:end] < t[begin - 1 : end - 1]
        if fallen.any():
            found.append(begin + np.flatnonzero(fallen))
    return np.concatenate(found) if found else np.empty(0, np.int64)


def find_leap(t: np.ndarray) -> str:
    """The step between neighbouring events that is most of the duration, where only it makes it too long; "" for none.

    t:  microseconds, int64 [n], in the order of the file
    """
    if len(t) < MANY_EVENTS:
        return ""
    seconds, steps = duration(t), np.abs(np.diff(t))
    at = int(np.argmax(2e-6 * steps >= seconds)) + 1
    leap = int(steps[at - 1]) / 1e6
    if is_possible(len(t), seconds) or 2 * leap < seconds or not is_possible(len(t), seconds - leap):
        return ""
    return f"times leap from {format_time(t[at - 1])} to {format_time(t[at])} at event {at:,}"


def format_time(t: int) -> str:
    return f"{int(t) / 1e6:,.9g} s"


def without_wild_times(t: np.ndarray) -> slice:
    """The events without the few at the begin or the end that lie far apart from all others; all of them, where none do.

    t:  microseconds, int64 [n], in order
    """
    n, few = len(t), max(FEW_EVENTS, len(t) // 1000)
    if n < MANY_EVENTS:
        return slice(0, n)
    begin, end = 0, n
    gaps = np.diff(t[: few + 1]), np.diff(t[n - few - 1 :])
    first, last = int(np.argmax(gaps[0])) + 1, n - few + int(np.argmax(gaps[1]))
    lasts = max(1, int(t[last - 1]) - int(t[first]))
    if int(t[first]) - int(t[first - 1]) > max(APART * lasts, JITTER_US):
        begin = first
    if int(t[last]) - int(t[last - 1]) > max(APART * lasts, JITTER_US):
        end = last
    return slice(begin, end)


def sort_by_time(columns: tuple[np.ndarray, ...]) -> tuple[str, ...]:
    """Put events in the order of time, those of the same time in that of the file; changed in place. What was done.

    columns:  t, microseconds, int64 [n], and others, [n]
    """
    t = columns[0]
    if not len(find_earlier(t)):
        return ()
    late = int(np.count_nonzero(t < np.maximum.accumulate(t)))
    order = np.argsort(t, kind="stable")
    for column in columns:
        column[:] = column[order]
    verb = "was" if late == 1 else "were"
    return (f"{count(late, 'event')} of {len(t):,} {verb} not in the order of time: sorted",)


def is_undone(t: np.ndarray, fall: int, end: int) -> bool:
    """Whether a few events after a fall the times leap back to where they were: these few are wild, and no clock was reset."""
    after = t[fall : min(end, fall + max(FEW_EVENTS, len(t) // 1000) + 1)]
    leaps = np.flatnonzero(np.diff(after) > JITTER_US)
    return len(leaps) > 0 and bool(after[leaps[0] + 1] >= t[fall - 1] - JITTER_US)


def events_ahead(t: np.ndarray, begin: int, fall: int) -> int:
    """How many events before a fall were ahead of their time: few, and the fall undoes the leap that brought them there."""
    most = max(FEW_EVENTS, len(t) // 1000)
    start = max(begin, fall - most - 1)
    leaps = np.flatnonzero(np.diff(t[start:fall]) > JITTER_US)
    if not len(leaps):
        return 0
    leap = start + int(leaps[0]) + 1  # the first event that is ahead
    return fall - leap if t[fall] >= t[leap - 1] - JITTER_US else 0
