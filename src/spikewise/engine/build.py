"""The words of a config, turned into objects."""

import dataclasses
from typing import Any

import torch

from ..config import Config
from ..data import DATASETS, Dataset, DatasetEntry, PlaceholderDataset, find_dataset, rng_from
from ..models import Network, build_model

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device that a word stands for; "auto" is the first GPU, or else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    works = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in works:
        raise ValueError(f"no device named {name!r}; use auto, cpu, cuda or mps")
    if not works[name]:
        raise ValueError(f"device {name!r} was asked for by name, but torch {torch.__version__} sees none; use auto or cpu")
    return torch.device(name)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Convolutions and linear layers in `precision`; membranes, statistics and the loss stay in float32.

    Raises:  ValueError for float16 on a CPU
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError(
            "precision float16 needs a GPU: on a CPU its gradients vanish unscaled; use bfloat16 or float32 "
            "(--optim.precision bfloat16)"
        )
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")


def load_data(config: Config, split: str) -> Dataset:
    """A split of the config's data set."""
    return dataset_entry(config).load(split, config.data.root, **data_options(config))


def known_data(config: Config) -> tuple[Dataset, bool]:
    """The training split, or, where its files are not here, one of its size and shape that is all zeros; whether it is read.

    Raises:  what `load_data` raises, but FileNotFoundError of folders of one's own alone
    """
    entry, options = dataset_entry(config), data_options(config)
    try:
        return entry.load("train", config.data.root, **options), True
    except FileNotFoundError:
        if entry.info is None:
            raise
    options = {name: value for name, value in options.items() if name not in ("split_by", "cache")}
    return PlaceholderDataset(config.data.name, entry.info, **options), False


def dataset_entry(config: Config) -> DatasetEntry:
    """The entry of the config's data set."""
    return find_dataset(config.data.name)


def data_options(config: Config) -> dict[str, Any]:
    """What the data set is opened with.

    Raises:  ValueError for a field of the config that this data set can't follow
    """
    entry, how = dataset_entry(config), config.data
    holds = "event recordings" if entry.events else "still images"
    for name in ("affine", "resized_crop") if entry.events else ("temporal_delete", "polarity_flip", "event_drop", "cache"):
        if value := getattr(how, name):
            other = "images" if entry.events else "event recordings"
            raise ValueError(f"data.{name}={value!r} is for {other}; {how.name} holds {holds}: leave it at {type(value)()!r}")
    if entry.variable_size and how.resized_crop:
        raise ValueError(
            f"data.resized_crop={how.resized_crop!r} is for images of one size; {how.name} cuts its photographs by itself, "
            "from 0.08 of the area up: leave it at 0.0"
        )
    if how.size is not None and not entry.variable_size:
        known = ", ".join(name for name, other in DATASETS.items() if other.variable_size)
        raise ValueError(f"data.size={how.size} is for photographs ({known}); {how.name} has one size: leave it at None")
    options: dict[str, Any] = {"T": how.num_frames, "split_by": how.split_by, "cache": how.cache} if entry.events else {}
    if how.split_variant != "published":
        if how.split_variant not in entry.split_variants:
            known = f"use {' or '.join(entry.split_variants)}" if entry.split_variants else "leave it at 'published'"
            raise ValueError(f"data.split_variant={how.split_variant!r} is an unknown split variant of {how.name}; {known}")
        options["split_variant"] = how.split_variant
    if how.size is not None:
        options["size"] = how.size
    if how.fold is not None:
        if not entry.has_folds:
            known = ", ".join(name for name, other in DATASETS.items() if other.has_folds)
            raise ValueError(f"data.fold={how.fold} is for {known}; {how.name} has one split: leave it at None")
        options |= {"fold": how.fold, "folds": how.folds}
    return options


def build_network(config: Config, data: Dataset) -> Network:
    """The network of a config for this data, its weights drawn from the config's seed alone."""
    options = dataclasses.asdict(config.model)
    with torch.random.fork_rng(devices=[]):
        # the CPU's generator alone: torch.manual_seed would reseed every GPU's, too
        torch.default_generator.manual_seed(int(rng_from(config.seed, "weights").integers(2**63)))
        net = build_model(num_classes=len(data.class_names), in_channels=data.in_channels, **options)
    net.packing, net.checkpointing = config.memory.packing, config.memory.checkpointing
    return channels_last(net)


def channels_last(net: Network) -> Network:
    """The network with its convolutions' weights laid out channels last: a training step takes half the time on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this one out
