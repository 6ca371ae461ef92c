"""Labelled images in memory."""

from dataclasses import dataclass

import numpy as np

from ..dataset import MapStyleDataset


@dataclass(frozen=True)
class ImageArrays(MapStyleDataset):
    """A split of an image data set, in memory.

    images:     [N, C, H, W] uint8
    labels:     [N] int64
    max_pixel:  the pixel value of white, by which samples are divided
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    max_pixel: float

    @property
    def in_channels(self) -> int:
        return self.images.shape[1]

    def sample(self, index: int) -> np.ndarray:
        """One image [C, H, W], float32, 0 to 1."""
        return self.images[index].astype(np.float32) / self.max_pixel
