"""Memory and time of a run before it starts: what a step takes, whether it fits, and what would make it fit."""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch

from ...config import Config
from ...data import Dataset, find_dataset
from ...models.checkpointing import Checkpointing
from ...progress import MinuteLines
from ..agreement import require_shards
from ..build import choose_device, choose_precision, load_or_placeholder
from ..console import Console
from ..distributed import World
from ..step import TrainState
from ..unused_fields import require_used
from .allocator import disable_heap_trim
from .estimate import MemoryEstimator, MemoryUse, random_batch, sample_shape, shards_of
from .free import free_memory
from .out_of_memory import step_or_oom_hint

# What a process takes beyond its tensors. On the CPU glibc's heap keeps the holes that freed tensors leave, where the next
# of the same size often doesn't fit; measured (docs/decisions.md): a constant, and a share of what a step allocates and frees.
HEAP_BYTES, HEAP_OVERHEAD = 64 * 2**20, 0.45
CUDA_OVERHEAD = 0.1  # of all tensors: PyTorch rounds blocks up, cuDNN needs workspace; not measured
MAX_TIMING_SECONDS = 60  # no further step is timed after that
EVENT_SIDES = (128, 64, 32)  # of the canvases that are proposed for events of a sensor that is too large, in pixels


@dataclass(frozen=True)
class MemoryOption:
    """A combination of packing and checkpointing, with what it takes at the config's batch.

    activations, peak:  bytes, as in MemoryUse
    process:            bytes that the process takes for the step, the allocator's overhead included
    max_batch:          the largest batch whose `process` is free; 0 if none is
    """

    packing: bool
    checkpointing: Checkpointing
    activations: int
    peak: int
    process: int
    max_batch: int

    @property
    def flags(self) -> str:
        """The option on the command line."""
        return f"--memory.{'' if self.packing else 'no-'}packing --memory.checkpointing {self.checkpointing}"


@dataclass(frozen=True)
class Timing:
    """Seconds of training steps, medians, without data loading and evaluation.

    batch:  samples of a measured step; the times of the config's batch are in proportion
    """

    steps: int
    batch: int
    per_step: float
    per_epoch: float
    whole_run: float


@dataclass(frozen=True)
class Plan:
    """What a run takes, and what is free.

    processes:       that share the shards of a step; bytes are those of one of them
    data_available:  whether the data set's files were found; if not, its published size and shape are used
    process:         bytes that the process takes for a step, the allocator's overhead included
    free:            bytes that are free on the device
    proposal:        flags that make the run fit; empty if it fits, None if nothing would
    proposal_bytes:  what the process would take then; None where it is not known
    """

    recipe: str
    model: str
    device: str
    data: str
    data_available: bool
    samples: int
    shape: tuple[int, ...]
    batch: int
    precision: str
    processes: int
    bytes: MemoryUse
    process: int
    free: int
    options: tuple[MemoryOption, ...]
    proposal: str | None
    proposal_bytes: int | None
    timing: Timing | None

    @property
    def fits(self) -> bool:
        return self.process <= self.free


def plan(config: Config, *, device: str = "auto", measure: int = 3, quiet: bool = True, processes: int = 1) -> Plan:
    """Memory from shapes, and time from a few training steps, of the process that has most of a step's shards.

    measure:    steps that are timed, after one that is not; 0: none
    quiet:      False: where standard error is no terminal, say there once a minute what is being done
    processes:  that share the shards of each step; what they wait for each other is not in the time
    Raises:     ValueError or OSError for a config or data that do not fit
    """
    if measure < 0:
        raise ValueError(f"measure={measure} is out of range; use 0 or more steps")
    if processes < 1:
        raise ValueError(f"processes={processes} is out of range; use 1 or more")
    require_shards(processes, config)
    require_used(config, Config(), ("data",))
    torch_device = choose_device(device)
    config = choose_precision(config, torch_device)
    data, data_available = load_or_placeholder(config)
    free, batch = free_memory(torch_device), config.optim.batch
    lines = MinuteLines(Console(quiet).minutely)
    estimator = MemoryEstimator(config, data, torch_device, processes)
    use = estimator.step(batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing)
    process = process_bytes(use, torch_device)
    options = tuple(memory_options(estimator, config, free, len(data.labels), lines))
    max_batch = config_max_batch(config, options)
    proposal, proposal_bytes = "" if process <= free else propose_flags(config, options), None
    if proposal is None or proposal.startswith("--optim.batch"):
        proposal, proposal_bytes = propose_size(config, data, torch_device, free, processes) or (proposal, None)
    return Plan(
        recipe=config.recipe,
        model=config.model.name,
        device=str(torch_device),
        data=config.data.name,
        data_available=data_available,
        samples=len(data.labels),
        shape=estimator.shape,
        batch=batch,
        precision=config.optim.precision,
        bytes=use,
        process=process,
        free=free,
        options=options,
        proposal=proposal,
        proposal_bytes=proposal_bytes,
        processes=processes,
        timing=time_steps(config, data, torch_device, min(batch, max_batch), measure, lines, processes)
        if measure and max_batch
        else None,
    )


def process_bytes(use: MemoryUse, device: torch.device) -> int:
    """What a process takes for the tensors of a step: more than their sizes."""
    if device.type == "cpu":
        written = use.weights + use.optimizer + use.average  # the copy of a checkpoint that goes to the disk meanwhile
        return use.peak + written + HEAP_BYTES + int(HEAP_OVERHEAD * (use.peak - use.persistent))
    return int((1 + CUDA_OVERHEAD) * use.peak)


def memory_options(
    estimator: MemoryEstimator, config: Config, free: int, num_samples: int, lines: MinuteLines
) -> list[MemoryOption]:
    """With and without packing, for each kind of checkpointing; without the choice of packing where it changes nothing."""
    options: list[MemoryOption] = []
    device, batch, shards = estimator.device, config.optim.batch, config.optim.shards

    def needed(packing: bool, checkpointing: Checkpointing, n: int) -> int:
        return process_bytes(estimator.step(n * shards, packing=packing, checkpointing=checkpointing), device)

    for packing, checkpointing in itertools.product((True, False), get_args(Checkpointing)):
        use = estimator.step(batch, packing=packing, checkpointing=checkpointing)
        lines.at(0, partial("counting memory: packing {}, checkpointing {}".format, "on" if packing else "off", checkpointing))
        if not packing and checkpointing == "none" and (use.activations, use.peak) == (options[0].activations, options[0].peak):
            return [dataclasses.replace(option, packing=config.memory.packing) for option in options]
        at_rest, process = process_bytes(dataclasses.replace(use, peak=use.persistent), device), process_bytes(use, device)
        known = {0: at_rest, batch // shards: process}
        max_shard = largest_batch(partial(needed, packing, checkpointing), known, free, num_samples // shards)
        options.append(MemoryOption(packing, checkpointing, use.activations, use.peak, process, max_shard * shards))
    return options


def largest_batch(measure: Callable[[int], int], known: dict[int, int], free: int, num_samples: int) -> int:
    """The largest batch, or shard, that fits into `free` bytes, of at most `num_samples`; at most four are measured.

    known:  bytes of two batches

    Memory is the maximum of several lines in the batch, one for each moment of a step. So a line through a batch that fits
    and one that doesn't lies above it, and a batch that fits by this line does fit.
    """
    for _ in range(4):
        fitting = [n for n in known if known[n] <= free]
        beyond = [n for n in known if known[n] > free]
        if not fitting:
            return 0
        low = max(fitting)
        other = min(beyond) if beyond else max(n for n in known if n != low)
        slope = (known[other] - known[low]) / (other - low)
        guess = min(num_samples, math.floor(low + (free - known[low]) / slope)) if slope > 0 else num_samples
        if beyond:
            guess = min(guess, other - 1)
        if guess in known:
            return guess if known[guess] <= free else low
        if guess < 1:
            return 0
        try:
            known[guess] = measure(guess)
        except ValueError:  # too few values for batch norm
            return low
    return max(n for n in known if known[n] <= free)


def config_max_batch(config: Config, options: tuple[MemoryOption, ...]) -> int:
    """The largest batch that fits with the config's own packing and checkpointing."""
    ours = config.memory
    return next(o.max_batch for o in options if (o.packing, o.checkpointing) == (ours.packing, ours.checkpointing))


def propose_flags(config: Config, options: tuple[MemoryOption, ...]) -> str | None:
    """The cheapest option that fits at this batch; else the largest batch that fits at all; None if none does."""
    order = get_args(Checkpointing)
    ranked = sorted(options, key=lambda o: (order.index(o.checkpointing), o.packing != config.memory.packing))
    for option in ranked:
        if option.max_batch >= config.optim.batch:
            return option.flags
    best = max(ranked, key=lambda option: option.max_batch)
    return f"--optim.batch {best.max_batch} {best.flags}" if best.max_batch else None


def propose_size(config: Config, data: Dataset, device: torch.device, free: int, processes: int) -> tuple[str, int] | None:
    """For events of a large sensor: the largest canvas that fits at this batch, and the process's bytes then; else None."""
    if not find_dataset(config.data.name).events:
        return None
    height, width = data.sample(0).shape[-2:]
    for side in EVENT_SIDES:
        if side >= max(height, width):
            continue
        smaller = dataclasses.replace(config, data=dataclasses.replace(config.data, size=side))
        try:
            estimator = MemoryEstimator(smaller, load_or_placeholder(smaller)[0], device, processes)
        except ValueError:  # fewer pixels than the network's poolings need
            return None
        ours = config.memory
        process = process_bytes(
            estimator.step(config.optim.batch, packing=ours.packing, checkpointing=ours.checkpointing), device
        )
        if process <= free:
            return f"--data.size {side}", process
    return None


def time_steps(
    config: Config, data: Dataset, device: torch.device, batch: int, num_steps: int, lines: MinuteLines, processes: int
) -> Timing:
    """Time real training steps on random samples, with as many shards as a process has; fewer, but at least one, when they take
    longer than a minute.
    """
    if device.type == "cpu":
        disable_heap_trim()
    count, each = shards_of(config, World(size=processes)), batch // config.optim.shards
    own = dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch=count * each, shards=count))
    state = TrainState(own, data, device)
    shape, num_classes = sample_shape(config, data), len(data.class_names)
    shards = [random_batch(config, shape, num_classes, each, device) for _ in range(count)]
    seconds: list[float] = []
    while len(seconds) < 1 + num_steps and not (len(seconds) > 1 and sum(seconds) > MAX_TIMING_SECONDS):
        start = time.perf_counter()
        step_or_oom_hint(state, shards)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
        lines.at(0, partial("timing step {} of {}".format, len(seconds), 1 + num_steps))
    per_step = statistics.median(seconds[1:]) * config.optim.batch / batch
    per_epoch = per_step * len(data.labels) / config.optim.batch
    return Timing(len(seconds) - 1, batch, per_step, per_epoch, per_epoch * config.optim.epochs)
