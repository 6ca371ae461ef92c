"""Optical digits of 8 x 8 pixels, embedded in the package (digits.md)."""

from importlib import resources
from pathlib import Path

import numpy as np

from ..dataset import DatasetEntry, DatasetInfo, require_split
from ..images.arrays import ImageArrays

CLASS_NAMES = tuple("0123456789")


def digits(split: str, root: str | Path | None = None) -> ImageArrays:
    """The embedded 8 x 8 digits: 1,438 training and 359 test images, a fixed stratified split."""
    require_split(split, "digits")
    with resources.as_file(resources.files(__package__) / "digits.npz") as path, np.load(path) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[2::5]] = True
    chosen = is_test if split == "test" else ~is_test
    return ImageArrays("digits", images[chosen][:, None], labels[chosen], CLASS_NAMES, max_pixel=16.0)


ENTRY = DatasetEntry(
    digits, "1,797 grey images of 8 x 8 pixels, embedded", DatasetInfo(num_train=1438, num_classes=10, shape=(1, 8, 8))
)
