"""The command `spikewise events cut`: long recordings into windows, a folder by class."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from ..durations import parse_duration
from ..wording import count
from .data import track_files
from .events import AS_TOLD, CanvasSize, Reading, ReadingOptions, SensorCrop, require_size_of_centre
from .options import Json

if TYPE_CHECKING:
    from ..data.events.cut import CutReport
    from ..data.events.labels import Labels, Origin


def cut(
    paths: Annotated[  # one argument: tyro can't tell the last of several words from those before where an option follows
        Positional[tuple[Path, ...]],
        arg(
            metavar="FILE... OUT",
            help="recordings, or folders of them; and last the folder of the windows, OUT/CLASS/*.npz",
            help_behavior_hint="(required)",
        ),
    ],
    every: Annotated[str | None, arg(metavar="TIME", help="length of a window: 200ms, 0.5s, 1500us")] = None,
    events: Annotated[int | None, arg(metavar="INT", help="length of a window as a number of events")] = None,
    stride: Annotated[
        str | None, arg(metavar="TIME|INT", help="from the begin of a window to the next one's; default its length")
    ] = None,
    min_events: Annotated[
        int | None,
        arg(
            metavar="INT",
            help="leave out windows with fewer events; default a tenth of the median window of the recording, or its part",
        ),
    ] = None,
    class_name: Annotated[
        str | None, arg(name="class", metavar="NAME", help="of all recordings; default the name of the folder each is in")
    ] = None,
    labels: Annotated[
        Path | None,
        arg(
            metavar="FILE|FOLDER",
            help="CSV with the columns class, start, end; of several recordings the folder of NAME_labels.csv or NAME.csv",
        ),
    ] = None,
    size: CanvasSize = None,
    crop: SensorCrop = "none",
    labels_unit: Annotated[
        str | None,
        arg(
            metavar="UNIT",
            help="of the times in --labels: s, ms, us, ns; default as the columns' names say (start_ms), else us",
        ),
    ] = None,
    labels_from: Annotated[
        Literal["start", "clock"] | None,
        arg(
            metavar="start|clock",
            help="times in --labels count from the recording's first event, or are its clock's; default the clock's, but "
            "refused where they reach beyond the events by more than a window",
        ),
    ] = None,
    overlapping_labels: Annotated[bool, arg(help="allow labels of different classes at the same time; else refused")] = False,
    reading: ReadingOptions = AS_TOLD,
    as_json: Json = False,
) -> None:
    """Cut recordings into windows, a folder by class for event-folder; interrupted, it continues.

    What is wrong with one of several does not stop the others; then the exit status is 1.
    """
    from ..data.events.cut import Cut, cut_recordings
    from ..data.events.labels import Labels, Part, read_labels, require_class

    if len(paths) < 2:
        raise ValueError("events cut needs recordings and a folder: spikewise events cut FILE... OUT --every 200ms")
    if (every is None) == (events is None):
        raise ValueError("say how long a window is: either --every 200ms, or --events 20000")
    require_size_of_centre(size, crop)
    length, step = (events, parse_count) if every is None else (parse_duration(every), parse_duration)
    assert length is not None, "one of the two was given"
    how = Cut("events" if every is None else "us", length, step(stride) if stride else None, min_events, size, crop)
    files, skipped = list_recordings(paths[:-1])
    if labels is None:
        require_labels({"--labels-unit": labels_unit, "--labels-from": labels_from, "--overlapping-labels": overlapping_labels})
        sources = [(file, Labels([Part(require_class(class_name or file.absolute().parent.name))])) for file in files]
    elif class_name is not None:
        raise ValueError("--labels says the classes; leave out --class")
    else:
        tables = [labels_file(file, labels, alone=len(files) == 1) for file in files]
        origin = choose_origin(labels_from, reading)
        found = [read_labels(table, labels_unit, origin, may_overlap=overlapping_labels) for table in tables]
        sources = list(zip(files, found, strict=True))
    cutting = cut_recordings(sources, paths[-1], how, reading.read)
    reports = list(track_files(cutting, len(sources)))
    report_cut(paths[-1], sources, reports, skipped, as_json=as_json)


def report_cut(
    out: Path, sources: "Sequence[tuple[Path, Labels]]", reports: "Sequence[CutReport]", skipped: int, *, as_json: bool
) -> None:
    """Print what was cut and what was left out.

    skipped: files of unknown kinds
    Raises:  ValueError where nothing was cut; SystemExit of status 1 where a recording could not be
    """
    from ..data.class_folders import WINDOWS_MANIFEST
    from .main import error_message

    windows, few, seconds = (sum(getattr(report, name) for report in reports) for name in ("windows", "few", "seconds"))
    classes = {label for report in reports for label in report.classes}
    notes, failed = [], {}
    for (file, _), report in zip(sources, reports, strict=True):
        notes += [f"{file}: {note}" for note in report.notes]
        if report.error:
            failed[str(file)] = error_message(report.error)
        elif not report.windows:
            few_here = f"{count(report.few, 'window')} with too few events" if report.few else "no part as long as a window"
            notes.append(f"{file} gives no window: it has {few_here}")
    labels = {
        part.label for (_, found), report in zip(sources, reports, strict=True) if not report.error for part in found.parts
    }
    notes += [f"no window shows the class {label!r}" for label in sorted(labels - classes)]
    notes += [f"classes differ in case alone: {', '.join(alike)}" for alike in alike_but_for_case(labels)]
    facts = {"folder": str(out), "recordings": len(sources), "classes": len(classes), "windows": windows, "seconds": seconds}
    facts |= {"few_events": few, "rest_seconds": sum(report.rest_us for report in reports) / 1e6, "other_files": skipped}
    if as_json:
        print(json.dumps(facts | {"notes": notes, "errors": failed}))
    else:
        for note in notes:
            print(f"note: {note}")
        few_events = f"{count(few, 'window')} with too few events" if few else ""
        rest = f"{facts['rest_seconds']:.6g} s at ends, shorter than a window" if facts["rest_seconds"] else ""
        others = f"{count(skipped, 'file')} of unknown kinds" if skipped else ""
        if left_out := ", ".join(filter(None, (few_events, rest, others))):
            print(f"left out: {left_out}")
        if windows:
            print(
                f"{out}: {count(windows, 'window')} of {count(len(sources) - len(failed), 'recording')}, {seconds:.6g} s, in "
                f"{count(len(classes), 'class')}; {WINDOWS_MANIFEST} says where each is from"
            )
        for message in failed.values():
            print(f"spikewise: {message}", file=sys.stderr)
    if not windows:
        hint = "see what is said above" if failed else "take shorter windows (--every, --events), or fewer --min-events"
        raise ValueError(f"nothing was cut into {out}: {hint}")
    if failed:
        print(f"spikewise: {len(failed):,} of {count(len(sources), 'recording')} could not be cut", file=sys.stderr)
        raise SystemExit(1)


def alike_but_for_case(names: Iterable[str]) -> list[list[str]]:
    """Names that differ in capital letters alone, which are one folder on some computers."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(name.casefold(), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def parse_count(text: str) -> int:
    """A number of events, 1 or more.

    Raises:  ValueError
    """
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--stride {text!r} is no number of events; with --events use 1 or more")
    return int(text)


def list_recordings(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Files as they are, of folders all recordings in them; and how many other files were skipped.

    Raises:  ValueError for a folder without recordings
    """
    from ..data.class_folders import find_files
    from ..data.events.formats import SHOWN_SUFFIXES, SUFFIXES, may_be_recording

    recordings, skipped = [], 0
    for path in paths:
        if not path.is_dir():
            recordings.append(path)
            continue
        found = find_files(path.parent, path.name or ".", SUFFIXES, may_be_recording)
        if not found.samples:
            raise ValueError(f"{path} holds no recording ({SHOWN_SUFFIXES})")
        recordings += [path.parent / name for name in found.samples]
        skipped += len(found.unknown)
    return recordings, skipped


def require_labels(options: Mapping[str, object]) -> None:
    """Refuse options of a table of labels, by their names, where there is none."""
    if given := next((name for name, value in options.items() if value), None):
        raise ValueError(f"{given} is for a table of labels: give --labels, or leave it out")


def choose_origin(labels_from: "Origin | None", reading: Reading) -> "Origin | None":
    """What labels count from; of a part of a recording the clock, as labels beyond the part are no sign of a mistake.

    Raises:  ValueError for labels from the first event of a recording whose beginning is not read
    """
    if labels_from == "start" and reading.start:
        raise ValueError(
            "--labels-from start counts from the recording's first event, which --from leaves out; use one of them"
        )
    is_part = reading.start is not None or reading.end is not None
    return "clock" if labels_from is None and is_part else labels_from


def labels_file(file: Path, labels: Path, *, alone: bool) -> Path:
    """The table of labels of a recording: the file given, or the one in the folder given that has the recording's name.

    alone:   whether it is the only recording, so that a single file of labels is its
    Raises:  ValueError, FileNotFoundError
    """
    if not labels.is_dir():
        if not alone:
            raise ValueError(f"{labels} labels one recording; of several give the folder of their NAME_labels.csv")
        return labels
    for name in (f"{file.stem}_labels.csv", f"{file.stem}.csv"):
        if (labels / name).is_file():
            return labels / name
    raise FileNotFoundError(f"{labels} has neither {file.stem}_labels.csv nor {file.stem}.csv, for {file}")
