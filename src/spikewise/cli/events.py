"""The commands `spikewise events`: recordings of event cameras."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ..config import DURATION, Data
from ..durations import format_duration, format_rate
from ..wording import count
from .options import Format, Json, Recording

if TYPE_CHECKING:
    from ..data.events import Events

Time = Annotated[int | None, DURATION]
DEFAULTS = Data()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a recording is read, and which of its events."""

    format: Format = None
    sensor: Annotated[
        tuple[int, int] | None,
        arg(metavar="HEIGHT,WIDTH", help="in pixels; default as the file says, else the usual camera's or what fits"),
    ] = None
    drop_outside: Annotated[bool, arg(help="leave out events outside the sensor, and say how many; else they are refused")] = (
        False
    )
    time_unit: Annotated[
        str | None, arg(metavar="UNIT", help="of times in NPZ and HDF5: s, ms, us, ns; default as the file says, else us")
    ] = None
    raw: Annotated[bool, arg(help="AEDAT 2.0: columns, rows and polarities as the addresses have them, and not upright")] = (
        False
    )
    start: Annotated[Time, arg(name="from", help="only events from here, after the earliest: 500us, 20ms, 2s, 1.5min")] = None
    end: Annotated[Time, arg(name="to", help="only events before here, likewise")] = None
    filter: Annotated[
        str, arg(metavar="NAME=VALUE,...", help="of noise: `spikewise list filters`; hot_pixels=500,background=10ms")
    ] = ""

    def read(self, file: Path) -> "Events":
        """The events; their notes say what was left out."""
        from ..data.events import apply_filters, read_events

        whole = read_events(
            file, self.format, self.sensor, drop_outside=self.drop_outside, time_unit=self.time_unit, raw=self.raw
        )
        try:
            events = whole.part(self.start, self.end)
            if events is not whole:
                lasts = format_duration(whole.duration / 1e6)
                begin, end = (lasts if time is None else format_duration(time / 1e6) for time in (self.start or 0, self.end))
                note = f"{len(events):,} of {count(len(whole), 'event')}, from {begin} to {end} of {lasts}"
                events = replace(events, notes=(*events.notes, note))
            return apply_filters(events, self.filter)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None


ReadingOptions = Annotated[Reading, arg(name="")]


def info(
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE")],
    reading: ReadingOptions = Reading(),
    as_json: Json = False,
) -> None:
    """Counts, rate, duration and sensor of recordings.

    Args:
        files: recordings of any known format; as JSON, a line each
    """
    from ..data.events.formats import FORMATS, detect_format
    from ..data.events.summary import summarize_events

    if not files:
        raise ValueError("events info needs a recording: spikewise events info FILE")
    for file in files:
        name = reading.format or detect_format(file)
        facts = {"file": str(file), "format": name} | summarize_events(replace(reading, format=name).read(file))
        if as_json:
            print(json.dumps(facts))
            continue
        print(f"{file}: {FORMATS[name].description}")
        print(f"  events       {facts['events']:,}, {100 * facts['on_fraction']:.1f} % of them ON (brighter)")
        print(f"  duration     {format_duration(facts['duration_s'])}, {format_rate(facts['rate'])}")
        print(f"  sensor       {facts['sensor']} pixels, {100 * facts['active_pixels']:.1f} % of them with events")
        if pixel := facts["most_active_pixel"]:
            print(f"  most active  x={pixel['x']}, y={pixel['y']} with {count(pixel['events'], 'event')}")
        if not facts["is_time_sorted"]:
            print("  times        run backwards somewhere")
        for note in facts["notes"]:
            print(f"  note         {note}")


def show(
    file: Recording,
    out: Annotated[Path | None, arg(metavar="FILE")] = None,
    num_frames: int = 8,
    seconds: Annotated[float | None, arg(metavar="FLOAT")] = None,
    reading: ReadingOptions = Reading(),
) -> None:
    """Draw a recording: an animation (.gif), or frames over events in space and time (.png).

    Args:
        out: the picture; default the recording's name with .png, in the working folder
        num_frames: 1 or more; an animation has four times as many
        seconds: how long the animation takes; default as long as the recording, 1 to 10
    """
    from ..data.events.plot import plot_recording

    out = out or Path(file.name).with_suffix(".png")
    events = reading.read(file)
    plot_recording(events, out, frames=num_frames, seconds=seconds)
    print_notes(events)
    print(out)


def convert(
    file: Recording,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="ends with .npz, .h5 or .hdf5")],
    reading: ReadingOptions = Reading(),
) -> None:
    """Write a recording as NPZ or HDF5."""
    from ..data.events.formats import write_events

    require_another_file(file, out)
    events = reading.read(file)
    write_events(events, out)
    print_notes(events)
    print(f"{out}: {count(len(events), 'event')}")


def frames(
    file: Recording,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="ends with .npy or .npz")],
    num_frames: Annotated[int | None, arg(metavar="INT")] = None,
    split_by: str = DEFAULTS.split_by,
    representation: str = DEFAULTS.representation,
    time_window: Time = None,
    event_count: Annotated[int | None, arg(metavar="INT")] = None,
    tau: Time = DEFAULTS.tau,
    reading: ReadingOptions = Reading(),
) -> None:
    """Write a recording as frames [T, 2, H, W] of NumPy: counts, time surfaces or a voxel grid.

    Args:
        num_frames: default 16, as in runs; with a time window or an event count as many as it takes
        split_by: into frames of equally many events, count, or of equal duration, duration
        representation: what a frame holds, of `spikewise list representations`
        time_window: of each frame, as 10ms; split by duration
        event_count: events of each frame; split by count
        tau: by which time surfaces decay
    """
    from ..data.events.frames import FrameSpec, require_frames_file, smallest_type, write_frames

    if num_frames is None and time_window is None and event_count is None:
        num_frames = DEFAULTS.num_frames
    if tau != DEFAULTS.tau and representation != "time_surface":
        raise ValueError(f"--tau changes nothing in {representation}; it is for --representation time_surface")
    spec = FrameSpec(num_frames, split_by, representation, time_window, event_count, tau or 0)
    require_another_file(file, out)
    require_frames_file(out)
    events = spec.select(reading.read(file))
    found = smallest_type(spec.frames(events))
    write_frames(found, out)
    print_notes(events)
    T, channels, height, width = found.shape
    print(f"{out}: {count(T, 'frame')} [{T}, {channels}, {height}, {width}] {found.dtype} of {count(len(events), 'event')}")


def require_another_file(file: Path, out: Path) -> None:
    """Refuse to write over the recording that is read."""
    if file.exists() and out.exists() and out.samefile(file):
        raise ValueError(f"{out} is the recording itself; name another file")


def print_notes(events: "Events") -> None:
    for note in events.notes:
        print(f"note: {note}")
