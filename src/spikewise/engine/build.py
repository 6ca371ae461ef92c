"""From the names in a config to objects: device, precision, data, network."""

import dataclasses
from typing import Any

import torch

from ..config import Config
from ..data import DATASETS, Samples, Source, Unread, generator
from ..models import Network, build_model

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is the first GPU, or the CPU if there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in available:
        raise ValueError(f"no device named {name!r}; use auto, cpu, cuda or mps")
    if not available[name]:
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
    return dataset_entry(config).open(split, config.data.root, **dataset_kwargs(config))


def load_or_placeholder(config: Config) -> tuple[Samples, bool]:
    """The training split, or a placeholder of its size and shape, all zeros, where its files are missing; and whether it was
    loaded.

    Raises:  what `load_data` raises, FileNotFoundError only for data sets of unknown size (folders of the user's own)
    """
    entry, kwargs = dataset_entry(config), dataset_kwargs(config)
    try:
        return entry.open("train", config.data.root, **kwargs), True
    except FileNotFoundError:
        if entry.published is None:
            raise
    shape_kwargs = {name: kwargs[name] for name in ("T", "size", "part", "fold", "folds") if name in kwargs}
    return Unread(config.data.name, entry.published, **shape_kwargs), False


def dataset_entry(config: Config) -> Source:
    """The config's data set in the registry."""
    if config.data.name not in DATASETS:
        raise ValueError(f"no data set named {config.data.name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[config.data.name]


def dataset_kwargs(config: Config) -> dict[str, Any]:
    """The keyword arguments that the config's data set is opened with.

    Raises:  ValueError for a field of the config that does not apply to this data set
    """
    entry, data = dataset_entry(config), config.data
    contents, others = ("event recordings", "still images") if entry.events else ("still images", "event recordings")
    for name in ("warp", "resized_crop") if entry.events else ("temporal_delete", "polarity_flip", "event_drop", "cache"):
        if value := getattr(data, name):
            default = type(value)()
            raise ValueError(f"data.{name}={value!r} is for {others}; {data.name} holds {contents}: leave it at {default!r}")
    if entry.photographs and data.resized_crop:
        raise ValueError(
            f"data.resized_crop={data.resized_crop!r} is for images of one size; {data.name} crops its photographs itself, "
            "to 0.08 of the area or more: leave it at 0.0"
        )
    if data.size is not None and not entry.photographs:
        known = ", ".join(name for name, other in DATASETS.items() if other.photographs)
        raise ValueError(f"data.size={data.size} is for photographs ({known}); {data.name} has one size: leave it at None")
    kwargs: dict[str, Any] = {"T": data.frames, "rule": data.rule, "cache": data.cache} if entry.events else {}
    if data.part != "published":
        if data.part not in entry.parts:
            known = f"use {' or '.join(entry.parts)}" if entry.parts else "leave it at 'published'"
            raise ValueError(f"data.part={data.part!r} is an unknown split variant of {data.name}; {known}")
        kwargs["part"] = data.part
    if data.size is not None:
        kwargs["size"] = data.size
    if data.fold is not None:
        if data.name != "nmnist":
            raise ValueError(f"data.fold={data.fold} is for nmnist; {data.name} has one split: leave it at None")
        kwargs |= {"fold": data.fold, "folds": data.folds}
    return kwargs


def build_network(config: Config, data: Samples) -> Network:
    """The network of a config for this data; its initial weights depend on the config's seed alone."""
    kwargs = dataclasses.asdict(config.model)
    with torch.random.fork_rng(devices=[]):
        # only the CPU's generator: torch.manual_seed would reseed those of all GPUs, too
        torch.default_generator.manual_seed(int(generator(config.seed, "weights").integers(2**63)))
        net = build_model(num_classes=len(data.class_names), in_channels=data.in_channels, **kwargs)
    net.packing, net.checkpointing = config.memory.packing, config.memory.checkpointing
    return weights_channels_last(net)


def weights_channels_last(net: Network) -> Network:
    """The network with the weights of its convolutions in channels-last layout: twice as fast a training step on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
