"""Images and event recordings, and the order in which training sees them."""

from typing import Any

from .dataset import Dataset, DatasetEntry, DatasetInfo, PlaceholderDataset
from .events.recordings import EventDataset
from .images.arrays import ImageArrays
from .registry import DATASETS, find_dataset
from .sampler import BalancedSampler, EpochSampler, rng_from

OLDER_NAMES = {
    "Images": ImageArrays,
    "Order": EpochSampler,
    "Published": DatasetInfo,
    "Recordings": EventDataset,
    "Samples": Dataset,
    "Source": DatasetEntry,
    "Unread": PlaceholderDataset,
    "generator": rng_from,
}


def __getattr__(name: str) -> Any:
    """Names that programs written for earlier versions import."""
    if name in OLDER_NAMES:
        return OLDER_NAMES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DATASETS",
    "BalancedSampler",
    "Dataset",
    "DatasetEntry",
    "DatasetInfo",
    "EpochSampler",
    "EventDataset",
    "ImageArrays",
    "PlaceholderDataset",
    "find_dataset",
    "rng_from",
]
