"""The words of a config, turned into objects."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..data import DATASETS, Images, generator
from ..data.augment import shift, warp
from ..models import Network, build_model


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


def load_data(config: Config, split: str) -> Images:
    if config.data.name not in DATASETS:
        raise ValueError(f"no data set named {config.data.name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[config.data.name](split)


def build_network(config: Config, data: Images) -> Network:
    """The network of a config for this data, its weights drawn from the config's seed alone."""
    options = dataclasses.asdict(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(config.seed, "weights").integers(2**63)))
        net = build_model(num_classes=len(data.class_names), in_channels=data.in_channels, **options)
    return channels_last(net)


def channels_last(net: Network) -> Network:
    """The network with its convolutions' weights laid out channels last: a training step takes half the time on a CPU."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this one out


def make_batch(data: Images, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] and labels [N] of these samples, as they are."""
    return to_device([data.sample(int(i)) for i in indices], data.labels[indices], device)


def make_training_batch(
    config: Config, data: Images, indices: np.ndarray, epoch: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The same, augmented: what happens to a sample depends on (seed, epoch, index) alone."""
    samples = [augment(config, data.sample(int(i)), generator(config.seed, epoch, int(i), "augment")) for i in indices]
    return to_device(samples, data.labels[indices], device)


def augment(config: Config, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return warp(shift(image, rng, config.data.shift), rng, config.data.warp)


def to_device(samples: list[np.ndarray], labels: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.stack(samples).astype(np.float32, copy=False))
    return images.to(device, memory_format=torch.channels_last), torch.from_numpy(labels).to(device)
