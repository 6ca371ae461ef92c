"""Long recordings cut into windows: a folder by class that `event-folder` reads, and where each window came from."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import disk
from ...durations import format_duration
from ...wording import count
from ..class_folders import WINDOWS_MANIFEST
from .downsample import Crop, downsample
from .events import Events
from .formats.npz import encode_npz
from .formats.sensor import Size
from .labels import Labels, Part, format_clock, place_labels
from .windows import is_window, recording_of, window_name

FEW = 10  # a window with fewer events than the median window of its recording by so much is left out, unless a number is given


@dataclass(frozen=True)
class Cut:
    """How recordings are cut.

    unit:        "us": windows of equal time; "events": of equally many events
    length:      of a window, in microseconds or events, 1 or more
    stride:      from the begin of one window to that of the next, 1 or more; None: the length
    min_events:  windows with fewer events are left out; None: with fewer than a tenth of the median window of their part
    size, crop:  the canvas and the crop of `downsample`
    Raises:      ValueError for a number out of its range
    """

    unit: str
    length: int
    stride: int | None = None
    min_events: int | None = None
    size: int | Size | None = None
    crop: Crop = "none"

    def __post_init__(self) -> None:
        for name, value, least in (("length", self.length, 1), ("stride", self.stride, 1), ("min_events", self.min_events, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} of windows is out of range; use {least} or more")

    @property
    def step(self) -> int:
        return self.length if self.stride is None else self.stride


class Window(NamedTuple):
    """A window: begin and end in microseconds (start <= t < end; of equally many events: t <= end), and its events.

    number:  among all whole windows of its part, from 0
    """

    label: str
    number: int
    start: int
    end: int
    events: Events


class PartWindows(NamedTuple):
    """The whole windows of a part of a recording.

    windows:  those with events
    total:    how many there are with the empty ones
    rest_us:  microseconds behind the last one
    """

    windows: list[Window]
    total: int
    rest_us: int


class CutReport(NamedTuple):
    """What became of a recording.

    windows:  written, or found written before
    few:      left out, as they have too few events
    rest_us:  microseconds at the ends of its parts, shorter than a window
    seconds:  of all its windows
    classes:  of its windows
    error:    why it could not be cut; then nothing was written
    """

    windows: int
    few: int
    rest_us: int
    seconds: float
    notes: tuple[str, ...] = ()
    classes: frozenset[str] = frozenset()
    error: ValueError | OSError | None = None


# Cutting ---------------------------------------------------------------------------------------------------------------------


def cut_windows(events: Events, part: Part, cut: Cut) -> PartWindows:
    """The whole windows of a part of a recording.

    Window k holds the events with start + k stride <= t < start + k stride + length, or those numbered k stride to
    k stride + length - 1 of the part's.

    events:  in the order of time
    """
    start = part.start if part.start is not None else int(events.t[0]) if len(events) else 0
    end = part.end if part.end is not None else int(events.t[-1]) + 1 if len(events) else 0
    first, last = np.searchsorted(events.t, [start, end]).tolist()
    windows = []
    if cut.unit == "us":
        begins = range(start, end - cut.length + 1, cut.step)
        for number, a, b in windows_with_events(events.t, begins, cut.length):
            windows.append(Window(part.label, number, begins[number], begins[number] + cut.length, events[a:b]))
        total, until = len(begins), begins[-1] + cut.length if begins else start
    else:
        for number, a in enumerate(range(first, last - cut.length + 1, cut.step)):
            inside = events[a : a + cut.length]
            windows.append(Window(part.label, number, int(inside.t[0]), int(inside.t[-1]), inside))
        total, until = len(windows), windows[-1].end if windows else start
    return PartWindows(windows, total, max(0, end - until))


def windows_with_events(t: np.ndarray, begins: range, length: int) -> Iterator[tuple[int, int, int]]:
    """Number, first event and last event + 1 of the windows that hold any; stretches without events are jumped over."""
    number = 0
    while number < len(begins):
        begin = begins[number]
        a, b = np.searchsorted(t, [begin, begin + length]).tolist()
        if a == len(t):
            return
        if a < b:
            yield number, a, b
            number += 1
        else:
            number += (int(t[a]) - begin - length) // begins.step + 1  # the first window that ends after event a


def median_with_zeros(counts: Sequence[int], total: int) -> float:
    """The median of `total` counts, of which those not given are zero."""
    ordered = sorted(counts)
    low, high = (place - (total - len(ordered)) for place in ((total - 1) // 2, total // 2))
    return sum(ordered[place] if place >= 0 else 0 for place in (low, high)) / 2


def describe_gap(events: Events, found: PartWindows, length: int) -> tuple[str, ...]:
    """A note where most windows of a part are empty: how many, and the longest gap between two events, if longer than one.

    length:  of a window, in microseconds
    """
    if not found.windows or found.total <= 2 * len(found.windows):
        return ()
    gaps = np.diff(events.t, append=events.t[-1:])
    widest = int(gaps.argmax())
    begin, lasts = int(events.t[widest]), int(gaps[widest])
    gap = f"; there is none for {format_duration(lasts / 1e6)} after {format_clock(begin)}" if lasts > length else ""
    return (f"{found.total - len(found.windows):,} of {count(found.total, 'window')} hold no event{gap}",)


def in_order(events: Events) -> Events:
    """The events in the order of time; those of the same time in the order of the file."""
    if (events.t[1:] >= events.t[:-1]).all():
        return events
    notes = (*events.notes, "events were not in the order of time: sorted")
    return Events(**vars(events[np.argsort(events.t, kind="stable")]) | {"notes": notes})


def cut_recording(
    source: Path, name: str, labels: Labels, parts: Sequence[Part], events: Events, out: Path, cut: Cut
) -> CutReport:
    """Write the windows of one recording, OUT/CLASS/NAME.window-NNNNNN.npz, and then its line of the manifest.

    Windows are numbered in the order of the parts, those that are left out, too. What the manifest says is written already
    is left as it is.

    name:    of the recording, in the names of its windows
    labels:  as they were told, for the manifest
    parts:   the same in the recording's clock
    events:  in the order of time
    A recording without a window leaves no line, so that it can be cut in another way.
    Raises:  OSError
    """
    written, few, rest, before = [], 0, 0, 0
    notes = dict.fromkeys(events.notes)
    for part in parts:
        found = cut_windows(events, part, cut)
        rest += found.rest_us
        notes |= dict.fromkeys(describe_gap(events, found, cut.length))
        seen = [downsample(window.events, cut.size, cut.crop) for window in found.windows]
        least = cut.min_events
        if least is None:
            least = int(median_with_zeros([len(one) for one in seen], found.total)) // FEW if seen else 0
        few += found.total - len(seen)
        for window, one in zip(found.windows, seen, strict=True):
            if len(one) >= max(1, least):
                file = f"{window.label}/{window_name(name, before + window.number)}"
                disk.write_stream(make_parent(out / file), [encode_npz(one, time_unit="us")])
                written.append({"file": file, "start_us": window.start, "end_us": window.end, "events": len(one)})
            else:
                few += 1
        before += found.total
    line = {"recording": name, **describe(source, labels, cut), "windows": written, "few": few, "rest_us": rest}
    if written:
        disk.append(out / WINDOWS_MANIFEST, (json.dumps(line | {"notes": [*notes]}) + "\n").encode())
    return as_report(line, notes)


def make_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def window_us(events: Events, cut: Cut) -> int:
    """How long a window lasts, in microseconds; of equally many events, on average."""
    return cut.length if cut.unit == "us" else events.duration * cut.length // max(1, len(events))


def describe(source: Path, labels: Labels, cut: Cut) -> dict[str, Any]:
    """What a recording's windows depend on, as the manifest holds it; the same again means that nothing needs to be done."""
    described = {"source": source.name, "bytes": source.stat().st_size, "parts": labels.parts}
    described |= {"parts_from": labels.origin or "clock", "cut": vars(cut)}
    return json.loads(json.dumps(described))


def as_report(line: dict[str, Any], notes: Iterable[str] = ()) -> CutReport:
    seconds = sum(window["end_us"] - window["start_us"] for window in line["windows"]) / 1e6
    classes = frozenset(window["file"].partition("/")[0] for window in line["windows"])
    return CutReport(len(line["windows"]), line["few"], line["rest_us"], seconds, tuple(notes), classes)


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's manifest, by recording; a last line that was not written whole does not count.

    Raises:  ValueError for a damaged one
    """
    return disk.read_json_lines(folder / WINDOWS_MANIFEST, "remove it with the folders beside it, and cut again")


def summarize_windows(folder: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """How many recordings some of a folder's files were cut from, and the seconds of all; None where none is a window.

    names:    of files, relative to `folder`, which has the manifest, or its folders train and test have
    Returns:  recordings; windows; seconds, None where a manifest is missing
    """
    windows = [name for name in names if is_window(Path(name).name)]
    if not windows:
        return None
    seconds = {
        (Path(part) / window["file"]).as_posix(): (window["end_us"] - window["start_us"]) / 1e6
        for part in (".", "train", "test")
        for line in read_manifest(folder / part)
        for window in line["windows"]
    }
    recordings = {recording_of(name)[0] for name in windows}
    total = sum(seconds[name] for name in windows) if seconds.keys() >= {*windows} else None
    return {"recordings": len(recordings), "windows": len(windows), "seconds": total}


def cut_recordings(
    sources: Sequence[tuple[Path, Labels]],
    out: Path,
    cut: Cut,
    read: Callable[[Path], Events],
) -> Iterator[CutReport]:
    """Cut recordings into windows, a report each; called again, it goes on where it was stopped.

    One of several that can't be read, or that its labels do not fit, does not stop the others.

    sources:  recordings, and their parts with classes
    Raises:   ValueError for two recordings of one name, or one that was cut in another way before;
              for a single one, what `read` and `place_labels` raise; OSError
    """
    names = [source.stem for source, _ in sources]
    seen: dict[tuple[str, str], Path] = {}
    for source, labels in sources:
        for key in {(source.stem, part.label) for part in labels.parts}:
            if key in seen:
                raise ValueError(
                    f"{seen[key]} and {source} are both called {source.stem}, and so would their windows be; rename one, or "
                    "cut them into two folders"
                )
            seen[key] = source
    out.mkdir(parents=True, exist_ok=True)
    cut_short(out / WINDOWS_MANIFEST)
    known = {(line["recording"], label): line for line in read_manifest(out) for label in {part[0] for part in line["parts"]}}
    for (source, labels), name in zip(sources, names, strict=True):
        before = next((known[name, part.label] for part in labels.parts if (name, part.label) in known), None)
        if before is None:
            try:
                events = in_order(read(source))
                parts, notes = place_labels(source, events, labels, window_us(events, cut))
            except (ValueError, OSError) as error:
                if len(sources) == 1:
                    raise
                yield CutReport(0, 0, 0, 0.0, error=error)
                continue
            events = replace(events, notes=(*events.notes, *notes))
            yield cut_recording(source, name, labels, parts, events, out, cut)
            continue
        now = describe(source, labels, cut)
        was, is_now = ({"parts_from": "clock"} | facts | facts["cut"] for facts in (before, now))  # of before, none was said
        if changed := [key for key in is_now.keys() - {"cut"} if was.get(key) != is_now[key]]:
            listed = ", ".join(f"{key} {shorten(was.get(key))}, now {shorten(is_now[key])}" for key in sorted(changed))
            what = f"{out} holds windows of another {name} or cut in another way ({listed})"
            raise ValueError(f"{what}; give another folder, or remove this one")
        if missing := [window["file"] for window in before["windows"] if not (out / window["file"]).is_file()]:
            lost = f"{out / missing[0]} was removed, {count(len(missing), 'window')} of {name} in all"
            raise ValueError(f"{lost}; give another folder, or remove this one")
        yield as_report(before, before["notes"])


def shorten(value: object, most: int = 60) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def cut_short(manifest: Path) -> None:
    """Take a last line that was not written whole off the manifest, so that the next one begins a line."""
    if manifest.is_file() and not (content := manifest.read_bytes()).endswith(b"\n"):
        disk.truncate(manifest, content.rfind(b"\n") + 1)
