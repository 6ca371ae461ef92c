"""What is known of a data set without its files: how many samples, of which shape, in how many classes."""

from typing import NamedTuple

import numpy as np


class Published(NamedTuple):
    """Of a data set that is the same for everybody.

    train:    samples of its training split
    classes:  how many
    shape:    (C, H, W) of an image or of a frame
    parts:    samples of the training split by `part`, where it is not the published one
    tests:    samples of its test split, where `fold` draws both anew; 0: it doesn't
    """

    train: int
    classes: int
    shape: tuple[int, int, int]
    parts: tuple[tuple[str, int], ...] = ()
    tests: int = 0


class Unread:
    """A training split without its files: as many samples, all zeros.

    T:     frames of a recording; 0 for images
    size:  side of photographs; None as published
    """

    def __init__(
        self,
        name: str,
        known: Published,
        *,
        T: int = 0,
        size: int | None = None,
        part: str = "published",
        fold: int | None = None,
        folds: int = 5,
    ):
        channels, height, width = known.shape
        sides = (height, width) if size is None else (size, size)
        number = dict(known.parts).get(part, known.train)
        if fold is not None:
            number = (known.train + known.tests) * (folds - 1) // folds  # to a few: each class is parted by itself
        self.name, self.in_channels = name, channels
        self.shape = (T, channels, *sides) if T else (channels, *sides)
        self.labels = np.zeros(number, dtype=np.int64)
        self.class_names = tuple(map(str, range(known.classes)))

    def sample(self, index: int) -> np.ndarray:
        return np.zeros(self.shape, dtype=np.float32)
