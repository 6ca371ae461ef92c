"""What a run folder tells, read and checked before anything is drawn."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..engine.run.folder import ENVIRONMENT, METRICS, PROBE, TIMING, read_config, read_lines, read_object
from .measure import Measured, Missing, Scope, measure

# numbers without which a line can't be drawn
NUMBERS = {
    METRICS: (
        *("epoch", "step", "train_loss", "train_accuracy", "test_loss", "test_accuracy"),
        *("test_correct", "test_total", "learning_rate"),
    ),
    TIMING: ("epoch", "seconds", "samples_per_second", "data_wait_s"),
    PROBE: ("step",),
}
MACHINE = ("device", "cpu", "threads", "processes", "kernels", "torch", "numpy", "python", "platform", "spikewise")


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it, and what its network shows on the test split.

    label:     how the page calls it: the folder's name, or its path where another run has the same name
    epochs, timing, probe:  records of metrics.jsonl, timing.jsonl, probe.jsonl
    environment:  where it began, {} where the folder does not tell; resumes under "resumed"
    """

    path: Path
    label: str
    config: Config
    epochs: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    probe: list[dict[str, Any]]
    environment: dict[str, Any]
    measured: Measured | Missing

    @property
    def is_complete(self) -> bool:
        return len(self.epochs) >= self.config.optim.epochs


def read_runs(paths: tuple[Path, ...], scope: Scope) -> list[RunRecord]:
    """Read every run's folder, then look at every network.

    Raises:  FileNotFoundError for a folder that is no run; ValueError for a damaged one, and for a run given twice
    """
    labels = label_runs(paths)
    configs = [read_config(path, scope.data_root) for path in paths]
    files = [{name: read_records(path, name) for name in NUMBERS} for path in paths]
    records = []
    for path, label, config, lines in zip(paths, labels, configs, files, strict=True):
        environment = read_object(path / ENVIRONMENT)
        found = measure(path, config, lines[METRICS], scope)
        records.append(RunRecord(path, label, config, lines[METRICS], lines[TIMING], lines[PROBE], environment, found))
    return records


def label_runs(paths: tuple[Path, ...]) -> list[str]:
    whole = [path.resolve() for path in paths]
    if twice := next((path for path, place in zip(paths, whole, strict=True) if whole.count(place) > 1), None):
        raise ValueError(f"{twice} is given twice; name every run once")
    names = [place.name for place in whole]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def read_records(run: Path, name: str) -> list[dict[str, Any]]:
    """The lines of one of a run's files.

    Raises:  ValueError for a damaged one
    """
    records = read_lines(run / name)
    for number, record in enumerate(records, 1):
        for field in NUMBERS[name]:
            if not isinstance(record, dict) or not isinstance(record.get(field), int | float):
                raise ValueError(
                    f"{run / name} is damaged: line {number:,} has no number {field!r}; restore the file, or begin a new run"
                )
    return records
