"""CIFAR10-DVS: ten thousand images of CIFAR-10, moved in front of an event camera (Li et al. 2017)."""

import dataclasses
import functools
from pathlib import Path, PurePosixPath

from ...wording import count
from ..dataset import DatasetEntry, DatasetInfo, PrepareSpec, require_split
from ..events.events import Events
from ..events.formats import read_events
from ..events.recordings import EventDataset, dataset_by_class, recordings_by_class, seeded_split
from ..fetch.unpack import archive_bytes, unpack_or_copy
from ..files import count_matches, find_folder
from .cifar import CIFAR10_CLASSES

SIZE = (128, 128)
CLASS_NAMES = tuple(sorted(CIFAR10_CLASSES))
ARCHIVES = tuple(f"{name}.zip" for name in CLASS_NAMES)
PER_CLASS = 1000
TRAIN_PER_CLASS = 900


def cifar10_dvs(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 16,
    split_by: str = "count",
    cache: bool = False,
    split_variant: str = "published",
) -> EventDataset:
    """CIFAR10-DVS from a folder of AEDAT 2.0 files per class.

    split_variant:       "published": the first nine tenths of each class, in the order of the file names, are for training
                         and the rest for testing (900 and 100); "seeded": a tenth of each class, drawn with a fixed seed,
                         is for testing
    T, split_by, cache:  as of `nmnist`
    Raises:              FileNotFoundError or ValueError for a folder that is missing or has other classes
    """
    require_split(split, "cifar10-dvs")
    hint = "get it with `spikewise data prepare cifar10-dvs --source FOLDER_OF_ZIPS`"
    folder = find_folder(root, "cifar10-dvs", "airplane", hint)
    files = recordings_by_class(folder)
    if tuple(files) != CLASS_NAMES:
        raise ValueError(f"{folder} has the classes {', '.join(files)}; CIFAR10-DVS has {', '.join(CLASS_NAMES)}")
    for name, recordings in files.items():
        if split_variant == "seeded":
            files[name] = seeded_split(recordings, split, f"cifar10-dvs/{name}", 1 - TRAIN_PER_CLASS / PER_CLASS)
        else:
            # rounded up, as published
            num_train = min(-(-len(recordings) * TRAIN_PER_CLASS // PER_CLASS), len(recordings) - 1)
            files[name] = recordings[:num_train] if split == "train" else recordings[num_train:]
        if not files[name]:
            raise ValueError(f"{folder / name} has {count(len(recordings), 'recording')}, too few for a {split} split")
    return dataset_by_class("cifar10-dvs", folder, files, T=T, split_by=split_by, cache=cache, read=read_published_orientation)


def read_published_orientation(path: Path) -> Events:
    """A recording, turned as in the published data set: columns and rows of the upright one exchanged.

    Of the addresses: x' = 127 - y, y' = 127 - x, polarity' = 1 - polarity.
    """
    events = read_events(path, "aedat2", SIZE)
    return dataclasses.replace(events, x=events.y, y=events.x)


def target_path(work: Path, name: str) -> Path | None:
    """airplane/cifar10_airplane_0.aedat; the class is in the file name."""
    file = PurePosixPath(name).name
    class_name = next((known for known in CLASS_NAMES if file.startswith(f"cifar10_{known}_")), None)
    return work / class_name / file if class_name and file.endswith(".aedat") else None


ENTRY = DatasetEntry(
    cifar10_dvs,
    "10,000 recordings of moved images, 128 x 128 pixels; spikewise data prepare cifar10-dvs",
    DatasetInfo(num_train=9000, num_classes=10, shape=(2, 128, 128)),
    events=True,
    split_variants=("published", "seeded"),
    prepare=PrepareSpec(
        "the folder with CIFAR10-DVS's airplane.zip to truck.zip",
        functools.partial(archive_bytes, names=ARCHIVES),
        functools.partial(unpack_or_copy, names=ARCHIVES, target_path=target_path),
        dict.fromkeys(CLASS_NAMES, PER_CLASS),
        functools.partial(count_matches, patterns={name: f"{name}/*.aedat" for name in CLASS_NAMES}),
    ),
)
