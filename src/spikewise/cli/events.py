"""The commands `spikewise events` of single recordings: info, show, convert, frames."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from ..config import DURATION, Data
from ..durations import format_duration, format_rate
from ..wording import count
from .options import Format, Json, Recording

if TYPE_CHECKING:
    from ..data.events import Events

Time = Annotated[int | None, DURATION]
DEFAULTS = Data()
GUESSED_SENSOR = " (the smallest that fits all events; the file says none, --sensor does)"
Salvage = Annotated[bool, arg(help="of a damaged file, take the events before the damage, and say how much that is")]
CanvasSize = Annotated[
    int | tuple[int, int] | None,
    arg(help="bin the events onto so many pixels, the side of a square or height,width; default the sensor's"),
]
SensorCrop = Annotated[
    Literal["none", "centre"] | tuple[int, int, int, int],
    arg(help="what is kept: the sensor, its largest centred part of the size's proportions, or top,left,height,width"),
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a recording is read, and which of its events."""

    format: Format = None
    sensor: Annotated[
        tuple[int, int] | None,
        arg(metavar="HEIGHT,WIDTH", help="in pixels; default as the file says, else the usual camera's or what fits"),
    ] = None
    drop_outside: Annotated[bool, arg(help="leave out events outside the sensor, and few far apart in time; say how many")] = (
        False
    )
    time_unit: Annotated[
        str | None,
        arg(
            metavar="UNIT", help="of times in NPZ, NPY, HDF5 and text: s, ms, us, ns; default as the file tells, or numbers do"
        ),
    ] = None
    columns: Annotated[
        str | None,
        arg(metavar="T,X,Y,P", help="order of the columns of text and tables, _ for others; default as the file tells"),
    ] = None
    stream: Annotated[
        str | None, arg(metavar="NAME", help="which camera of a file, or recording of a zip file, with several")
    ] = None
    raw: Annotated[bool, arg(help="AEDAT 2.0: columns, rows and polarities as the addresses have them, and not upright")] = (
        False
    )
    start: Annotated[Time, arg(name="from", help="only events from here, after the earliest: 500us, 20ms, 2s, 1.5min")] = None
    end: Annotated[Time, arg(name="to", help="only events before here, likewise")] = None
    filter: Annotated[
        str, arg(metavar="NAME=VALUE,...", help="of noise: `spikewise list filters`; hot_pixels=500,background=10ms")
    ] = ""

    def read(self, file: Path, *, salvage: bool = False) -> "Events":
        """The events; their notes say what was left out."""
        from ..data.events import apply_filters, read_events

        whole = read_events(
            file,
            self.format,
            self.sensor,
            drop_outside=self.drop_outside,
            time_unit=self.time_unit,
            columns=self.columns,
            stream=self.stream,
            raw=self.raw,
            salvage=salvage,
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
AS_TOLD = Reading()  # as the file itself says


def info(
    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE")],
    reading: ReadingOptions = AS_TOLD,
    as_json: Json = False,
) -> None:
    """Counts, rate, duration and sensor of recordings.

    What is wrong with one of several does not stop the others; then the exit status is 1.

    Args:
        files: recordings of any known format; as JSON, a line each
    """
    if not files:
        raise ValueError("events info needs a recording: spikewise events info FILE")

    def describe(file: Path) -> None:
        from ..data.events.formats import detect_format
        from ..data.events.summary import summarize_events

        events = reading.read(file)
        name = reading.format or detect_format(file, reading.stream)
        facts = {"file": str(file), "format": name} | summarize_events(events)
        print(json.dumps(facts) if as_json else "\n".join(describe_facts(facts)))

    each_file(files, describe, as_json=as_json)


def describe_facts(facts: dict[str, Any]) -> Iterator[str]:
    """What `events info` prints of a recording, line by line."""
    from ..data.events.formats import FORMATS

    yield f"{facts['file']}: {FORMATS[facts['format']].description}"
    yield f"  events       {facts['events']:,}, {100 * facts['on_fraction']:.1f} % of them ON (brighter)"
    yield f"  duration     {format_duration(facts['duration_s'])}, {format_rate(facts['rate'])}"
    guess = "" if facts["is_sensor_told"] else GUESSED_SENSOR
    yield f"  sensor       {facts['sensor']} pixels{guess}, {100 * facts['active_pixels']:.1f} % of them with events"
    if pixel := facts["most_active_pixel"]:
        yield f"  most active  x={pixel['x']}, y={pixel['y']} with {count(pixel['events'], 'event')}"
    if not facts["is_time_sorted"]:
        yield "  times        run backwards somewhere"
    for note in facts["notes"]:
        yield f"  note         {note}"


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
    reading: ReadingOptions = AS_TOLD,
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
    others: Annotated[
        Positional[tuple[Path, ...]],
        arg(
            metavar="OUT",
            help="ends with .npz, .h5 or .hdf5; or further recordings, then a folder for NPZ files of the recordings' names",
        ),
    ],
    size: CanvasSize = None,
    crop: SensorCrop = "none",
    salvage: Salvage = False,
    reading: ReadingOptions = AS_TOLD,
) -> None:
    """Write recordings as NPZ or HDF5.

    What is wrong with one of several does not stop the others; then the exit status is 1.
    """
    from ..data.events.downsample import downsample
    from ..data.events.formats import write_events

    require_size_of_centre(size, crop)
    if not others:
        raise ValueError("events convert needs a recording and what is written: spikewise events convert FILE... OUT")
    *files, out = (file, *others)
    targets = choose_targets(files, out)

    def write(file: Path) -> None:
        events = reading.read(file, salvage=salvage)
        seen = downsample(events, size, crop, in_place=True)
        write_events(seen, targets[file])
        print_notes(events)
        print_cut_away(len(events) - len(seen))
        sensor = f"{seen.size[1]} x {seen.size[0]} pixels{'' if events.is_size_told else GUESSED_SENSOR}"
        print(f"{targets[file]}: {count(len(seen), 'event')}, {sensor}")

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


def frames(
    file: Recording,
    out: Annotated[Positional[Path], arg(metavar="OUT", help="ends with .npy or .npz; or .png, a picture of the frames")],
    num_frames: Annotated[int | None, arg(metavar="INT")] = None,
    split_by: Annotated[str | None, arg(metavar="STR")] = None,
    representation: str = DEFAULTS.representation,
    time_window: Time = None,
    event_count: Annotated[int | None, arg(metavar="INT")] = None,
    tau: Time = DEFAULTS.tau,
    size: CanvasSize = None,
    crop: SensorCrop = "none",
    reading: ReadingOptions = AS_TOLD,
) -> None:
    """Write a recording as frames [T, 2, H, W], or draw them: counts, surfaces or a voxel grid.

    Args:
        num_frames: default 16, as in runs; with a time window or an event count as many as it takes
        split_by: into frames of equally many events, count, or of equal duration, duration; default count, with a time window
            duration
        representation: what a frame holds, of `spikewise list representations`
        time_window: of each frame, as 10ms: split by duration
        event_count: events of each frame: split by count
        tau: by which time surfaces decay
    """
    from ..data.events.downsample import downsample
    from ..data.events.frames import FrameSpec, require_frames_file, smallest_type, write_frames

    if num_frames is None and time_window is None and event_count is None:
        num_frames = DEFAULTS.num_frames
    if tau != DEFAULTS.tau and representation != "time_surface":
        raise ValueError(f"--tau changes nothing in {representation}; it is for --representation time_surface")
    if split_by is None:
        split_by = DEFAULTS.split_by if time_window is None else "duration"
    spec = FrameSpec(num_frames, split_by, representation, time_window, event_count, tau or 0)
    require_size_of_centre(size, crop)
    require_another_file(file, out)
    require_frames_file(out)
    recording = reading.read(file)
    if not len(recording):
        raise ValueError(f"{file}: there are no frames to write: the recording has no events")
    whole = spec.select(recording)
    events = downsample(whole, size, crop)
    found = smallest_type(spec.frames(events))
    write_frames(found, out)
    print_notes(whole)
    print_cut_away(len(whole) - len(events))
    T, channels, height, width = found.shape
    print(f"{out}: {count(T, 'frame')} [{T}, {channels}, {height}, {width}] {found.dtype} of {count(len(events), 'event')}")


def require_another_file(file: Path, out: Path) -> None:
    """Refuse to write over the recording that is read."""
    if file.exists() and out.exists() and out.samefile(file):
        raise ValueError(f"{out} is the recording itself; name another file")


def require_size_of_centre(size: object, crop: object) -> None:
    if crop == "centre" and size is None:
        raise ValueError("--crop centre takes the largest part of the size's proportions: say the size, --size 128")


def print_notes(events: "Events") -> None:
    for note in events.notes:
        print(f"note: {note}")


def print_cut_away(events: int) -> None:
    if events:
        print(f"note: {count(events, 'event')} outside the crop left out")
