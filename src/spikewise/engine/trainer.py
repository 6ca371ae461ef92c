"""Training: from a config to a run folder."""

import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter
from torch import Tensor, optim

from ..config import Config
from ..data import Images, Order
from ..models import Network
from . import checkpoint, rundir
from .average import Average
from .build import build_network, choose_device, load_data, make_training_batch
from .evaluate import Score, score
from .loss import cross_entropy
from .optim import build_optimizer, learning_rate, set_learning_rate


@dataclass(frozen=True)
class Result:
    """What a run reached on its test split. The best epoch is chosen on that split, as the paper did."""

    run: Path
    final: Score
    best: Score
    best_epoch: int


@dataclass
class Meter:
    """Loss and accuracy over the training samples of one epoch, as they were seen."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    learning_rate: float = 0.0  # of the last step
    began: float = field(default_factory=time.perf_counter)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += float(loss.detach()) * len(labels)
        self.correct += int((logits.detach().argmax(1) == labels).sum())
        self.count += len(labels)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


@dataclass
class Training:
    """All that moves while a network learns."""

    config: Config
    data: Images
    order: Order
    net: Network
    optimizer: optim.Optimizer
    average: Average | None
    device: torch.device

    @classmethod
    def begin(cls, config: Config, data: Images, device: torch.device) -> "Training":
        """Fresh weights, and nothing seen yet."""
        order = Order(len(data), config.optim.batch, config.seed)
        net = build_network(config, data).to(device)
        average = Average(net, config.optim.ema_decay) if config.optim.ema_decay else None
        return cls(config, data, order, net, build_optimizer(config.optim, net), average, device)

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated and kept: the average of the weights, where there is one."""
        return self.average.net if self.average else self.net

    def step(self, step: int, meter: Meter) -> float:
        """Learn from the samples of step `step`, counted from the start of training; the loss."""
        epoch = step // self.order.steps_per_epoch
        images, labels = make_training_batch(self.config, self.data, self.order.indices(step), epoch, self.device)
        meter.learning_rate = learning_rate(self.config.optim, step, self.order.steps_per_epoch)
        set_learning_rate(self.optimizer, meter.learning_rate)
        self.net.train()
        logits = self.net(images)
        loss = cross_entropy(logits, labels, self.config.optim.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {step}, learning rate {meter.learning_rate:g}; try a smaller --optim.lr"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update(self.net, step)
        meter.add(loss, logits, labels)
        return value


def train(config: Config, out: str | Path | None = None, *, device: str = "auto", quiet: bool = False) -> Result:
    """Train the network of a config and leave a run folder.

    out:     the run folder, new or empty; None is runs/RECIPE-SEED
    device:  auto, cpu, cuda or mps
    quiet:   no progress bar, no lines
    Raises:  FileExistsError for a folder in use; ValueError for a config that does not fit; FloatingPointError when the
             loss is not finite, before that step changes a weight
    """
    where = choose_device(device)
    test = load_data(config, "test")
    training = Training.begin(config, load_data(config, "train"), where)
    run = rundir.create(Path(out or f"runs/{config.recipe}-{config.seed}"), config, where)
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    console.print(summary(training))
    best: Score | None = None
    best_epoch, steps = 0, training.order.steps_per_epoch
    with SummaryWriter(str(run / "tensorboard")) as board, progress_bar(console) as bar:
        task = bar.add_task("", total=config.optim.epochs * steps, speed="")
        for epoch in range(config.optim.epochs):
            meter = Meter()
            for step in range(epoch * steps, (epoch + 1) * steps):
                loss = training.step(step, meter)
                bar.update(task, advance=1, speed=f"{meter.count / meter.seconds:,.0f} samples/s  loss {loss:.3f}")
            seconds = meter.seconds
            final = score(training.evaluated, test, where)
            kept = ["last"]
            if best is None or final.correct > best.correct:
                best, best_epoch, kept = final, epoch, ["best", "last"]
            for name in kept:
                folder = run / "checkpoints" / name
                checkpoint.save(folder, training.evaluated, training.optimizer, {"epochs_done": epoch + 1})
            report(run, board, epoch + 1, (epoch + 1) * steps, meter, final, seconds)
            console.print(
                f"epoch {epoch + 1:3}/{config.optim.epochs}  train loss {meter.loss / meter.count:.4f}  "
                f"test accuracy {100 * final.accuracy:.2f} %  {meter.count / seconds:,.0f} samples/s"
            )
    assert best is not None, "a config has at least one epoch"
    return Result(run, final, best, best_epoch)


def summary(training: Training) -> str:
    """What is about to be trained, in a line."""
    config = training.config
    return (
        f"{config.model.name} on {config.data.name}: {sum(p.numel() for p in training.net.parameters()):,} parameters, "
        f"{len(training.data):,} training samples, batch {config.optim.batch}, "
        f"peak learning rate {config.optim.peak_lr:g} ({config.optim.lr:g} per {config.optim.lr_batch}), {training.device}"
    )


def report(run: Path, board: SummaryWriter, epoch: int, step: int, meter: Meter, test: Score, seconds: float) -> None:
    """One line in metrics.jsonl and timing.jsonl, and the same curves for TensorBoard."""
    curves = {
        "train/loss": meter.loss / meter.count,
        "train/accuracy": meter.correct / meter.count,
        "test/loss": test.loss,
        "test/accuracy": test.accuracy,
        "learning_rate": meter.learning_rate,
    }
    line = {"epoch": epoch, "step": step, **{name.replace("/", "_"): value for name, value in curves.items()}}
    rundir.append(run / rundir.METRICS, line)
    rundir.append(run / rundir.TIMING, {"epoch": epoch, "seconds": seconds, "samples_per_second": meter.count / seconds})
    for name, value in curves.items():
        board.add_scalar(name, value, epoch)


def progress_bar(console: Console) -> Progress:
    """A bar with rate and time left, on a terminal; elsewhere nothing."""
    return Progress(
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not sys.stderr.isatty(),
    )
