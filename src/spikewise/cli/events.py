"""The commands `spikewise events`: recordings of event cameras."""

import json
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..wording import count
from .options import Format, Json, Recording

Sensor = Annotated[
    tuple[int, int] | None,
    arg(metavar="HEIGHT,WIDTH", help="the sensor in pixels; default as the file says, else the usual camera's or what fits"),
]
DropOutside = Annotated[bool, arg(help="leave out events outside the sensor, and say how many; else they are refused")]
TimeUnit = Annotated[
    str | None, arg(metavar="UNIT", help="of times in NPZ and HDF5: s, ms, us, ns; default as the file says, else us")
]
Raw = Annotated[bool, arg(help="AEDAT 2.0: columns, rows and polarities as the addresses have them, and not upright")]


def info(
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE")],
    format: Format = None,
    sensor: Sensor = None,
    drop_outside: DropOutside = False,
    time_unit: TimeUnit = None,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Counts, rate, duration and sensor of recordings.

    Args:
        files: recordings of any known format; as JSON, a line each
    """
    from ..data.events.formats import FORMATS, detect_format, read_events
    from ..data.events.summary import summarize_events

    if not files:
        raise ValueError("events info needs a recording: spikewise events info FILE")
    for file in files:
        name = format or detect_format(file)
        events = read_events(file, name, sensor, drop_outside=drop_outside, time_unit=time_unit, raw=raw)
        facts = {"file": str(file), "format": name} | summarize_events(events)
        if as_json:
            print(json.dumps(facts))
            continue
        print(f"{file}: {FORMATS[name].description}")
        print(f"  events     {facts['events']:,}, {100 * facts['on_fraction']:.1f} % of them ON (brighter)")
        print(f"  duration   {facts['duration_s']:.6g} s, {facts['rate']:,.0f} events per second")
        print(f"  sensor     {facts['sensor']} pixels, {100 * facts['active_pixels']:.1f} % of them with events")
        if pixel := facts["most_active_pixel"]:
            print(f"  most active  x={pixel['x']}, y={pixel['y']} with {count(pixel['events'], 'event')}")
        if not facts["is_time_sorted"]:
            print("  times run backwards somewhere")
        for note in facts["notes"]:
            print(f"  note       {note}")


def show(
    file: Recording,
    out: Annotated[Path | None, arg(metavar="FILE")] = None,
    num_frames: int = 8,
    seconds: Annotated[float | None, arg(metavar="FLOAT")] = None,
    format: Format = None,
    sensor: Sensor = None,
    drop_outside: DropOutside = False,
    time_unit: TimeUnit = None,
    raw: Raw = False,
) -> None:
    """Draw a recording: an animation (.gif), or frames over events in space and time (.png).

    Args:
        out: the picture; default the recording's name with .png, in the working folder
        num_frames: 1 or more; an animation has four times as many
        seconds: how long the animation takes; default as long as the recording, 1 to 10
    """
    from ..data.events.formats import read_events
    from ..data.events.plot import plot_recording

    out = out or Path(file.name).with_suffix(".png")
    events = read_events(file, format, sensor, drop_outside=drop_outside, time_unit=time_unit, raw=raw)
    plot_recording(events, out, frames=num_frames, seconds=seconds)
    print_notes(events.notes)
    print(out)


def convert(
    file: Recording,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="ends with .npz, .h5 or .hdf5")],
    format: Format = None,
    sensor: Sensor = None,
    drop_outside: DropOutside = False,
    time_unit: TimeUnit = None,
    raw: Raw = False,
) -> None:
    """Write a recording as NPZ or HDF5."""
    from ..data.events.formats import read_events, write_events

    events = read_events(file, format, sensor, drop_outside=drop_outside, time_unit=time_unit, raw=raw)
    write_events(events, out)
    print_notes(events.notes)
    print(f"{out}: {count(len(events), 'event')}")


def print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}")
