"""A part of the training split that is held out, to choose the best epoch by."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .dataset import Dataset
from .events.windows import recording_of
from .files import PathArray
from .subset import Subset


def split_validation(data: Dataset, fraction: float) -> tuple[Subset, Subset]:
    """The samples that are trained on, and those of a share of each class that are held out (E16).

    fraction:  share of each class, above 0 and below 1; at least one sample, and never all
    Raises:    ValueError for a class of one sample
    """
    files = getattr(data, "files", None)
    names = [files.name(i) if isinstance(files, PathArray) else str(i) for i in range(len(data.labels))]
    held_out = np.zeros(len(names), bool)
    for label in np.unique(data.labels):
        of_class = np.flatnonzero(data.labels == label)
        if len(of_class) < 2:
            raise ValueError(
                f"{data.name}: the class {data.class_names[label]} has one sample, which can't be trained on and held out; "
                "leave data.validation at 0.0"
            )
        held_out[of_class[choose_held_out([names[i] for i in of_class], fraction)]] = True
    return Subset(data, np.flatnonzero(~held_out)), Subset(data, np.flatnonzero(held_out))


def choose_held_out(names: Sequence[str], fraction: float) -> np.ndarray:
    """Which of these samples of a class, two or more, are held out: int64, a function of their names alone (E16).

    Recordings follow each other in the order of a hash of their names, and their windows from the last to the first. So all
    windows of a recording are on one side, but for one recording, which is divided at one moment.
    """
    number = min(max(1, round(fraction * len(names))), len(names) - 1)

    def place(index: int) -> tuple[Any, ...]:
        recording, window = recording_of(names[index])
        digest = hashlib.blake2b(f"validation {recording}".encode(errors="surrogateescape"), digest_size=8).digest()
        return digest, recording, -window

    return np.array(sorted(range(len(names)), key=place)[:number], np.int64)
