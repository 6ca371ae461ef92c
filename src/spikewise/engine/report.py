"""What a run says: lines of metrics, curves, the console, and its results."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import rich.console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from .. import disk
from ..config import Config
from .evaluate import Score
from .run import folder as rundir


@dataclass(frozen=True)
class Result:
    """What a run reached on its test split, from its metrics.jsonl.

    final:         test accuracy of the last epoch, 0 to 1
    correct:       right answers then, of `total`
    best:          the best epoch's, chosen on the test split, as all numbers of the paper are
    mean_of_last:  mean over the last `mean_over` evaluations
    """

    run: Path
    final: float
    correct: int
    total: int
    best: float
    best_epoch: int
    mean_of_last: float
    mean_over: int


class EpochSums(Protocol):
    """What is known of the training samples of an epoch."""

    loss: float
    correct: int
    count: int
    learning_rate: float


def record(run: Path, epoch: int, step: int, meter: EpochSums, test: Score) -> dict[str, Any]:
    """Add the line of an epoch to metrics.jsonl: only what is a function of the config."""
    line = {
        "epoch": epoch,
        "step": step,
        "train_loss": meter.loss / meter.count,
        "train_accuracy": meter.correct / meter.count,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "test_correct": test.correct,
        "test_total": test.total,
        "test_correct5": test.correct5,
        "learning_rate": meter.learning_rate,
    }
    rundir.append(run / rundir.METRICS, line)
    return line


def results(run: Path, config: Config) -> Result:
    """What a run reached so far."""
    lines = rundir.read_lines(run / rundir.METRICS)
    if not lines:
        raise ValueError(f"{run} has no finished epoch yet")
    best = max(lines, key=lambda line: line["test_accuracy"])
    last = [line["test_accuracy"] for line in lines[-config.retention.num_last_averaged :]]
    final = lines[-1]
    return Result(
        run=run,
        final=final["test_accuracy"],
        correct=final["test_correct"],
        total=final["test_total"],
        best=best["test_accuracy"],
        best_epoch=best["epoch"],
        mean_of_last=sum(last) / len(last),
        mean_over=len(last),
    )


class TensorBoard:
    """TensorBoard's file of a run, written anew from metrics.jsonl at every start: no point appears twice."""

    CURVES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate")

    def __init__(self, run: Path):
        folder = run / rundir.TENSORBOARD
        disk.remove(folder)
        self.writer = SummaryWriter(str(folder))
        for line in rundir.read_lines(run / rundir.METRICS):
            self.add(line)
        for line in rundir.read_lines(run / rundir.PROBE):
            self.add_probe(line)

    def add(self, line: dict[str, Any]) -> None:
        for name in self.CURVES:
            kind, _, rest = name.partition("_")
            self.writer.add_scalar(f"{kind}/{rest}" if kind in ("train", "test") else name, line[name], line["epoch"])

    def add_probe(self, line: dict[str, Any]) -> None:
        for name, block in line["blocks"].items():
            for what, value in block.items():
                if value is not None:
                    self.writer.add_scalar(f"{what}/{name}", value, line["step"])
        for name, tau in line["tau"].items():
            self.writer.add_scalar(f"tau/{name}", tau, line["step"])

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()


class Forgiving(rich.console.Console):
    """A console that falls silent when its reader goes away, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Console:
    """Lines and a progress bar on standard error."""

    def __init__(self, quiet: bool):
        self.rich = Forgiving(stderr=True, quiet=quiet or sys.stderr is None, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        try:
            self.rich.print(text, markup=False)
        except (OSError, ValueError):  # closed, or without such letters: no reason to stop a run
            self.rich.quiet = True

    def epoch(self, line: dict[str, Any], epochs: int, rate: float) -> None:
        self.line(
            f"epoch {line['epoch']:3}/{epochs}  train loss {line['train_loss']:.4f}  "
            f"test accuracy {100 * line['test_accuracy']:.2f} %  {rate:,.0f} samples/s"
        )

    @contextmanager
    def progress(self, total: int, done: int) -> Iterator[Callable[[str], None]]:
        """A bar with rate and time left, on a terminal; elsewhere nothing. Yields what to call after each step."""
        bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.rich,
            transient=True,
            disable=self.rich.quiet or not sys.stderr.isatty(),
        )
        with bar:
            task = bar.add_task("", total=total, completed=done, speed="")
            yield lambda speed: bar.update(task, advance=1, speed=speed)
