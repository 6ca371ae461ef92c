"""All that moves while a network learns, and one step of it."""

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, optim

from ..config import Config
from ..data import Dataset, EpochSampler
from ..models import Network
from ..models.recorder import record_activity, step_summary
from . import faults
from .build import autocast, build_network
from .ema import Average
from .loss import cross_entropy
from .optim import build_optimizer, learning_rate, set_learning_rate


@dataclass
class Meter:
    """Loss and accuracy over the training samples of one epoch, as they were seen; of mixed ones the larger part counts."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    learning_rate: float = 0.0  # of the last step

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        self.loss += loss * len(labels)
        self.correct += int((logits.detach().argmax(1) == (labels if labels.dim() == 1 else labels.argmax(1))).sum())
        self.count += len(labels)


@dataclass
class Training:
    """All that moves while a network learns."""

    config: Config
    data: Dataset
    device: torch.device
    order: EpochSampler = field(init=False)
    net: Network = field(init=False)
    optimizer: optim.Optimizer = field(init=False)
    average: Average | None = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    steps_done: int = 0
    meter: Meter = field(default_factory=Meter)
    probed: dict[str, Any] = field(default_factory=dict)  # what the blocks did in the last step, if that was to be noted

    def __post_init__(self):
        how = self.config.optim
        autocast(how.precision, self.device)  # refuses what this device can't do
        autocast(how.eval_precision, self.device)
        self.order = EpochSampler(len(self.data.labels), how.batch, self.config.seed)
        self.net = self.built()
        self.optimizer = build_optimizer(how, self.net)
        self.average = Average(self.copied(), how.ema_decay) if how.ema_decay else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=how.precision == "float16")
        self.statistics = faults.Statistics(self.net)

    def built(self) -> Network:
        return build_network(self.config, self.data).to(self.device)

    def copied(self) -> Network:
        return copy.deepcopy(self.net)

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated and kept: the average of the weights, where there is one."""
        return self.average.net if self.average else self.net

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.optim.epochs * self.order.steps_per_epoch

    def step(self, samples: Tensor, labels: Tensor) -> float:
        """Learn from one batch; the loss.

        Raises:  NotFinite before a weight changes, the running estimates put back
        """
        number, every = self.steps_done, self.config.retention.probe_every_steps
        watching = record_activity(self.net) if every and (number + 1) % every == 0 and self.net.spiking else nullcontext()
        scale = self.scaler.get_scale()  # the optimiser's step may change it
        with watching as watches:
            value, logits = self.learn(samples, labels, number)
        self.probed = {"step": number + 1, **step_summary(self.net, watches, scale)} if watches else {}
        self.meter.add(value, logits, labels)
        self.steps_done += 1
        return value

    def learn(self, samples: Tensor, labels: Tensor, number: int) -> tuple[float, Tensor]:
        """Forward, backward, and a step of the optimiser: the loss and the logits."""
        how = self.config.optim
        self.meter.learning_rate = learning_rate(how, number, self.order.steps_per_epoch)
        set_learning_rate(self.optimizer, self.meter.learning_rate)
        self.net.train()
        self.statistics.note()
        with autocast(how.precision, self.device):
            logits = self.net(samples)
        loss = cross_entropy(logits, labels, how.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            self.give_up(f"the loss is {value}", samples, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.scaler.is_enabled():  # skips such steps by itself, and lowers its scale each time
            if self.scaler.get_scale() < 1:
                self.give_up("the gradient is not finite even under a loss scale below 1", samples, labels)
        else:
            norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.net.parameters() if p.grad is not None]))
            if not math.isfinite(norm):
                self.give_up(f"the norm of the gradient is {norm}", samples, labels)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.net, number)
        return value, logits

    def give_up(self, what: str, samples: Tensor, labels: Tensor) -> None:
        """Put the running estimates back and say where it went wrong."""
        self.statistics.restore()
        with autocast(self.config.optim.precision, self.device):
            where = faults.first_not_finite(self.net, samples, labels)
        self.statistics.restore()
        indices = self.order.batch_indices(self.steps_done).tolist()
        shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
        raise faults.NotFinite(
            f"{what} at step {self.steps_done}, learning rate {self.meter.learning_rate:g}, samples {shown}; {where}. "
            "No weight was changed in this step; try a new run with a smaller --optim.lr, or a longer --optim.warmup-epochs"
        )


def guarded_step(training: Training, samples: Tensor, labels: Tensor) -> float:
    """A step that says, when memory runs out, which batch would fit."""
    try:
        return training.step(samples, labels)
    except (RuntimeError, MemoryError) as error:
        if not faults.is_out_of_memory(error):
            raise
    training.optimizer.zero_grad(set_to_none=True)
    if training.device.type == "cuda":
        torch.cuda.empty_cache()
    precision = training.config.optim.precision
    other = "" if precision != "float32" else ", or --optim.precision bfloat16"
    if len(labels) == 1:
        raise faults.OutOfMemory(f"out of memory at a batch of one sample; try a smaller network or fewer time steps{other}")
    try:
        with autocast(precision, training.device):
            fits = faults.batch_that_fits(training.net, samples, labels, faults.free_memory(training.device))
        fits = min(fits, max(1, len(labels) // 2))
    except (RuntimeError, MemoryError):  # no memory even for a few samples
        fits = 1
    raise faults.OutOfMemory(
        f"out of memory at a batch of {len(labels)}: about {fits} would fit; try --optim.batch {fits} (the learning rate "
        f"scales with it){other}"
    )
