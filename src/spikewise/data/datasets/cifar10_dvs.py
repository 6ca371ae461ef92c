"""CIFAR10-DVS: ten thousand images of CIFAR-10, moved before an event camera (Li et al. 2017)."""

from pathlib import Path

import numpy as np

from ..dataset import find_folder, require_split
from ..events.events import Events
from ..events.formats import read_events
from ..events.recordings import Recordings
from ..images.arrays import CIFAR10
from .event_folder import by_class, drawn, recordings

SIZE = (128, 128)
PER_CLASS = 1000
TRAIN = 900
SPLITS = ("published", "seeded")


def cifar10_dvs(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 16,
    rule: str = "count",
    cache: bool = False,
    part: str = "published",
) -> Recordings:
    """CIFAR10-DVS from a folder per class of AEDAT 2.0 files.

    part:            "published": of each class the first nine tenths of the files in the order of their names train, the
                     rest test (900 and 100); "seeded": a tenth of each class, drawn once and for all, tests
    T, rule, cache:  as of `nmnist`
    Raises:          FileNotFoundError or ValueError for a folder that is missing or has other classes
    """
    require_split(split, "cifar10-dvs")
    bring = "bring it with `spikewise data prepare cifar10-dvs --source FOLDER_OF_ZIPS`"
    folder = find_folder(root, "cifar10-dvs", "airplane", bring)
    files = by_class(folder)
    if tuple(files) != tuple(sorted(CIFAR10)):
        raise ValueError(f"{folder} has the classes {', '.join(files)}; CIFAR10-DVS has {', '.join(sorted(CIFAR10))}")
    for name, found in files.items():
        if part == "seeded":
            files[name] = drawn(found, split, f"cifar10-dvs/{name}", 1 - TRAIN / PER_CLASS)
        else:
            train = min(-(-len(found) * TRAIN // PER_CLASS), len(found) - 1)  # rounded up, as published
            files[name] = found[:train] if split == "train" else found[train:]
        if not files[name]:
            raise ValueError(f"{folder / name} has {len(found)} recordings, too few for a {split} split")
    return recordings("cifar10-dvs", folder, files, T, rule, cache, upright)


def upright(path: Path) -> Events:
    """A recording as the published one sees it: x' = 127 - y, y' = 127 - x, polarity' = 1 - polarity."""
    events = read_events(path, "aedat2", SIZE)
    side = np.uint16(SIZE[0] - 1)
    return Events(events.t, side - events.y, side - events.x, np.uint8(1) - events.polarity, SIZE)
