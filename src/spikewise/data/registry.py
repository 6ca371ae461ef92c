"""The table of data sets: one line each; everything else about a data set is in its own file."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from ..wording import unknown_name
from .dataset import Dataset, DatasetEntry
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
from .events.frames import FrameSpec

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


def refuse_unknown(name: str, entry: DatasetEntry) -> DatasetEntry:
    """The entry with a `load` that names an option which it does not have, and those that it has."""

    @functools.wraps(entry.load)
    def load(*args: Any, **options: Any) -> Dataset:
        known = options_of(entry.load)
        if unknown := [option for option in options if option not in known]:
            raise TypeError(unknown_name(f"option of {name}", unknown[0], known))
        return entry.load(*args, **options)

    return entry._replace(load=load)


def options_of(load: Callable[..., Dataset]) -> list[str]:
    """The keywords that a function takes; behind ** those of its TypedDict, without one the fields of `FrameSpec`."""
    names: list[str] = []
    for parameter in inspect.signature(load).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            described = typing.get_args(parameter.annotation) or (FrameSpec,)
            names += described[0].__annotations__
        else:
            names.append(parameter.name)
    return list(dict.fromkeys(names))


DATASETS = {name: refuse_unknown(name, entry) for name, entry in DATASETS.items()}


def find_dataset(name: str) -> DatasetEntry:
    """The entry of a data set by its name.

    Raises:  ValueError that lists the known names
    """
    if name not in DATASETS:
        raise ValueError(unknown_name("data set", name, DATASETS, own=True))
    return DATASETS[name]
