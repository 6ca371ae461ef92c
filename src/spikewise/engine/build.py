"""The words of a config, turned into objects."""

import dataclasses
from typing import Any

import torch

from ..config import Config
from ..data import DATASETS, Samples, Source, Unread, generator
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


def load_data(config: Config, split: str) -> Samples:
    """A split of the config's data set."""
    return source_of(config).open(split, config.data.root, **data_options(config))


def known_data(config: Config) -> tuple[Samples, bool]:
    """The training split, or, where its files are not here, one of its size and shape that is all zeros; whether it is read.

    Raises:  what `load_data` raises, but FileNotFoundError of folders of one's own alone
    """
    source, options = source_of(config), data_options(config)
    try:
        return source.open("train", config.data.root, **options), True
    except FileNotFoundError:
        if source.published is None:
            raise
    parted = {name: options[name] for name in ("T", "size", "part", "fold", "folds") if name in options}
    return Unread(config.data.name, source.published, **parted), False


def source_of(config: Config) -> Source:
    """The config's data set, of the table of them."""
    if config.data.name not in DATASETS:
        raise ValueError(f"no data set named {config.data.name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[config.data.name]


def data_options(config: Config) -> dict[str, Any]:
    """What the data set is opened with.

    Raises:  ValueError for a field of the config that this data set can't follow
    """
    source, how = source_of(config), config.data
    holds = "event recordings" if source.events else "still images"
    for name in ("affine", "resized_crop") if source.events else ("temporal_delete", "polarity_flip", "event_drop", "cache"):
        if value := getattr(how, name):
            other = "images" if source.events else "event recordings"
            raise ValueError(f"data.{name}={value!r} is for {other}; {how.name} holds {holds}: leave it at {type(value)()!r}")
    if source.photographs and how.resized_crop:
        raise ValueError(
            f"data.resized_crop={how.resized_crop!r} is for images of one size; {how.name} cuts its photographs by itself, "
            "from 0.08 of the area up: leave it at 0.0"
        )
    if how.size is not None and not source.photographs:
        known = ", ".join(name for name, other in DATASETS.items() if other.photographs)
        raise ValueError(f"data.size={how.size} is for photographs ({known}); {how.name} has one size: leave it at None")
    options: dict[str, Any] = {"T": how.num_frames, "rule": how.split_by, "cache": how.cache} if source.events else {}
    if how.split_variant != "published":
        if how.split_variant not in source.parts:
            known = f"use {' or '.join(source.parts)}" if source.parts else "leave it at 'published'"
            raise ValueError(f"data.split_variant={how.split_variant!r} is no way to part {how.name}; {known}")
        options["part"] = how.split_variant
    if how.size is not None:
        options["size"] = how.size
    if how.fold is not None:
        if how.name != "nmnist":
            raise ValueError(f"data.fold={how.fold} is for nmnist; {how.name} has one split: leave it at None")
        options |= {"fold": how.fold, "folds": how.folds}
    return options


def build_network(config: Config, data: Samples) -> Network:
    """The network of a config for this data, its weights drawn from the config's seed alone."""
    options = dataclasses.asdict(config.model)
    with torch.random.fork_rng(devices=[]):
        # the CPU's generator alone: torch.manual_seed would reseed every GPU's, too
        torch.default_generator.manual_seed(int(generator(config.seed, "weights").integers(2**63)))
        net = build_model(num_classes=len(data.class_names), in_channels=data.in_channels, **options)
    net.packing, net.checkpointing = config.memory.packing, config.memory.checkpointing
    return channels_last(net)


def channels_last(net: Network) -> Network:
    """The network with its convolutions' weights laid out channels last: a training step takes half the time on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this one out
