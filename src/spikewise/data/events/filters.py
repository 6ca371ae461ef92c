"""Filters of noise (F3): each says which events of a recording stay."""

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...durations import parse_duration
from ...wording import count, unknown_name
from .events import Events

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def keep_background(events: Events, dt: float) -> np.ndarray:
    """Which events have a neighbour: another event at one of the eight pixels around, at most `dt` microseconds before.

    Of the same or of the other polarity. Events of the same time are taken in the order of the file.
    Shapes:  n events -> bool [n]
    Source:  Delbruck 2008, jAER's BackgroundActivityFilter
    """
    return in_time_order(events, round(dt), "background", background_numpy)


def background_numpy(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], dt: int) -> np.ndarray:
    """The definition, of events in the order of time."""
    n, row = len(t), size[1] + 2
    pixel = (y.astype(np.int64) + 1) * row + x + 1  # with a margin, so that every pixel has eight around it
    by_pixel = np.argsort(pixel, kind="stable")
    place = pixel[by_pixel] * n + by_pixel  # pixels, and of each the events in their order: ascending
    kept = np.zeros(n, dtype=bool)
    for dy, dx in NEIGHBOURS:
        around = pixel + dy * row + dx
        before = np.searchsorted(place, around * n + np.arange(n)) - 1  # the latest event there, or an event elsewhere
        latest = by_pixel[np.maximum(before, 0)]
        there = (before >= 0) & (pixel[latest] == around)
        kept |= there & (t.astype(np.uint64) - t[latest].astype(np.uint64) <= dt)
    return kept


def keep_refractory(events: Events, period: float) -> np.ndarray:
    """Which events come at least `period` microseconds after the last one that was kept at their pixel, of any polarity.

    Events of the same time are taken in the order of the file.
    Shapes:  n events -> bool [n]
    """
    return in_time_order(events, round(period), "refractory", refractory_loop)


def refractory_loop(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, int], period: int) -> np.ndarray:
    """The definition, of events in the order of time."""
    latest: dict[tuple[int, int], int] = {}
    kept = np.zeros(len(t), dtype=bool)
    for i, (time, *pixel) in enumerate(zip(t.tolist(), x.tolist(), y.tolist(), strict=True)):
        place = pixel[0], pixel[1]
        if place not in latest or time - latest[place] >= period:
            latest[place], kept[i] = time, True
    return kept


def keep_cool_pixels(events: Events, max_rate: float) -> np.ndarray:
    """Which events lie at pixels that are not hot: that give at most `max_rate` events per second, over the whole recording.

    A pixel's rate is (its events - 1) / duration, so that a single event is none.
    Shapes:  n events -> bool [n]
    """
    pixel = events.y.astype(np.int64) * events.size[1] + events.x
    per_pixel = np.bincount(pixel, minlength=events.size[0] * events.size[1])
    return ((per_pixel - 1) * 1e6 <= max_rate * events.duration)[pixel]


def parse_rate(text: str) -> float:
    """Events per second of "500" or "500Hz"."""
    try:
        rate = float(text.strip().removesuffix("Hz"))
    except ValueError:
        rate = -1.0
    if not 0 <= rate < 1e12:
        raise ValueError(f"{text!r} is no rate; write events per second, as 500 or 500Hz")
    return rate


class Filter(NamedTuple):
    """A filter of noise.

    keep:     a function of (events, value): which stay, bool [n]
    parse:    its value of what a user writes
    example:  of what a user writes
    drops:    what it drops, in words
    """

    keep: Callable[[Events, float], np.ndarray]
    parse: Callable[[str], float]
    example: str
    drops: str

    @property
    def description(self) -> str:
        """A line for `spikewise list`."""
        return f"drops {self.drops}; as {self.example}"


FILTERS = {
    "background": Filter(
        keep_background, parse_duration, "10ms", "events without another in the 8 pixels around, within the time before"
    ),
    "refractory": Filter(keep_refractory, parse_duration, "1ms", "events too soon after the last kept one of their pixel"),
    "hot_pixels": Filter(keep_cool_pixels, parse_rate, "500Hz", "pixels with more events per second, over the whole recording"),
}


def parse_filters(text: str) -> list[tuple[str, Filter, float]]:
    """Filters in their order, each with what the user wrote of it and its value: of "hot_pixels=500,background=10ms".

    Raises:  ValueError for an unknown filter, or one without its value
    """
    found = []
    for word in filter(None, text.split(",")):
        name, _, value = word.strip().partition("=")
        if name not in FILTERS:
            raise ValueError(unknown_name("filter", name, FILTERS))
        if not value:
            raise ValueError(f"the filter {name} needs a value, as {name}={FILTERS[name].example}")
        try:
            found.append((word.strip(), FILTERS[name], FILTERS[name].parse(value)))
        except ValueError as error:
            raise ValueError(f"the filter {name}: {error}") from None
    return found


def apply_filters(events: Events, text: str) -> Events:
    """The events that filters leave, one after the other; a note of each says how many it dropped.

    text:    filters as `parse_filters` reads them; "": none
    Raises:  ValueError as there, and for an event outside the sensor
    """
    for word, entry, value in parse_filters(text):
        require_inside(events)
        kept = entry.keep(events, value)
        dropped = len(events) - int(np.count_nonzero(kept))
        note = f"{dropped:,} of {count(len(events), 'event')} dropped by the filter {word}"
        events = replace(events[kept], notes=(*events.notes, note))
    return events


def require_inside(events: Events) -> None:
    """Refuse events that lie outside the sensor."""
    for name, column, side in (("x", events.x, events.size[1]), ("y", events.y, events.size[0])):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < side:
            at = int(np.argmax((column < 0) | (column >= side)))
            raise ValueError(f"event {at} lies at {name}={column[at]}, outside the sensor of {side} pixels there")


# The loops over events -------------------------------------------------------------------------------------------------------

Definition = Callable[[np.ndarray, np.ndarray, np.ndarray, tuple[int, int], int], np.ndarray]


def in_time_order(events: Events, microseconds: int, name: str, define: Definition) -> np.ndarray:
    """Run a filter over events in the order of time: in C where the library is there, else by its definition.

    name:    of the function of the library, `keep_NAME`
    """
    from ...native import load as native  # imports torch

    order = slice(None) if np.all(events.t[1:] >= events.t[:-1]) else np.argsort(events.t, kind="stable")
    t, x, y = (np.ascontiguousarray(column[order]) for column in (events.t, events.x, events.y))
    kept = np.zeros(len(events), dtype=bool)
    if events.has_promised_types and not native.unavailable_reason():
        latest = np.zeros((events.size[0] + 2, events.size[1] + 2), dtype=np.int64)
        found = np.empty(len(events), dtype=bool)
        args = FilterArgs(
            *(array.ctypes.data for array in (t, x, y)),
            len(t),
            *latest.shape,
            microseconds,
            latest.ctypes.data,
            found.ctypes.data,
        )
        getattr(native.load(native.selected_variant()), f"keep_{name}")(ctypes.byref(args))
    else:
        found = define(t, x, y, events.size, microseconds)
    kept[order] = found
    return kept


class FilterArgs(ctypes.Structure):
    """filter_args of native/filters.inc."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("t", "x", "y")),
        *((name, ctypes.c_int64) for name in ("events", "rows", "columns", "microseconds")),
        *((name, ctypes.c_void_p) for name in ("latest", "kept")),
    )
