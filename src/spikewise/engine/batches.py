"""Batches, made by any number of workers: what is in one is a function of (config, step)."""

import signal
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config import Config
from ..data import Order, Samples, generator
from ..data.augment import flip, shift, temporal_delete, warp


class TrainingBatches(Dataset):
    """The batch of each step, counted from the start of training: augmented samples and their labels."""

    def __init__(self, config: Config, data: Samples, order: Order):
        self.config, self.data, self.order = config, data, order

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, indices = step // self.order.steps_per_epoch, self.order.indices(step)
        how = self.config.data
        samples = [self.augmented(int(i), epoch) for i in indices]
        if how.temporal_delete and how.temporal_delete_per == "batch":
            # the same generator for every sample: the same frames
            key = (self.config.seed, step, "temporal_delete")
            samples = [temporal_delete(sample, generator(*key), how.temporal_delete) for sample in samples]
        return to_tensors(samples, self.data.labels[indices])

    def augmented(self, index: int, epoch: int) -> np.ndarray:
        """One sample and what chance does to it, which depends on (seed, epoch, index) alone."""
        how, sample = self.config.data, self.data.sample(index)
        if not (how.shift or how.flip or how.warp or how.temporal_delete):
            return sample
        rng = generator(self.config.seed, epoch, index, "augment")
        sample = shift(sample, rng, how.shift)
        if how.flip:
            sample = flip(sample, rng)
        if how.warp:
            sample = warp(sample, rng, how.warp)
        if how.temporal_delete and how.temporal_delete_per == "sample":
            sample = temporal_delete(sample, rng, how.temporal_delete)
        return sample


class TestBatches(Dataset):
    """All samples once, in their order, as they are."""

    __test__ = False  # no test of pytest's

    def __init__(self, data: Samples, batch: int):
        self.data, self.batch = data, batch

    def __len__(self) -> int:
        return (len(self.data.labels) + self.batch - 1) // self.batch

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        indices = range(number * self.batch, min((number + 1) * self.batch, len(self.data.labels)))
        return to_tensors([self.data.sample(i) for i in indices], self.data.labels[indices.start : indices.stop])


def to_tensors(samples: list[np.ndarray], labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] or frames [T, N, C, H, W], float32, and labels [N]."""
    stacked = np.stack(samples, axis=samples[0].ndim - 3).astype(np.float32, copy=False)
    return torch.from_numpy(stacked), torch.from_numpy(labels)


class Reporting(Dataset):
    """Hands an error over as it is: a worker's would arrive with its traceback for a message."""

    def __init__(self, batches: Dataset):
        self.batches = batches

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor] | Exception:
        try:
            return self.batches[number]
        except (ValueError, OSError, MemoryError) as error:
            return error


def leave_signals(worker: int) -> None:
    """A signal to the whole group, as batch systems send it, is the main process's affair: it saves, then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def load(batches: Dataset, numbers: range, device: torch.device, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of these numbers, in order, on the device, channels last."""
    if workers:
        batches = Reporting(batches)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # how many workers there are is the user's choice
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            worker_init_fn=leave_signals if workers else None,
            generator=torch.Generator(),  # its own, so that the caller's random numbers stay untouched
        )
        batches_in_order = iter(loader)
    for batch in batches_in_order:
        if isinstance(batch, Exception):
            raise batch
        samples, labels = batch
        yield channels_last(samples.to(device, non_blocking=True)), labels.to(device, non_blocking=True)


def channels_last(x: Tensor) -> Tensor:
    """The same values, each image's channels beside each other in memory: what convolutions are fastest on."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
