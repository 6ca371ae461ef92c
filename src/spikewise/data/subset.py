"""Some samples of a data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .dataset import Dataset, MapStyleDataset
from .sampler import rng_from

BY_INDEX = (
    "frames",
    "random_sample",
    "pixels",
)  # methods that some data sets have; the first argument is the index of a sample


class Subset(MapStyleDataset):
    """The samples `indices` of a data set, in that order, as a data set with all that the whole one has."""

    def __init__(self, data: Dataset, indices: np.ndarray):
        self.data, self.indices, self.labels = data, indices, data.labels[indices]
        self.name, self.class_names, self.in_channels = data.name, data.class_names, data.in_channels

    def sample(self, index: int) -> np.ndarray:
        return self.data.sample(int(self.indices[index]))

    @property
    def files(self) -> Sequence[object]:
        return [self.data.files[i] for i in self.indices.tolist()]  # type: ignore[attr-defined]  # of data sets that have them

    def __getattr__(self, name: str) -> Any:
        if name == "data":  # while it is unpickled
            raise AttributeError(name)
        found = getattr(self.data, name)
        return (lambda index, *rest: found(int(self.indices[index]), *rest)) if name in BY_INDEX else found


def draw_samples(data: Dataset, count: int, *key: int | str) -> Dataset:
    """`count` samples drawn without replacement, a function of `key` alone; in the order of the data set.

    Raises:  ValueError for more samples than there are
    """
    if count > len(data.labels):
        raise ValueError(f"{data.name} has {len(data.labels):,} samples, {count:,} were asked for; use fewer, or 0 for all")
    return Subset(data, np.sort(rng_from(*key, "subset").permutation(len(data.labels))[:count]))
