"""metrics.jsonl: one line per epoch, and the result of a run read from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from .evaluate import Score
from .run.folder import METRICS, append, read_lines
from .step import EpochMeter


@dataclass(frozen=True)
class Result:
    """What a run reached on its test split, from its metrics.jsonl. Accuracies are from 0 to 1.

    final:             accuracy after the last epoch
    correct, total:    correct predictions then, and samples
    best:              accuracy of the best epoch, chosen on the split `chosen_on`
    mean_last_epochs:  mean accuracy over the last `num_averaged` epochs
    """

    run: Path
    final: float
    correct: int
    total: int
    best: float
    best_epoch: int
    mean_last_epochs: float
    num_averaged: int
    chosen_on: str = "test"  # as all numbers of the paper are; or "validation", a part of the training split


def append_epoch_metrics(
    run: Path, epoch: int, step: int, meter: EpochMeter, test: Score, validation: Score | None = None
) -> dict[str, Any]:
    """Append an epoch's line to metrics.jsonl, and return it. It holds only what is a function of the config.

    The keys are a file format: runs that were begun earlier are continued with the same ones. With validation there are
    val_loss, val_accuracy, val_correct and val_total, too.
    """
    line = {
        "epoch": epoch,
        "step": step,
        "train_loss": meter.loss / meter.count,
        "train_accuracy": meter.correct / meter.count,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "test_correct": test.correct,
        "test_total": test.total,
        "test_correct5": test.correct_top5,
        "learning_rate": meter.learning_rate,
    }
    if validation is not None:
        line |= {
            "val_loss": validation.loss,
            "val_accuracy": validation.accuracy,
            "val_correct": validation.correct,
            "val_total": validation.total,
        }
    append(run / METRICS, line)
    return line


def best_epoch_metrics(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The line of the epoch with the highest accuracy on the validation samples, without them on the test split; the first of
    equals.
    """
    return max(lines, key=lambda line: line.get("val_accuracy", line["test_accuracy"]))


def read_result(run: Path, config: Config) -> Result:
    """What a run has reached so far.

    Raises:  ValueError for a run without a finished epoch
    """
    lines = read_lines(run / METRICS)
    if not lines:
        raise ValueError(f"{run} has no finished epoch yet")
    best, final = best_epoch_metrics(lines), lines[-1]
    last = [line["test_accuracy"] for line in lines[-config.retention.num_last_averaged :]]
    return Result(
        run=run,
        final=final["test_accuracy"],
        correct=final["test_correct"],
        total=final["test_total"],
        best=best["test_accuracy"],
        best_epoch=best["epoch"],
        mean_last_epochs=sum(last) / len(last),
        num_averaged=len(last),
        chosen_on="validation" if "val_accuracy" in best else "test",
    )
