"""The commands `spikewise events`: recordings of event cameras."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ..wording import count
from .options import Format, Json, Recording

Sensor = Annotated[
    tuple[int, int] | None,
    arg(metavar="HEIGHT,WIDTH", help="the sensor in pixels; default as the file says, else the usual camera's or what fits"),
]
DropOutside = Annotated[bool, arg(help="leave out events outside the sensor, and say how many; else they are refused")]
TimeUnit = Annotated[
    str | None,
    arg(metavar="UNIT", help="of times in NPZ, NPY, HDF5 and text: s, ms, us, ns; default as the file tells, else us"),
]
Columns = Annotated[
    str | None, arg(metavar="T,X,Y,P", help="order of the columns of text and tables, _ for others; default as the file tells")
]
Stream = Annotated[str | None, arg(metavar="NAME", help="which camera of a file, or recording of a zip file, with several")]
Raw = Annotated[bool, arg(help="AEDAT 2.0: columns, rows and polarities as the addresses have them, and not upright")]
Salvage = Annotated[bool, arg(help="of a damaged file, take the events before the damage, and say how much that is")]


def info(
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE")],
    format: Format = None,
    sensor: Sensor = None,
    drop_outside: DropOutside = False,
    time_unit: TimeUnit = None,
    columns: Columns = None,
    stream: Stream = None,
    raw: Raw = False,
    as_json: Json = False,
) -> None:
    """Counts, rate, duration and sensor of recordings.

    What is wrong with one of several does not stop the others; then the exit status is 1.

    Args:
        files: recordings of any known format; as JSON, a line each
    """
    if not files:
        raise ValueError("events info needs a recording: spikewise events info FILE")
    options = {"drop_outside": drop_outside, "time_unit": time_unit, "columns": columns, "stream": stream, "raw": raw}

    def describe(file: Path) -> None:
        from ..data.events.formats import detect_format, read_events
        from ..data.events.summary import summarize_events

        events = read_events(file, format, sensor, **options)  # type: ignore[arg-type]
        name = format or detect_format(file, stream)
        facts = {"file": str(file), "format": name} | summarize_events(events)
        print(json.dumps(facts) if as_json else "\n".join(describe_facts(facts)))

    each_file(files, describe, as_json=as_json)


def describe_facts(facts: dict[str, Any]) -> Iterator[str]:
    """What `events info` prints of a recording, line by line."""
    from ..data.events.formats import FORMATS

    yield f"{facts['file']}: {FORMATS[facts['format']].description}"
    yield f"  events     {facts['events']:,}, {100 * facts['on_fraction']:.1f} % of them ON (brighter)"
    yield f"  duration   {facts['duration_s']:.6g} s, {facts['rate']:,.0f} events per second"
    guess = "" if facts["is_sensor_told"] else " (the smallest that fits; the file says none)"
    yield f"  sensor     {facts['sensor']} pixels{guess}, {100 * facts['active_pixels']:.1f} % of them with events"
    if pixel := facts["most_active_pixel"]:
        yield f"  most active  x={pixel['x']}, y={pixel['y']} with {count(pixel['events'], 'event')}"
    if not facts["is_time_sorted"]:
        yield "  times run backwards somewhere"
    for note in facts["notes"]:
        yield f"  note       {note}"


def each_file(files: Sequence[Path], work: Callable[[Path], None], *, as_json: bool = False) -> None:
    """Do something with every file; what is wrong with one of several is told, and the others go on.

    Raises:  SystemExit of status 1 where one of several failed; with one file, its error
    """
    from .main import error_message

    failed = 0
    for file in files:
        try:
            work(file)
        except (ValueError, OSError) as error:
            if len(files) == 1:
                raise
            failed += 1
            if as_json:
                print(json.dumps({"file": str(file), "error": error_message(error)}))
            else:
                print(f"spikewise: {error_message(error)}", file=sys.stderr)
    if failed:
        print(f"spikewise: {failed:,} of {count(len(files), 'file')} could not be read", file=sys.stderr)
        raise SystemExit(1)


def show(
    file: Recording,
    out: Annotated[Path | None, arg(metavar="FILE")] = None,
    num_frames: int = 8,
    seconds: Annotated[float | None, arg(metavar="FLOAT")] = None,
    format: Format = None,
    sensor: Sensor = None,
    drop_outside: DropOutside = False,
    time_unit: TimeUnit = None,
    columns: Columns = None,
    stream: Stream = None,
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
    options = {"drop_outside": drop_outside, "time_unit": time_unit, "columns": columns, "stream": stream, "raw": raw}
    events = read_events(file, format, sensor, **options)  # type: ignore[arg-type]
    plot_recording(events, out, frames=num_frames, seconds=seconds)
    print_notes(events.notes)
    print(out)


def convert(
    file: Recording,
    others: Annotated[
        Positional[tuple[Path, ...]],
        arg(
            metavar="OUT",
            help="ends with .npz, .h5 or .hdf5; or further recordings, then a folder for NPZ files of the recordings' names",
        ),
    ],
    format: Format = None,
    sensor: Sensor = None,
    drop_outside: DropOutside = False,
    time_unit: TimeUnit = None,
    columns: Columns = None,
    stream: Stream = None,
    raw: Raw = False,
    salvage: Salvage = False,
) -> None:
    """Write recordings as NPZ or HDF5.

    What is wrong with one of several does not stop the others; then the exit status is 1.
    """
    from ..data.events.formats import read_events, write_events

    if not others:
        raise ValueError("events convert needs a recording and what is written: spikewise events convert FILE... OUT")
    *files, out = (file, *others)
    targets = choose_targets(files, out)
    options = {"drop_outside": drop_outside, "time_unit": time_unit, "columns": columns, "stream": stream, "raw": raw}

    def write(file: Path) -> None:
        events = read_events(file, format, sensor, salvage=salvage, **options)  # type: ignore[arg-type]
        write_events(events, targets[file])
        print_notes(events.notes)
        print(f"{targets[file]}: {count(len(events), 'event')}")

    each_file(files, write)


def choose_targets(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """What each recording is written into: the file `out`, or NPZ files in the folder `out`, which is made.

    Raises:  ValueError for several recordings into one file, two of one name, or a file that would be replaced by itself
    """
    from ..data.events.formats import SUFFIXES, require_writable

    if len(files) == 1 and not out.is_dir():
        require_writable(out)
        targets = {files[0]: out}
    elif out.suffix and not out.is_dir():
        raise ValueError(f"{count(len(files), 'recording')} can't be written into the file {out}; name a folder")
    else:
        suffixes = sorted(SUFFIXES, key=len, reverse=True)
        endings = {file: next((suffix for suffix in suffixes if file.name.lower().endswith(suffix)), "") for file in files}
        targets = {file: out / f"{file.name[: len(file.name) - len(ending)]}.npz" for file, ending in endings.items()}
        names = [target.name for target in targets.values()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{names.count(twice)} of the recordings would become {out / twice}; convert them one by one")
        out.mkdir(parents=True, exist_ok=True)
    for file, target in targets.items():
        if target.exists() and file.exists() and target.samefile(file):
            raise ValueError(f"{file} would replace itself; name another file, or a folder")
    return targets


def print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}")
