"""Durations and rates as people write and read them: 500us, 20ms, 2s, 1.5min; 12.3 k events/s."""

import re

MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "min": 6e7, "h": 3.6e9}  # per unit that is read
SECONDS = {"days": 86_400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}  # per unit that is written
DURATION = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(us|µs|μs|ms|s|min|h)\s*")
MAX_DURATION = 2**53  # microseconds, 285 years: whole numbers up to here are floats, too


def parse_duration(text: str) -> int:
    """Microseconds of a number with its unit, rounded to the nearest.

    Raises:  ValueError for another text, and for more than MAX_DURATION
    """
    match = DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no duration; write a number and its unit, as 500us, 20ms, 2s or 1.5min")
    number, unit = match.groups()
    found = float(number) * MICROSECONDS[unit if unit in MICROSECONDS else "us"]
    if found > MAX_DURATION:
        raise ValueError(f"{text!r} is too long; use {MAX_DURATION / 6e7:,.0f} min or less")
    return round(found)


def format_duration(seconds: float) -> str:
    """A time in the unit that suits it: 3.2 h, 12.5 min, 1.25 s, 50 ms."""
    for unit, length in SECONDS.items():
        if length > 1 and seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
        if length <= 1 and seconds >= 0.9995 * length:  # what three digits round up to 1
            return f"{seconds / length:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us" if seconds else "0 s"


def format_rate(per_second: float) -> str:
    """Events per second: 840 events/s, 12.3 k events/s, 25 M events/s."""
    for unit, size in (("G ", 1e9), ("M ", 1e6), ("k ", 1e3)):
        if per_second >= 0.9995 * size:
            return f"{per_second / size:.3g} {unit}events/s"
    return f"{per_second:.3g} events/s"
