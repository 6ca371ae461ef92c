"""N-MNIST: handwritten digits seen by a moving event camera (Orchard et al. 2015)."""

from functools import partial
from pathlib import Path

import numpy as np

from ..dataset import find_folder, require_split
from ..events.formats.atis import NMNIST as SIZE
from ..events.formats.atis import read_atis
from ..events.recordings import CACHE, Files, Recordings


def nmnist(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 10,
    rule: str = "count",
    cache: bool = False,
    fold: int | None = None,
    folds: int = 5,
) -> Recordings:
    """N-MNIST from its folders Train and Test, each with the folders 0 to 9 of `.bin` files.

    split:        "train" or "test"
    T, rule:      frames per recording, and how it is cut: by "count" or by "duration"
    cache:        whether frames are kept in the folder, under .frames
    fold, folds:  None is the published split; a number k puts every file whose place in its class is k modulo `folds` into
                  the test split, Train and Test taken together
    Raises:       FileNotFoundError or ValueError for a folder that is missing or empty
    """
    require_split(split, "nmnist")
    folder = find_folder(root, "nmnist", "Train", "unpack N-MNIST's Train.zip and Test.zip there", "N-MNIST", "nmnist/N-MNIST")
    files: list[Path] = []
    labels: list[int] = []
    for label in range(10):
        if fold is None:
            chosen = list_files(folder / split.capitalize() / str(label))
        else:
            everything = list_files(folder / "Train" / str(label)) + list_files(folder / "Test" / str(label))
            chosen = [file for place, file in enumerate(everything) if (place % folds == fold) == (split == "test")]
        files += chosen
        labels += [label] * len(chosen)
    return Recordings(
        name="nmnist",
        files=Files(folder, (file.relative_to(folder) for file in files)),
        labels=np.array(labels, dtype=np.int64),
        class_names=tuple("0123456789"),
        T=T,
        read=partial(read_atis, size=SIZE),
        rule=rule,
        cache=folder / CACHE if cache else None,
    )


def list_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; N-MNIST has the folders 0 to 9 in Train and in Test")
    files = sorted(folder.glob("*.bin"))
    if not files:
        raise ValueError(f"{folder} holds no .bin file; unpack N-MNIST again")
    for file in files:  # now, not in the middle of an epoch
        size = file.stat().st_size
        if not size:
            raise ValueError(f"{file} is empty; unpack it again")
        if size % 5:
            raise ValueError(
                f"{file} was cut: the event at byte {size - size % 5:,} has {size % 5} of 5 bytes; unpack it again"
            )
    return files
