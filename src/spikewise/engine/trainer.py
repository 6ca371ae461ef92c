"""Training: from a config to a run folder."""

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter
from torch import Tensor, nn, optim

from ..config import Config
from ..data import Images, Order
from . import checkpoint, rundir
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
class EpochMeter:
    """Loss and accuracy over the training samples of one epoch, as they were seen."""

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    learning_rate: float = 0.0  # of the last step

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += float(loss.detach()) * len(labels)
        self.correct += int((logits.detach().argmax(1) == labels).sum())
        self.count += len(labels)


def train(config: Config, out: str | Path | None = None, *, device: str = "auto", quiet: bool = False) -> Result:
    """Train the network of a config and leave a run folder.

    out:     the run folder, new or empty; None is runs/RECIPE-SEED
    device:  auto, cpu, cuda or mps
    quiet:   no progress bar, no lines
    Raises:  FileExistsError for a folder in use; ValueError for a config that does not fit; FloatingPointError when the
             loss is not finite, before that step changes a weight
    """
    where = choose_device(device)
    data, test = load_data(config, "train"), load_data(config, "test")
    order = Order(len(data), config.optim.batch, config.seed)
    net = build_network(config, data).to(where)
    optimizer = build_optimizer(config.optim, net)
    run = rundir.create(Path(out or f"runs/{config.recipe}-{config.seed}"), config, where)
    console = Console(stderr=True, quiet=quiet)
    console.print(
        f"{config.model.name} on {config.data.name}: {sum(p.numel() for p in net.parameters()):,} parameters, "
        f"{len(data):,} training samples, batch {config.optim.batch}, peak learning rate {config.optim.peak_lr:g}, {where}",
        highlight=False,
    )
    best, best_epoch, final = None, 0, None
    with SummaryWriter(str(run / "tensorboard")) as board, progress_bar(console) as bar:
        task = bar.add_task("", total=config.optim.epochs * order.steps_per_epoch, speed="")
        for epoch in range(config.optim.epochs):
            began = time.perf_counter()
            meter = train_epoch(
                config, net, optimizer, data, order, epoch, where, lambda text: bar.update(task, advance=1, speed=text)
            )
            seconds = time.perf_counter() - began
            final = score(net, test, where)
            if best is None or final.correct > best.correct:
                best, best_epoch = final, epoch
                checkpoint.save(run / "checkpoints" / "best", net, optimizer, {"epochs_done": epoch + 1})
            checkpoint.save(run / "checkpoints" / "last", net, optimizer, {"epochs_done": epoch + 1})
            report(run, board, epoch + 1, (epoch + 1) * order.steps_per_epoch, meter, final, seconds)
            console.print(
                f"epoch {epoch + 1:3}/{config.optim.epochs}  train loss {meter.loss / meter.count:.4f}  "
                f"test accuracy {100 * final.accuracy:.2f} %  {meter.count / seconds:,.0f} samples/s",
                highlight=False,
            )
    assert best is not None and final is not None, "a config has at least one epoch"
    return Result(run, final, best, best_epoch)


def train_epoch(
    config: Config,
    net: nn.Module,
    optimizer: optim.Optimizer,
    data: Images,
    order: Order,
    epoch: int,
    device: torch.device,
    tick: Any,
) -> EpochMeter:
    """One pass over the training samples."""
    net.train()
    meter = EpochMeter()
    began = time.perf_counter()
    for step in range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch):
        images, labels = make_training_batch(config, data, order.indices(step), epoch, device)
        meter.learning_rate = lr = learning_rate(config.optim, step, order.steps_per_epoch)
        set_learning_rate(optimizer, lr)
        logits = net(images)
        loss = cross_entropy(logits, labels, config.optim.label_smoothing)
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(
                f"the loss is {float(loss.detach())} at step {step}, learning rate {lr:g}; try a smaller --optim.lr"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        meter.add(loss, logits, labels)
        tick(f"{meter.count / (time.perf_counter() - began):,.0f} samples/s  loss {float(loss.detach()):.3f}")
    return meter


def report(run: Path, board: SummaryWriter, epoch: int, step: int, meter: EpochMeter, test: Score, seconds: float) -> None:
    """One line in metrics.jsonl and timing.jsonl, and the same curves for TensorBoard."""
    curves = {
        "train/loss": meter.loss / meter.count,
        "train/accuracy": meter.correct / meter.count,
        "test/loss": test.loss,
        "test/accuracy": test.accuracy,
        "learning_rate": meter.learning_rate,
    }
    rundir.append(run / rundir.METRICS, {"epoch": epoch, "step": step, **{k.replace("/", "_"): v for k, v in curves.items()}})
    rundir.append(run / rundir.TIMING, {"epoch": epoch, "seconds": seconds, "samples_per_second": meter.count / seconds})
    for name, value in curves.items():
        board.add_scalar(name, value, epoch)


def progress_bar(console: Console) -> Progress:
    """A bar with rate and time left, on a terminal; elsewhere nothing."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=console.quiet or not sys.stderr.isatty())
