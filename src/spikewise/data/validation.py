"""A part of the training split that is held out, to choose the best epoch by."""

import hashlib
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from .dataset import Dataset
from .events.windows import is_window, recording_of
from .files import PathArray
from .subset import Subset


def split_validation(data: Dataset, fraction: float) -> tuple[Subset, Subset]:
    """The samples that are trained on, and those of a share of each class that are held out (E16).

    fraction:  share of each class, above 0 and below 1; at least one sample, and never all
    Raises:    ValueError for a class of one sample
    """
    names = sample_names(data)
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


def sample_names(data: Dataset) -> list[str]:
    """The path of each sample below the data's folder, or its number."""
    files = getattr(data, "files", None)
    return [files.name(i) if isinstance(files, PathArray) else str(i) for i in range(len(data.labels))]


def divided_recordings(held_out: Subset) -> tuple[int, int]:
    """How many recordings have windows on both sides of what `split_validation` divided, and how many there are in all.

    Classes are divided one by one, so that it may be another recording of each. Recordings are told apart by their names.
    """
    sides: dict[str, set[bool]] = {}
    of_held_out = {*held_out.indices.tolist()}
    for index, name in enumerate(sample_names(held_out.data)):
        if is_window(PurePath(name).name):
            sides.setdefault(recording_of(name)[0], set()).add(index in of_held_out)
    return sum(len(found) == 2 for found in sides.values()), len(sides)


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
