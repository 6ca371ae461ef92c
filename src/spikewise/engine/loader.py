"""Batches, made by any number of worker processes: what is in one is a function of (config, step)."""

import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..config import Config, Data
from ..data import BalancedSampler, Dataset, EpochSampler, rng_from
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
from ..kernels.layout import to_layout
from .distributed import local_size
from .shards import shard_sizes
from .signals import STOPS

# Functions of (sample, generator, value of the config's field), by the field of `Data` that turns them on, in the order in
# which they are applied.
SAMPLE_AUGMENTATIONS: dict[str, Callable[..., np.ndarray]] = {
    "shift": random_shift,
    "flip": lambda sample, rng, _: random_hflip(sample, rng),
    "affine": random_affine,
    "temporal_delete": random_temporal_delete,
    "event_drop": event_drop,
    "polarity_flip": lambda sample, rng, _: random_polarity_flip(sample, rng),
    "rotate": random_rotation,
    "resized_crop": lambda sample, rng, low: random_resized_crop(sample, rng, sample.shape[-2:], (low, 1.0)),
}


MOVES_PIXELS = {"flip"}  # augmentations that change no value: bytes may be normalized after them

SHARED_MEMORY = Path("/dev/shm")
PREFETCHED = 2  # batches that a DataLoader's worker has ready


class TrainingBatches(TorchDataset):
    """The batch of each step, counted from the start of training: augmented samples and their labels.

    Under MixUp or CutMix soft targets replace the labels: shares of the classes, float32 [N, num_classes].
    """

    def __init__(self, config: Config, data: Dataset, order: EpochSampler):
        self.config, self.data, self.order = config, data, order
        self.augmentations = {name: value for name in SAMPLE_AUGMENTATIONS if (value := getattr(config.data, name))}
        self.frames_per_batch = 0  # that random temporal delete leaves, where it chooses the same ones for a whole batch
        if config.data.temporal_delete_per == "batch":
            self.frames_per_batch = self.augmentations.pop("temporal_delete", 0)
        mixes = config.data.mixup or config.data.cutmix
        self.table = None if mixes or set(self.augmentations) - MOVES_PIXELS else byte_values(data)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        return self.make(step, self.order.batch_visits(step), ())

    def make(self, step: int, visits: np.ndarray, part: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """These samples of a step; `part` tells the random numbers of one part of a batch from another's.

        visits:  the samples, and how often each was visited before, int64 [2, N]
        """
        data_config = self.config.data
        samples = [self.augment_sample(int(index), int(visit)) for index, visit in visits.T]
        if self.frames_per_batch:
            key = (self.config.seed, step, "temporal_delete")  # the same random numbers for every sample
            samples = [random_temporal_delete(sample, rng_from(*key), self.frames_per_batch) for sample in samples]
        batch, labels = stack_samples(samples), self.data.labels[visits[0]]
        if data_config.mixup or data_config.cutmix:
            rng = rng_from(self.config.seed, step, "mix", *part)
            mix, alpha = choose_mix(data_config, rng)
            targets = np.eye(len(self.data.class_names), dtype=np.float32)[labels]
            batch, labels = mix(batch.astype(np.float32, copy=False), targets, rng, alpha)
        return torch.from_numpy(batch), torch.from_numpy(labels)

    def augment_sample(self, index: int, visit: int) -> np.ndarray:
        """One sample, bytes where there is a `table`, with its random augmentation: a function of (seed, visit, index).

        visit:  how often the sample was visited before; where each is visited once per epoch, the epoch
        """
        decodes = "random_sample" if self.table is None else "pixels"
        random_sample = getattr(self.data, decodes, None)  # of data sets that decode a random crop only
        if not (random_sample or self.augmentations):
            return compact_sample(self.data, index)
        rng = rng_from(self.config.seed, visit, index, "augment")
        sample = random_sample(index, rng) if random_sample else compact_sample(self.data, index)
        for name, value in self.augmentations.items():
            sample = SAMPLE_AUGMENTATIONS[name](sample, rng, value)
        return sample


def build_order(config: Config, data: Dataset) -> EpochSampler:
    """Which samples make up which step of a run."""
    if config.data.sampling == "balanced":
        return BalancedSampler(data.labels, config.optim.batch, config.seed)
    return EpochSampler(len(data.labels), config.optim.batch, config.seed)


class ShardBatches(TorchDataset):
    """The shards of each step that a process computes. Where samples are mixed, it is within a shard."""

    def __init__(self, batches: TrainingBatches, rank: int = 0, world_size: int = 1):
        self.batches, self.rank, self.world_size, self.table = batches, rank, world_size, batches.table

    def __getitem__(self, step: int) -> list[tuple[Tensor, Tensor]]:
        visits = self.batches.order.batch_visits(step)
        sizes = shard_sizes(visits.shape[1], self.batches.config.optim.shards)
        parts = np.split(visits, np.cumsum(sizes)[:-1], axis=1)
        return [
            self.batches.make(step, parts[number], (number,) if len(parts) > 1 else ())
            for number in range(self.rank, len(parts), self.world_size)
        ]


def choose_mix(config: Data, rng: np.random.Generator) -> tuple[Callable, float]:
    """MixUp or CutMix, and its alpha; where a config has both, one of them at random, with equal probability."""
    both = config.mixup and config.cutmix
    return (mixup, config.mixup) if config.mixup and not (both and rng.random() < 0.5) else (cutmix, config.cutmix)


class EvalBatches(TorchDataset):
    """All samples once, in their order, without augmentation."""

    def __init__(self, data: Dataset, batch: int):
        self.data, self.batch, self.table = data, batch, byte_values(data)

    def __len__(self) -> int:
        return (len(self.data.labels) + self.batch - 1) // self.batch

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        labels = self.data.labels[number * self.batch : (number + 1) * self.batch]
        sample = partial(compact_sample, self.data) if self.table is None else self.data.pixels  # type: ignore[attr-defined]
        samples = [sample(number * self.batch + i) for i in range(len(labels))]
        return torch.from_numpy(stack_samples(samples)), torch.from_numpy(labels)


def byte_values(data: Dataset) -> Tensor | None:
    """What each byte of each channel stands for, float32 [C, 256], of data sets whose samples are bytes, normalized."""
    table = getattr(data, "table", None)
    return None if table is None else torch.from_numpy(table)


def compact_sample(data: Dataset, index: int) -> np.ndarray:
    """A sample as a worker sends it: event counts as integers, a quarter of the bytes of float32."""
    return getattr(data, "frames", data.sample)(index)


def stack_samples(samples: list[np.ndarray]) -> np.ndarray:
    """Images [N, C, H, W] or frames [T, N, C, H, W]."""
    return np.stack(samples, axis=samples[0].ndim - 3)


class ErrorForwarding(TorchDataset):
    """Returns an error in place of a batch: one raised in a worker would arrive with its traceback for a message."""

    def __init__(self, batches: TorchDataset):
        self.batches = batches

    def __getitem__(self, number: int) -> Any:
        try:
            return self.batches[number]
        except (ValueError, OSError, MemoryError) as error:
            return error


def resolve_num_workers(workers: int | None, device: torch.device) -> int:
    """How many data loading processes this process has: as many as asked for, or as suits the device.

    Training on the CPU keeps every core busy, and takes many times as long as its data: this process makes the batches itself.
    A GPU leaves the cores free: one worker for each but one; those who train together on a machine share them.
    Raises:  ValueError for a negative number
    """
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} is out of range; use 0 or more processes")
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    return 0 if device.type == "cpu" else max(1, cores // local_size() - 1)


def free_shared_memory() -> int | None:
    """Bytes that are free where processes hand on tensors; None where that is no file system."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def fit_workers(workers: int, data: Dataset, batch: int, say: Callable[[str], None]) -> int:
    """As many of the workers as shared memory has room for: where it is full, a worker dies of a bus error.

    Containers often have 64 MB. The result of a run does not depend on the number.
    say:  is told where there are fewer
    """
    free = free_shared_memory()
    if not workers or free is None:
        return workers
    samples = 2 * PREFETCHED * batch  # the workers of training and those of evaluation have theirs at the same time
    needed = samples * compact_sample(data, 0).size * 4  # float32 at most
    fitting = min(workers, free // needed)
    if fitting < workers:
        room = f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free, each process that loads data needs {needed / 1e6:,.0f} MB"
        instead = f"{fitting} in place of {workers}" if fitting else "this process loads the data itself"
        say(f"{room}: {instead} (of Docker: --shm-size gives more)")
    return fitting


def ignore_signals(worker: int) -> None:
    """Batch systems signal the whole process group: the main process saves, then ends its workers."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def iterate_batches(batches: TorchDataset, numbers: range, device: torch.device, workers: int) -> Generator[Any, None, None]:
    """The batches of these numbers, in order, on the device, channels last: (samples, labels), or a list of shards.

    A GPU gets each while it computes the one before.
    """
    table: Tensor | None = getattr(batches, "table", None)
    table = None if table is None else table.to(device)
    if workers:
        batches = ErrorForwarding(batches)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # the number of workers is the user's choice
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=PREFETCHED if workers else None,
            pin_memory=device.type == "cuda",
            worker_init_fn=ignore_signals if workers else None,
            generator=torch.Generator(),  # its own, so that the caller's random numbers stay untouched
        )
        iterator = iter(loader)
    try:
        ahead = OneAhead(device)
        for batch in iterator:
            if isinstance(batch, Exception):  # raised here: a traceback through another frame would keep the workers
                raise batch
            yield from ahead.start(partial(place, batch, device, table))
        yield from ahead.rest()
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        cause = str(error).partition("\n")[0].rstrip(". ")
        raise MemoryError(f"a process that loads data ended: {cause}; try fewer of them, or --workers 0") from None
    finally:
        del iterator  # ends the workers, which ignore signals, even where a traceback keeps this frame


class OneAhead:
    """Batches on their way to a GPU: each starts, on a stream of its own, before the one before it is handed over."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.waiting: list[Any] = []

    def start(self, make: Callable[[], Any]) -> list[Any]:
        """Start what `make` gives, and return what is ready; without a GPU that is the same."""
        if self.stream is None:
            return [make()]
        with torch.cuda.stream(self.stream):
            started = make()
        ready = self.rest()
        self.waiting = [started]
        return ready

    def rest(self) -> list[Any]:
        """What was started and not handed over yet."""
        ready, self.waiting = self.waiting, []
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)
            for tensor in tree_leaves(ready):
                tensor.record_stream(torch.cuda.current_stream())
        return ready


def place(batch: Any, device: torch.device, table: Tensor | None = None) -> Any:
    """A batch (samples, labels) on the device, or a list of them."""
    if not batch or not isinstance(batch[0], Tensor):  # a list of shards, and a process may have none
        return [place(shard, device, table) for shard in batch]
    samples, labels = batch
    return to_device(samples, device, table), labels.to(device, non_blocking=True)


def to_device(samples: Tensor, device: torch.device, table: Tensor | None = None) -> Tensor:
    """Samples as a network takes them: on the device, float32, channels last.

    table:  on the device: the value of each byte of each channel, float32 [C, 256]; None: numbers are what they are
    """
    samples = to_layout(samples.to(device, non_blocking=True), channels_last=True)
    if table is None:
        return samples.float()
    row = torch.arange(0, table.numel(), table.shape[1], dtype=torch.int32, device=device)
    return to_layout(table.flatten()[samples + row[:, None, None]], channels_last=True)


class TimedIterator:
    """Passes batches on and measures how long each was waited for.

    seconds:  waited since it was last set to 0
    """

    def __init__(self, batches: Iterator[Any]):
        self.batches, self.seconds = batches, 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            self.seconds += time.perf_counter() - start
