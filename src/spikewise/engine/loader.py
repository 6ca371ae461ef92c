"""Batches, made by any number of workers: what is in one is a function of (config, step)."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..config import Config, Data
from ..data import Dataset, EpochSampler, EventDataset, rng_from
from ..data.augment import (
    cutmix,
    event_drop,
    mixup,
    random_affine,
    random_hflip,
    random_polarity_flip,
    random_resized_crop,
    random_rotation,
    random_shift,
    random_temporal_delete,
)


class TrainingBatches(TorchDataset):
    """The batch of each step, counted from the start of training: augmented samples and their labels.

    Under MixUp or CutMix targets stand for the labels: shares of the classes, float32 [N, num_classes].
    """

    def __init__(self, config: Config, data: Dataset, order: EpochSampler):
        self.config, self.data, self.order = config, data, order

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, indices = step // self.order.steps_per_epoch, self.order.batch_indices(step)
        how = self.config.data
        samples = [self.augmented(int(i), epoch) for i in indices]
        if how.temporal_delete and how.temporal_delete_per == "batch":
            # the same generator for every sample: the same frames
            key = (self.config.seed, step, "temporal_delete")
            samples = [random_temporal_delete(sample, rng_from(*key), how.temporal_delete) for sample in samples]
        batch, labels = stack(samples), self.data.labels[indices]
        if how.mixup or how.cutmix:
            batch = batch.astype(np.float32, copy=False)
            rng = rng_from(self.config.seed, step, "mix")
            mix, alpha = chosen_mix(how, rng)
            targets = np.eye(len(self.data.class_names), dtype=np.float32)[labels]
            batch, labels = mix(batch, targets, rng, alpha)
        return torch.from_numpy(batch), torch.from_numpy(labels)

    def augmented(self, index: int, epoch: int) -> np.ndarray:
        """One sample and what chance does to it, which depends on (seed, epoch, index) alone."""
        how = self.config.data
        by_chance = getattr(self.data, "random_sample", None)  # of data sets that decode only the part that they take
        if not (by_chance or any(getattr(how, name) for name in PER_SAMPLE)):
            return compact(self.data, index)
        rng = rng_from(self.config.seed, epoch, index, "augment")
        sample = by_chance(index, rng) if by_chance else compact(self.data, index)
        sample = random_shift(sample, rng, how.shift)
        if how.flip:
            sample = random_hflip(sample, rng)
        if how.affine:
            sample = random_affine(sample, rng, how.affine)
        if how.temporal_delete and how.temporal_delete_per == "sample":
            sample = random_temporal_delete(sample, rng, how.temporal_delete)
        if how.event_drop:
            sample = event_drop(sample, rng, how.event_drop)
        if how.polarity_flip:
            sample = random_polarity_flip(sample, rng)
        if how.rotate:
            sample = random_rotation(sample, rng, how.rotate)
        if how.resized_crop:
            sample = random_resized_crop(sample, rng, sample.shape[-2:], (how.resized_crop, 1.0))
        return sample


PER_SAMPLE = ("shift", "flip", "affine", "temporal_delete", "event_drop", "polarity_flip", "rotate", "resized_crop")


def chosen_mix(how: Data, rng: np.random.Generator) -> tuple[Callable, float]:
    """MixUp or CutMix, and its alpha; where a config has both, one of them, as likely as the other."""
    both = how.mixup and how.cutmix
    return (mixup, how.mixup) if how.mixup and not (both and rng.random() < 0.5) else (cutmix, how.cutmix)


class TestBatches(TorchDataset):
    """All samples once, in their order, nothing left to chance."""

    __test__ = False  # no test of pytest's

    def __init__(self, data: Dataset, batch: int):
        self.data, self.batch = data, batch

    def __len__(self) -> int:
        return (len(self.data.labels) + self.batch - 1) // self.batch

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        indices = range(number * self.batch, min((number + 1) * self.batch, len(self.data.labels)))
        return to_tensors([compact(self.data, i) for i in indices], self.data.labels[indices.start : indices.stop])


def compact(data: Dataset, index: int) -> np.ndarray:
    """A sample as it travels from a worker: counts of events as the whole numbers that they are, a quarter of the bytes."""
    return data.frames(index) if isinstance(data, EventDataset) else data.sample(index)


def stack(samples: list[np.ndarray]) -> np.ndarray:
    """Images [N, C, H, W] or frames [T, N, C, H, W]."""
    return np.stack(samples, axis=samples[0].ndim - 3)


def to_tensors(samples: list[np.ndarray], labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """A batch of samples (see `stack`) and its labels [N]."""
    return torch.from_numpy(stack(samples)), torch.from_numpy(labels)


class Reporting(TorchDataset):
    """Hands an error over as it is: a worker's would arrive with its traceback for a message."""

    def __init__(self, batches: TorchDataset):
        self.batches = batches

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor] | Exception:
        try:
            return self.batches[number]
        except (ValueError, OSError, MemoryError) as error:
            return error


def number_of_workers(asked: int | None, device: torch.device) -> int:
    """How many processes make batches: as many as asked for, or as suits the device.

    A network on the CPU has work for every core, and takes many times as long as its data: this process makes the batches
    itself. A GPU leaves the cores free: one worker for each but one, 8 at most.
    """
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    return 0 if device.type == "cpu" else max(1, min(8, cores - 1))


def leave_signals(worker: int) -> None:
    """A signal to the whole group, as batch systems send it, is the main process's affair: it saves, then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def load(batches: TorchDataset, numbers: range, device: torch.device, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
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
        yield ready(samples, device), labels.to(device, non_blocking=True)


def ready(samples: Tensor, device: torch.device) -> Tensor:
    """Dataset as a network takes them: on the device, float32, channels last."""
    return channels_last(samples.to(device, non_blocking=True).float())


class Waiting:
    """Hands over batches and measures how long each was waited for.

    seconds:  of waiting, since it was last set to 0
    """

    def __init__(self, batches: Iterator[tuple[Tensor, Tensor]]):
        self.batches, self.seconds = batches, 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        began = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            self.seconds += time.perf_counter() - began


def channels_last(x: Tensor) -> Tensor:
    """The same values, each image's channels beside each other in memory: what convolutions are fastest on."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
