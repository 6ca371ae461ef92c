"""Any folder of event recordings by class."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ... import disk
from ...progress import told_each_minute
from ...wording import count
from ..class_folders import order_classes
from ..dataset import DatasetEntry, require_split
from ..events.events import Events
from ..events.formats import read_events
from ..events.recordings import EventDataset, dataset_by_class, recordings_by_class, seeded_split
from ..events.windows import is_window
from ..files import data_root
from ..messages import CHECK_HINT
from ..validation import choose_held_out

SENSOR_FILE = ".sensor.json"
MAKE_FOLDERS = (
    "make the folders train/CLASS and test/CLASS there (of long recordings `spikewise events cut` does), or say where they are "
    "with --data.root"
)
TEST_EVERY = 5  # without a test folder, one recording of this many is for testing


def event_folder(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 16,
    split_by: str = "count",
    cache: bool = False,
    class_order: str = "natural",
    sensor: tuple[int, int] | None = None,
    time_unit: str | None = None,
    columns: str | None = None,
    **options: Any,
) -> EventDataset:
    """A folder with the folders `train` and `test`, each with a folder per class; or with a folder per class alone.

    Without `train` and `test`, a fifth of each class, drawn with a fixed seed from the sorted names, is the test split; of
    windows that `spikewise events cut` wrote it is chosen by recording (E16), so that neighbours in time are not on both
    sides. Every format of `spikewise events` is read. The sensor is the one that the recordings say, or as large as the
    largest needs; for this all of them are read once. How many files of unknown kinds are skipped is said once.

    T, split_by, cache, options:  as of `nmnist`
    class_order:  "natural": classes that are all numbers by number (1, 2, 10); "text": always as text (1, 10, 2)
    sensor:       (height, width) in pixels that all recordings share; None: as above
    time_unit, columns:  of text and arrays that do not say them, as of `read_events`
    Raises:       FileNotFoundError or ValueError for a folder that is missing, or has no recordings; ValueError for
                  recordings that say different sensors while no sensor is given
    """
    require_split(split, "event-folder")
    folder = require_class_folders(root)
    if (folder / "train").is_dir():
        splits = {"train": recordings_by_class(folder / "train")}
        if not (folder / "test").is_dir():
            raise FileNotFoundError(
                f"{folder} has the folder train, and no folder test: put other recordings there, test/CLASS, or give "
                f"--data.root {folder / 'train'}, of which a fifth is then taken for testing"
            )
        splits["test"] = recordings_by_class(folder / "test")
        if differing := sorted(splits["train"].keys() ^ splits["test"].keys()):
            raise ValueError(
                f"{folder}: the class {differing[0]} is in train or in test, not in both; give both the same classes"
            )
        files, recordings = splits[split], [file for by_class in splits.values() for part in by_class.values() for file in part]
    else:
        by_class = recordings_by_class(folder)
        recordings = [file for part in by_class.values() for file in part]
        files = {name: split_class(name, part, split) for name, part in by_class.items()}
    files = {name: files[name] for name in order_classes(files, class_order, folder)}
    read = functools.partial(read_recording, time_unit=time_unit, columns=columns)
    reading = {name: value for name, value in (("time_unit", time_unit), ("columns", columns)) if value}
    size = sensor or sensor_size(folder, recordings, read, reading)
    reading |= {"sensor": "x".join(map(str, sensor))} if sensor else {}
    return dataset_by_class(
        "event-folder",
        folder,
        files,
        T=T,
        split_by=split_by,
        cache=cache,
        read=functools.partial(read, size=size),
        reading=reading,
        **options,
    )


def require_class_folders(root: str | Path | None = None) -> Path:
    """The folder of the recordings, if it has folders of classes, or of splits.

    Raises:  FileNotFoundError that says what there is
    """
    folder = data_root(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: {MAKE_FOLDERS}")
    entries = [path for path in folder.iterdir() if path.name[0] != "."]
    if not any(path.is_dir() for path in entries):
        held = f"holds {count(len(entries), 'file')} and no folder of a class" if entries else "is empty"
        raise FileNotFoundError(f"no recordings by class: {folder} {held}; {MAKE_FOLDERS}")
    return folder


def read_recording(
    file: Path, size: tuple[int, int] | None = None, time_unit: str | None = None, columns: str | None = None
) -> Events:
    """As `read_events`; of a damaged file with the command that finds all of them."""
    try:
        return read_events(file, size=size, time_unit=time_unit, columns=columns)
    except ValueError as error:
        raise ValueError(f"{error}; {CHECK_HINT}") from None


def split_class(name: str, files: list[Path], split: str) -> list[Path]:
    """The files of a class that are in a split."""
    if len(files) < 2 or not any(is_window(file.name) for file in files):
        return seeded_split(files, split, f"event-folder/{name}", 1 / TEST_EVERY)
    test = {*choose_held_out([file.name for file in files], 1 / TEST_EVERY).tolist()}
    return [file for place, file in enumerate(files) if (place in test) == (split == "test")]


def sensor_size(
    folder: Path, files: Sequence[Path], read: Callable[[Path], Events], reading: dict[str, str]
) -> tuple[int, int]:
    """(height, width) of a sensor that fits every recording: many formats do not store it, and events need not reach its edge.

    It is kept in the folder, where that is writable, until a recording changes.

    reading:  what was said to `read`
    Raises:  ValueError for recordings that say different sensors, or lie beyond the one that the others say
    """
    stats = [(path, path.stat()) for path in files]
    names = "".join(f"{path.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for path, stat in stats)
    names += "".join(f"{name}={value}" for name, value in reading.items())
    stamp, sensor_file = hashlib.sha256(os.fsencode(names)).hexdigest(), folder / SENSOR_FILE
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: computed again
        known = json.loads(sensor_file.read_text())
        if known["stamp"] == stamp:
            return int(known["height"]), int(known["width"])
    told: dict[tuple[int, int], list[Path]] = {}
    needed: dict[tuple[int, int], list[Path]] = {}
    for path in told_each_minute(files, "event-folder: read the sensor of {} of {} recordings"):
        events = read(path)
        (told if events.is_size_told else needed).setdefault(events.size, []).append(path)
    sizes = {*told, *needed}
    height, width = max(height for height, _ in sizes), max(width for _, width in sizes)
    if told and {*told} != {(height, width)}:
        found = "; ".join(describe_sensor(size, told.get(size, []) + needed.get(size, []), folder) for size in sorted(sizes))
        raise ValueError(
            f"{folder} mixes sensors: {found}; keep the recordings of one, or say the sensor that all share: "
            f"sensor=(height, width), in training --data.sensor {height},{width}"
        )
    with contextlib.suppress(OSError):
        disk.atomic_write(sensor_file, json.dumps({"stamp": stamp, "height": height, "width": width}).encode())
    return height, width


def describe_sensor(size: tuple[int, int], files: Sequence[Path], folder: Path) -> str:
    return f"{size[1]} x {size[0]} pixels in {count(len(files), 'recording')} (such as {files[0].relative_to(folder)})"


ENTRY = DatasetEntry(
    event_folder,
    "any folder of recordings by class, in train and test or not",
    events=True,
    class_order=True,
    takes_sensor=True,
    takes_columns=True,
    require_root=require_class_folders,
)
