"""Still images with labels."""

from dataclasses import dataclass
from importlib import resources

import numpy as np


@dataclass(frozen=True)
class Images:
    """A split of an image data set, in memory.

    images:  [N, C, H, W] uint8; a network sees them as float32, divided by `white`
    labels:  [N] int64
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    white: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_channels(self) -> int:
        return self.images.shape[1]

    def sample(self, index: int) -> np.ndarray:
        """One image [C, H, W] as a network sees it: float32, 0 to 1."""
        return self.images[index].astype(np.float32) / self.white


def digits(split: str) -> Images:
    """The embedded 8 x 8 digits: 1,438 train and 359 test images, a fixed stratified split (digits.md)."""
    with resources.as_file(resources.files(__package__) / "digits.npz") as path, np.load(path) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[2::5]] = True
    chosen = is_test if split == "test" else ~is_test
    return Images("digits", images[chosen][:, None], labels[chosen], tuple("0123456789"), white=16.0)
