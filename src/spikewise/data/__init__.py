"""Images and event recordings, and the order in which training sees them.

Names are imported when they are first used: what a network was trained on is read from its file (`input_spec.py`) where no
reader of images or downloader is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import Dataset, DatasetEntry, DatasetInfo, PlaceholderDataset
    from .events.recordings import EventDataset
    from .images.arrays import ImageArrays
    from .registry import DATASETS, find_dataset
    from .sampler import EpochSampler, rng_from

_HOME = {
    "DATASETS": ".registry",
    "Dataset": ".dataset",
    "DatasetEntry": ".dataset",
    "DatasetInfo": ".dataset",
    "EpochSampler": ".sampler",
    "EventDataset": ".events.recordings",
    "ImageArrays": ".images.arrays",
    "PlaceholderDataset": ".dataset",
    "find_dataset": ".registry",
    "rng_from": ".sampler",
}
OLDER_NAMES = {  # that programs written for earlier versions import
    "Images": "ImageArrays",
    "Order": "EpochSampler",
    "Published": "DatasetInfo",
    "Recordings": "EventDataset",
    "Samples": "Dataset",
    "Source": "DatasetEntry",
    "Unread": "PlaceholderDataset",
    "generator": "rng_from",
}
__all__ = [
    "DATASETS",
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


def __getattr__(name: str) -> Any:
    name = OLDER_NAMES.get(name, name)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
