"""Ledgers: finished runs as lines of JSON, which outlive run folders and machines; pages are made from them alone."""

import datetime
import json
from pathlib import Path
from typing import Any

from .. import disk
from ..config import Config
from ..engine.evaluate import evaluate
from ..engine.loop import resume, train
from ..engine.run.fingerprint import describe_changes, flatten_config
from ..engine.run.folder import CONFIG, METRICS, TIMING, read_config, read_lines
from ..version import __version__
from .runs import describe_machines, train_command

KEPT = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")  # of a run's lines, one per epoch
ELSEWHERE = ("data.root", "data.cache")  # fields that change nothing that is computed


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger; none where there is no file yet."""
    return disk.read_json_lines(path, "restore the file, as it was committed")


def runs_of(lines: list[dict[str, Any]], config: Config) -> list[dict[str, Any]]:
    """The lines of runs of a config, whatever their seed, by seed."""
    wanted = flatten_config(config)
    same = [line for line in lines if not describe_changes(line["config"] | {"seed": config.seed}, wanted)]
    return sorted(same, key=lambda line: line["config"]["seed"])


def add_run(ledger: Path, run: Path, config: Config, *, device: str = "auto", workers: int | None = None) -> None:
    """Train a config in the folder `run`, or finish it there, score it on the whole test split, and add its line.

    Raises:  ValueError where `run` was begun with another config; what `train` raises
    """
    finish_run(run, config, device=device, workers=workers)
    score = evaluate(run, device=device, data_root=config.data.root)
    numbers = {
        "test_accuracy": score.accuracy,
        "test_loss": score.loss,
        "test_total": score.total,
        "epochs": [{name: epoch[name] for name in KEPT if name in epoch} for epoch in read_lines(run / METRICS)],
    }
    seconds = sum(epoch["seconds"] for epoch in read_lines(run / TIMING))
    command = train_command(config, config.optim.epochs)
    add_line(ledger, numbers, config, command=command, seconds=seconds, machine=describe_machines(run))


def finish_run(run: Path, config: Config, *, device: str = "auto", workers: int | None = None) -> None:
    """Train a config in the folder `run`, or finish it there; nothing where it is finished.

    Raises:  as `add_run`
    """
    if (run / CONFIG).is_file():
        if changes := describe_changes(flatten_config(read_config(run)), flatten_config(config)):
            raise ValueError(f"{run} was trained otherwise ({', '.join(changes)}); move it away, or give another --out")
        if len(read_lines(run / METRICS)) < config.optim.epochs:
            resume(run, data_root=config.data.root, device=device, workers=workers)
    else:
        train(config, run, device=device, workers=workers)


def add_line(ledger: Path, numbers: dict[str, Any], config: Config, *, command: str, seconds: float, machine: str) -> None:
    """Add a line: numbers, and where they are from."""
    line = numbers | {
        "command": command,
        "seconds": round(seconds, 1),
        "machine": machine,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "spikewise": __version__,
        "config": {name: value for name, value in flatten_config(config).items() if name not in ELSEWHERE},
    }
    disk.append(ledger, (json.dumps(line) + "\n").encode())
