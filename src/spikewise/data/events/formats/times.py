"""Times of recordings: units, and clocks that overflowed or were reset."""

import itertools
from pathlib import Path

import numpy as np

from ....wording import count

MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # per unit
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
MAX_TIME = 2**62
JITTER_US = 100_000  # times of neighbouring events may run backwards by so much: packets that came late
CLOCK_RANGE = 2**32  # microseconds; a fall by more than half of it is an overflow
FEW_FALLS = 3  # or one in a thousand events: with more, the events are not in the order of time
FEW_EVENTS = 10  # or one in a thousand: so few, ahead of all others, are wild; before or after a reset there are more
CLOCK_NOTES = {
    "overflowed": "a clock of 32 bits overflowed, {}: times go on",
    "ahead": "times leap ahead and fall back, {}: left as in the file",
    "alone": "times fall back {}, with few events before or after: left as in the file",
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


def to_microseconds(path: Path, t: np.ndarray, unit: str | None, offset: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """Times of any numbers as microseconds, int64 [n], rounded to the nearest (nanoseconds downwards), and what is to be said.

    unit:    "s", "ms", "us" or "ns"; None: not said, so microseconds
    offset:  microseconds, added
    Raises:  ValueError for what is no time, and for fractions while no unit is said
    """
    if t.dtype.kind not in "iuf":
        raise ValueError(f"{path}: t holds {t.dtype}, not whole numbers")
    factor = MICROSECONDS[unit or "us"]
    notes: tuple[str, ...] = ()
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = ~np.less_equal(np.abs(t.astype(np.float64)), MAX_TIME / max(factor, 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"{path}: event {first:,} has t={t[first]}, which is no time{f' in {unit}' if unit else ''}")
    if t.dtype.kind == "f":
        if unit is None and not np.array_equal(t, np.trunc(t)):
            raise ValueError(f"{path}: t holds {t.dtype}, not whole numbers, and so hardly microseconds; {ask_for_unit()}")
        step = float(np.spacing(np.abs(t).max())) * factor if len(t) else 0.0
        if step > 1:
            notes = (f"times are {t.dtype} and coarse: {step:.3g} microseconds apart at the end",)
        t = np.rint(t.astype(np.float64) * factor).astype(np.int64)
    elif factor < 1:
        t = t.astype(np.int64) // round(1 / factor)
    else:
        t = t.astype(np.int64) * round(factor)
    return t + offset if offset else t, notes


def require_plausible(path: Path, t: np.ndarray, unit: str) -> None:
    """Refuse times, in microseconds, that were taken for ones of a unit and hardly are.

    Raises:  ValueError that asks for the unit
    """
    if doubt := doubt_microseconds(t, coarse=unit != "us"):
        raise ValueError(f"{path}: {doubt}, if t is in {UNIT_NAMES[unit]}; {ask_for_unit()}")


def ask_for_unit() -> str:
    return "say which unit: time_unit='s', 'ms', 'us' or 'ns', on the command line --time-unit"


def doubt_microseconds(t: np.ndarray, *, coarse: bool = False) -> str:
    """Why times, int64 [n], are hardly microseconds; empty where they may be.

    coarse:  whether they may all be multiples of 1,000
    """
    if not len(t):
        return ""
    first, last = int(t.min()), int(t.max())
    seconds = (last - first) / 1e6
    if max(abs(first), abs(last)) > 2**52:
        return f"an event is at {max(abs(first), abs(last)) / 3.15e13:,.0f} years"
    if seconds > 100 and len(t) < 10 * seconds**2:  # 1,000 per second in 100 s, 10,000 in 1,000 s
        return f"{count(len(t), 'event')} take {seconds:,.0f} s"
    if len(t) >= 1000 and len(t) > 5e7 * seconds and last > first:
        return f"{count(len(t), 'event')} take {1e6 * seconds:,.0f} microseconds"
    if not coarse and len(t) >= 100 and last > first and not (t[:1000] % 1000).any() and not (t % 1000).any():
        return "all times are multiples of 1,000"
    return ""


# Clocks ----------------------------------------------------------------------------------------------------------------------


def mend_clock(t: np.ndarray) -> tuple[str, ...]:
    """Let times go on where a clock was set back; changed in place. What was done, for the user.

    A fall by more than half of 32 bits is an overflow, and 2^32 microseconds are added. Another fall by more than 0.1 s is a
    reset, after which times go on from the last one; but where a few events were ahead of all others, and the clock falls back
    behind them, or where only a few events lie between two falls, nothing is changed. With many falls the events are not in the
    order of time, and stay as they are.

    t:  microseconds, int64 [n]
    """
    falls = find_falls(t)
    if not len(falls):
        return ()
    if len(falls) > max(FEW_FALLS, len(t) // 1000):
        return (f"times fall back by more than 0.1 s in {count(len(falls), 'place')}: events are not in the order of time",)
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
        elif min(at - begin, end - at) < FEW_EVENTS:
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
    """Events that are more than JITTER_US earlier than the one before them: their numbers, int64."""
    found = []
    for begin in range(1, len(t), BLOCK):
        end = min(begin + BLOCK, len(t))
        fallen = t[begin:end] < t[begin - 1 : end - 1] - JITTER_US
        if fallen.any():
            found.append(begin + np.flatnonzero(fallen))
    return np.concatenate(found) if found else np.empty(0, np.int64)


def events_ahead(t: np.ndarray, begin: int, fall: int) -> int:
    """How many events before a fall were ahead of their time: few, and the fall undoes the leap that brought them there."""
    most = max(FEW_EVENTS, len(t) // 1000)
    start = max(begin, fall - most - 1)
    leaps = np.flatnonzero(np.diff(t[start:fall]) > JITTER_US)
    if not len(leaps):
        return 0
    leap = start + int(leaps[0]) + 1  # the first event that is ahead
    return fall - leap if t[fall] >= t[leap - 1] - JITTER_US else 0
