"""Memory and time of a run before it begins: what a step takes, what fits, what would."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ...config import Config
from ...data import Dataset
from ..build import choose_device, known_data
from ..faults import free_memory
from ..step import Training, guarded_step
from .allocator import keep_freed_memory
from .estimate import Bytes, Imagination, random_batch, shape_of_sample

# What a process takes beyond its tensors. On the CPU glibc's heap keeps the holes that tensors leave, where the next of the
# same size often doesn't fit; measured (docs/decisions.md): so many bytes, and so much of what a step takes and gives back.
HEAP_BYTES, HEAP_SHARE = 64 * 2**20, 0.45
LONG = 60  # seconds after which no further step is timed
CUDA_SHARE = 0.1  # of all tensors: PyTorch rounds blocks up, cuDNN wants room; not measured


@dataclass(frozen=True)
class Choice:
    """A way to keep less for backward, with what it takes at the config's batch.

    process:  bytes that the process takes for the step, the allocator's holes with them
    fits:     the largest batch whose `process` is free; 0 if none is
    """

    packing: bool
    checkpointing: Literal["none", "block", "stage"]
    kept: int
    peak: int
    process: int
    fits: int

    @property
    def options(self) -> str:
        """On the command line."""
        return f"--memory.{'' if self.packing else 'no-'}packing --memory.checkpointing {self.checkpointing}"


@dataclass(frozen=True)
class Timing:
    """Seconds of training steps, medians; loading and evaluating are not in them.

    batch:  samples of a measured step; others are in proportion
    """

    steps: int
    batch: int
    per_step: float
    per_epoch: float
    whole_run: float


@dataclass(frozen=True)
class Plan:
    """What a run takes, and what is there.

    read:      whether the data set's files were there; if not, its size and shape are those that were published
    process:   bytes that the process takes for a step, the allocator's holes with them
    free:      bytes that are free on the device
    proposal:  options that make it fit; empty if it does, None if nothing would
    """

    recipe: str
    model: str
    device: str
    data: str
    read: bool
    samples: int
    shape: tuple[int, ...]
    batch: int
    precision: str
    bytes: Bytes
    process: int
    free: int
    choices: tuple[Choice, ...]
    proposal: str | None
    timing: Timing | None

    @property
    def fits(self) -> bool:
        return self.process <= self.free


def plan(config: Config, *, device: str = "auto", measure: int = 3) -> Plan:
    """Memory from shapes, and time from a few steps.

    measure:  training steps that are timed, behind one that is not; 0: none
    Raises:   ValueError or OSError for a config or data that do not fit
    """
    if measure < 0:
        raise ValueError(f"measure={measure} is out of range; use 0 or more steps")
    where = choose_device(device)
    data, read = known_data(config)
    free, batch, samples = free_memory(where), config.optim.batch, len(data.labels)
    imagined = Imagination(config, data, where)
    ours = imagined.step(batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing)
    choices = tuple(alternatives(imagined, config, free, samples))
    timing = None
    if measure and (fitting := fitting_batch(config, choices)):
        timing = timed(config, data, where, min(batch, fitting), measure)
    return Plan(
        recipe=config.recipe,
        model=config.model.name,
        device=str(where),
        data=config.data.name,
        read=read,
        samples=samples,
        shape=imagined.shape,
        batch=batch,
        precision=config.optim.precision,
        bytes=ours,
        process=process_bytes(ours, where),
        free=free,
        choices=choices,
        proposal="" if process_bytes(ours, where) <= free else proposed(config, choices),
        timing=timing,
    )


def process_bytes(step: Bytes, device: torch.device) -> int:
    """What a process takes for its tensors: more than they are long."""
    if device.type == "cpu":
        return step.peak + HEAP_BYTES + int(HEAP_SHARE * (step.peak - step.lasting))
    return int((1 + CUDA_SHARE) * step.peak)


def alternatives(imagined: Imagination, config: Config, free: int, samples: int) -> list[Choice]:
    """With and without packing, for each kind of checkpointing; packing is left out where it changes nothing."""
    found: list[Choice] = []
    device, batch = imagined.device, config.optim.batch
    for packing in (True, False):
        for checkpointing in ("none", "block", "stage"):

            def step(n: int, how: dict[str, Any]) -> Bytes:
                return imagined.step(n, **how)

            how: dict[str, Any] = {"packing": packing, "checkpointing": checkpointing}
            here = step(batch, how)
            if not packing and checkpointing == "none" and (here.kept, here.peak) == (found[0].kept, found[0].peak):
                return [dataclasses.replace(choice, packing=config.memory.packing) for choice in found]
            empty = dataclasses.replace(here, peak=here.lasting)
            needed = {0: process_bytes(empty, device), batch: process_bytes(here, device)}
            most = largest(lambda n, how=how: process_bytes(step(n, how), device), needed, free, samples)  # type: ignore[misc]
            found.append(Choice(**how, kept=here.kept, peak=here.peak, process=needed[batch], fits=most))
    return found


def largest(measure: Callable[[int], int], needed: dict[int, int], free: int, samples: int) -> int:
    """The largest batch that fits, of at most `samples`.

    Memory is the largest of several lines in the batch, one for each moment of a step: a line through a batch that fits and
    one that doesn't lies above it, so that what it says fits does. `needed` holds two batches; others are measured as the
    line through the nearest says.
    """
    for _ in range(4):
        fitting = [n for n in needed if needed[n] <= free]
        beyond = [n for n in needed if needed[n] > free]
        if not fitting:
            return 0
        low = max(fitting)
        other = min(beyond) if beyond else max(n for n in needed if n != low)
        slope = (needed[other] - needed[low]) / (other - low)
        guess = min(samples, math.floor(low + (free - needed[low]) / slope)) if slope > 0 else samples
        if beyond:
            guess = min(guess, other - 1)
        if guess in needed:
            return guess if needed[guess] <= free else low
        if guess < 1:
            return 0
        try:
            needed[guess] = measure(guess)
        except ValueError:  # too few values for batch norm
            return low
    return max(n for n in needed if needed[n] <= free)


def fitting_batch(config: Config, choices: tuple[Choice, ...]) -> int:
    """The largest batch that fits with the config as it is."""
    ours = config.memory
    return next(c.fits for c in choices if (c.packing, c.checkpointing) == (ours.packing, ours.checkpointing))


def proposed(config: Config, choices: tuple[Choice, ...]) -> str | None:
    """The cheapest options that fit at this batch; or the largest batch that fits at all; None if none does."""
    batch = config.optim.batch
    kinds = ("none", "block", "stage")
    ordered = sorted(choices, key=lambda choice: (kinds.index(choice.checkpointing), choice.packing != config.memory.packing))
    for choice in ordered:
        if choice.fits >= batch:
            return choice.options
    best = max(ordered, key=lambda choice: choice.fits)
    return f"--optim.batch {best.fits} {best.options}" if best.fits else None


def timed(config: Config, data: Dataset, device: torch.device, batch: int, steps: int) -> Timing:
    """Take real steps on random samples; fewer, but one, when they last longer than a minute."""
    if device.type == "cpu":
        keep_freed_memory()
    few = dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch=batch))
    training = Training(few, data, device)
    shape, classes = shape_of_sample(config, data), len(data.class_names)
    samples, labels = random_batch(config, shape, classes, batch, device)
    seconds: list[float] = []
    while len(seconds) < 1 + steps and not (len(seconds) > 1 and sum(seconds) > LONG):
        began = time.perf_counter()
        guarded_step(training, samples, labels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    each = statistics.median(seconds[1:]) * config.optim.batch / batch
    epoch = each * len(data.labels) / config.optim.batch
    return Timing(len(seconds) - 1, batch, each, epoch, epoch * config.optim.epochs)
