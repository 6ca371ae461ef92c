"""The table of data sets: one line each; everything else about a data set is in its own file."""

from ..wording import unknown_name
from .dataset import DatasetEntry
from .datasets import (
    cifar,
    cifar10_dvs,
    digits,
    digits_events,
    dvs_gesture,
    event_folder,
    fashion_mnist,
    image_folder,
    image_shards,
    imagenet,
    nmnist,
)

DATASETS: dict[str, DatasetEntry] = {
    "digits": digits.ENTRY,
    "digits-events": digits_events.ENTRY,
    "fashion-mnist": fashion_mnist.ENTRY,
    "cifar10": cifar.ENTRIES["cifar10"],
    "cifar100": cifar.ENTRIES["cifar100"],
    "nmnist": nmnist.ENTRY,
    "imagenet": imagenet.ENTRY,
    "image-folder": image_folder.ENTRY,
    "image-shards": image_shards.ENTRY,
    "dvs-gesture": dvs_gesture.ENTRY,
    "cifar10-dvs": cifar10_dvs.ENTRY,
    "event-folder": event_folder.ENTRY,
}


def find_dataset(name: str) -> DatasetEntry:
    """The entry of a data set by its name.

    Raises:  ValueError that lists the known names
    """
    if name not in DATASETS:
        raise ValueError(unknown_name("data set", name, DATASETS, own=True))
    return DATASETS[name]
