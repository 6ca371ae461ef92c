"""Any folder of event recordings by class."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ... import disk
from ..dataset import require_split
from ..events.events import Events
from ..events.formats import FORMATS, read_events
from ..events.recordings import CACHE, Files, Recordings
from ..sampler import generator

SUFFIXES = frozenset(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
SENSOR = ".sensor.json"
SHARE = 5  # where there is no test split, one recording of so many is one


def event_folder(
    split: str, root: str | Path | None = None, *, T: int = 16, rule: str = "count", cache: bool = False
) -> Recordings:
    """A folder with the folders `train` and `test`, each with a folder per class; or with a folder per class alone.

    Then a fifth of each class, drawn once and for all from the names in order, is the test split. Every format of
    `spikewise events` is read; the sensor is as large as the largest recording's, for which all of them are read once.

    T, rule, cache:  as of `nmnist`
    Raises:          FileNotFoundError or ValueError for a folder that is missing, or has no recordings
    """
    require_split(split, "event-folder")
    folder = Path(root or os.environ.get("SPIKEWISE_DATA") or "data")
    if (folder / "train").is_dir():
        both = {part: by_class(folder / part) for part in ("train", "test")}
        if both["train"].keys() != both["test"].keys():
            only = sorted(both["train"].keys() ^ both["test"].keys())
            raise ValueError(f"{folder}: the class {only[0]} is in train or in test, not in both; give both the same classes")
        size = sensor_of(folder, [file for part in both.values() for found in part.values() for file in found])
        files = both[split]
    else:
        everything = by_class(folder)
        size = sensor_of(folder, [file for found in everything.values() for file in found])
        files = {name: drawn(found, split, f"event-folder/{name}", 1 / SHARE) for name, found in everything.items()}
    return recordings("event-folder", folder, files, T, rule, cache, partial(read_events, size=size))


def by_class(folder: Path) -> dict[str, list[Path]]:
    """The recordings of each class, in the order of their names; hidden files and folders are none.

    Raises:  FileNotFoundError or ValueError for a folder that is missing, or a class without recordings
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; say where the recordings are with --data.root")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {}
    for path in classes:
        found[path.name] = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
        if not found[path.name]:
            raise ValueError(
                f"the class {path} has no recording; it may hold {', '.join(sorted(SUFFIXES))}; remove it, or fill it"
            )
    if len(found) < 2:
        raise ValueError(f"{folder} has {len(found)} classes, where there should be a folder for each of two or more")
    return found


def drawn(files: Sequence[Path], split: str, key: str, share: float) -> list[Path]:
    """The part of a class's files that is in a split, in their order; drawn from the names in order, whatever the machine."""
    order = generator(0, key).permutation(len(files))
    test = set(order[: max(1, round(len(files) * share))].tolist())
    if len(files) < 2:
        raise ValueError(f"{files[0].parent} has one recording: it can't be split; make folders `train` and `test`")
    return [file for place, file in enumerate(files) if (place in test) == (split == "test")]


def sensor_of(folder: Path, files: Sequence[Path]) -> tuple[int, int]:
    """(height, width) that holds every recording: many formats do not tell it, and their events need not reach its border.

    It is kept in the folder, where that can be written, until a recording changes.
    """
    abouts = [(path, path.stat()) for path in files]
    names = "".join(f"{path.relative_to(folder)}\0{about.st_size}\0{about.st_mtime_ns}\n" for path, about in abouts)
    stamp, kept = hashlib.sha256(os.fsencode(names)).hexdigest(), folder / SENSOR
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one: made again
        about = json.loads(kept.read_text())
        if about["stamp"] == stamp:
            return int(about["height"]), int(about["width"])
    sizes = [read_events(path).size for path in files]
    height, width = max(height for height, _ in sizes), max(width for _, width in sizes)
    with contextlib.suppress(OSError):
        disk.atomic_write(kept, json.dumps({"stamp": stamp, "height": height, "width": width}).encode())
    return height, width


def recordings(
    name: str,
    folder: Path,
    files: dict[str, list[Path]],
    T: int,
    rule: str,
    cache: bool,
    read: Callable[[Path], Events],
    class_names: tuple[str, ...] = (),
) -> Recordings:
    """Recordings of these files, of which each class's stand under its name, in the order of the classes."""
    labels = [np.full(len(found), label, dtype=np.int64) for label, found in enumerate(files.values())]
    return Recordings(
        name=name,
        files=Files(folder, (file.relative_to(folder) for found in files.values() for file in found)),
        labels=np.concatenate(labels),
        class_names=class_names or tuple(files),
        T=T,
        read=read,
        rule=rule,
        cache=folder / CACHE if cache else None,
    )
