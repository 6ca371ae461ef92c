"""N-MNIST: handwritten digits seen by a moving event camera (Orchard et al. 2015)."""

import functools
from pathlib import Path, PurePosixPath
from typing import Any

from ..dataset import DatasetEntry, DatasetInfo, PrepareSpec, require_split
from ..events.formats import read_events
from ..events.formats.atis import EVENT_BYTES, NMNIST_SIZE
from ..events.formats.reading import require_whole_events
from ..events.recordings import EventDataset, dataset_by_class
from ..fetch.unpack import archive_bytes, unpack_or_copy
from ..files import count_matches, find_folder

ARCHIVES = ("Train.zip", "Test.zip")
SPLIT_FOLDERS = {"train": "Train", "test": "Test"}
CLASS_NAMES = tuple("0123456789")


def nmnist(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 10,
    split_by: str = "count",
    cache: bool = False,
    fold: int | None = None,
    folds: int = 5,
    **options: Any,
) -> EventDataset:
    """N-MNIST from its folders Train and Test, each with the folders 0 to 9 of `.bin` files.

    T, split_by:  frames per recording, and how events are divided into them; see `EventDataset`
    cache:        whether to keep frames on disk, in the folder .frames of the data set
    options:      further fields of `FrameSpec`: representation, time_window, event_count, tau, filter
    fold, folds:  None is the published split; a number k puts every file whose place in its class is k modulo `folds` into
                  the test split, Train and Test taken together
    Raises:       FileNotFoundError or ValueError for a folder that is missing or empty, or a truncated file
    """
    require_split(split, "nmnist")
    folder = find_folder(root, "nmnist", "Train", "unpack N-MNIST's Train.zip and Test.zip there", "N-MNIST", "nmnist/N-MNIST")
    files = {}
    for name in CLASS_NAMES:
        if fold is None:
            files[name] = list_recordings(folder / SPLIT_FOLDERS[split] / name)
        else:
            everything = list_recordings(folder / "Train" / name) + list_recordings(folder / "Test" / name)
            files[name] = [file for place, file in enumerate(everything) if (place % folds == fold) == (split == "test")]
    read = functools.partial(read_events, format="atis", size=NMNIST_SIZE)
    return dataset_by_class("nmnist", folder, files, T=T, split_by=split_by, cache=cache, read=read, **options)


def list_recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; N-MNIST has the folders 0 to 9 in Train and in Test")
    files = sorted(folder.glob("*.bin"))
    if not files:
        raise ValueError(f"{folder} holds no .bin file; unpack N-MNIST again")
    for file in files:  # checked now, not in the middle of an epoch
        require_whole_events(file, file.stat().st_size, EVENT_BYTES)
    return files


def target_path(work: Path, name: str) -> Path | None:
    """Train/0/00002.bin, at any depth of an archive."""
    parts = PurePosixPath(name).parts[-3:]
    wanted = len(parts) == 3 and parts[0] in SPLIT_FOLDERS.values() and parts[1] in CLASS_NAMES and name.endswith(".bin")
    return work.joinpath(*parts) if wanted and parts[2][0] != "." else None


ENTRY = DatasetEntry(
    nmnist,
    "70,000 recordings of an event camera of 34 x 34 pixels; spikewise data prepare nmnist",
    DatasetInfo(num_train=60_000, num_classes=10, shape=(2, 34, 34), num_test=10_000),
    events=True,
    has_folds=True,
    prepare=PrepareSpec(
        "the folder with N-MNIST's Train.zip and Test.zip",
        functools.partial(archive_bytes, names=ARCHIVES),
        functools.partial(unpack_or_copy, names=ARCHIVES, target_path=target_path),
        {"train": 60_000, "test": 10_000},
        functools.partial(count_matches, patterns={split: f"{folder}/*/*.bin" for split, folder in SPLIT_FOLDERS.items()}),
    ),
)
