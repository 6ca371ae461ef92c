"""DVS128 Gesture: 11 gestures of 29 people under an event camera (Amir et al. 2017)."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ... import disk
from ..dataset import find_folder, require_split
from ..events.events import Events
from ..events.formats import read_events
from ..events.recordings import Recordings
from .event_folder import by_class, recordings

SIZE = (128, 128)
GESTURES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
    *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)
COUNTS = {"train": 1176, "test": 288}
LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
SPLITS = ("published", "one-per-gesture")
HEADER = ["class", "startTime_usec", "endTime_usec"]


def dvs_gesture(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 16,
    rule: str = "count",
    cache: bool = False,
    part: str = "published",
) -> Recordings:
    """DVS128 Gesture as `spikewise data prepare dvs-gesture` makes it: one file per gesture that somebody made.

    part:            "published": every row of the label files, 1,176 and 288; "one-per-gesture": of a gesture that was made
                     twice in a trial the last one, as in tonic's copy, 1,077 and 264
    T, rule, cache:  as of `nmnist`
    Raises:          FileNotFoundError or ValueError for a folder that is missing or has other classes
    """
    require_split(split, "dvs-gesture")
    bring = "bring it with `spikewise data prepare dvs-gesture --source DvsGesture.tar.gz`"
    folder = find_folder(root, "dvs-gesture", "prepared.json", bring)
    found = by_class(folder / split)
    files = {folder_name(gesture): found.pop(folder_name(gesture), []) for gesture in range(len(GESTURES))}
    if found:
        raise ValueError(f"{folder / split / next(iter(found))} is no gesture's folder; bring the data again")
    if part == "one-per-gesture":
        files = {name: last_of_each_trial(recorded) for name, recorded in files.items()}
    read = partial(read_events, format="npz", size=SIZE)
    return recordings("dvs-gesture", folder, files, T, rule, cache, read, GESTURES)


def last_of_each_trial(files: list[Path]) -> list[Path]:
    return list({path.stem.rpartition("-")[0]: path for path in files}.values())


class Row(NamedTuple):
    """A gesture in a trial: its number, from 0, and when it was made, in microseconds: start <= t < end."""

    gesture: int
    start: int
    end: int


def read_labels(path: Path) -> list[Row]:
    """The rows of a label file.

    Raises:  ValueError for another header, a gesture that is none, or a time that ends before it begins
    """
    lines = text_of(path).splitlines()
    if not lines or [cell.strip() for cell in lines[0].split(",")] != HEADER:
        raise ValueError(
            f"{path} should begin with {','.join(HEADER)}, and begins with {lines[0][:60] if lines else 'nothing'}"
        )
    found = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            gesture, start, end = (int(cell) for cell in line.split(","))
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} should be three whole numbers") from None
        if not 1 <= gesture <= len(GESTURES):
            raise ValueError(f"{path}, line {number}: gesture {gesture} is none of 1 to {len(GESTURES)}")
        if start >= end:
            raise ValueError(f"{path}, line {number}: the gesture ends at {end}, not after {start}, where it begins")
        found.append(Row(gesture - 1, start, end))
    if not found:
        raise ValueError(f"{path} has no gesture")
    return found


def text_of(path: Path) -> str:
    """A small file of text.

    Raises:  ValueError for other bytes
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: byte {error.start:,} is {error.object[error.start]:#04x}; get it again") from None


def trials(source: Path, split: str, *, incomplete: bool) -> list[tuple[Path, Path]]:
    """The recordings of a split and their label files.

    incomplete:  recordings that are missing are left out
    Raises:      ValueError for a list that is missing or empty, or a trial without its files
    """
    listed = source / LISTS[split]
    if not listed.is_file():
        raise ValueError(f"{source} has no {LISTS[split]}, which says who is in the {split} split; get the whole data set")
    names = [line.strip() for line in text_of(listed).splitlines() if line.strip()]
    pairs = [(source / name, source / f"{Path(name).stem}_labels.csv") for name in names]
    if any(Path(name).name != name for name in names):
        raise ValueError(f"{listed} names files in other folders; get the data set again")
    missing = [path for pair in pairs for path in pair if not path.is_file()]
    if missing and not incomplete:
        raise ValueError(
            f"{missing[0]} is missing ({len(missing)} files of the {split} split are); or take what is there: --partial"
        )
    pairs = [pair for pair in pairs if all(path.is_file() for path in pair)]
    if not pairs:
        raise ValueError(f"none of the {len(names)} trials in {listed} is there")
    return pairs


def cut(source: Path, folder: Path, advance: Callable[[int], None], *, incomplete: bool) -> None:
    """Cut the trials into a file per gesture, folder/split/NN_gesture/trial-NN.npz; those that are there are left out."""
    parted = {split: trials(source, split, incomplete=incomplete) for split in LISTS}
    everything = [recording for pairs in parted.values() for recording, _ in pairs]
    if len(set(everything)) < len(everything):
        twice = next(recording for recording in everything if everything.count(recording) > 1)
        raise ValueError(f"{twice.name} is listed twice in {' and '.join(LISTS.values())} of {source}; get the lists again")
    for split, pairs in parted.items():
        for recording, labels in pairs:
            rows = read_labels(labels)
            targets = [
                folder / split / folder_name(row.gesture) / f"{recording.stem}-{i:02}.npz" for i, row in enumerate(rows, 1)
            ]
            if not all(target.is_file() for target in targets):
                events = read_events(recording, "aedat3", SIZE)
                for row, target in zip(rows, targets, strict=True):
                    made = events.between(row.start, row.end)
                    if not len(made):
                        raise ValueError(f"{labels}: no event of {recording.name} lies between {row.start} and {row.end}")
                    if not target.is_file():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        disk.write_stream(target, small_npz(made))
            advance(recording.stat().st_size)


def folder_name(gesture: int) -> str:
    return f"{gesture + 1:02}_{GESTURES[gesture].replace(' ', '_')}"


def small_npz(events: Events) -> Iterator[bytes]:
    """A recording as NPZ, not packed, in the smallest types that hold it: read faster than unpacked."""
    file = io.BytesIO()
    t = events.t if events.t.max() >= 2**31 else events.t.astype(np.int32)
    height, width = events.size
    columns = {"x": events.x.astype(np.uint8), "y": events.y.astype(np.uint8), "p": events.polarity}
    np.savez(file, t=t, **columns, height=height, width=width)  # type: ignore[arg-type]
    yield file.getvalue()
