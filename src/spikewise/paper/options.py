"""What a reproduction is asked for."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

AT_START = ("images", "size", "batch")  # options of figures that show networks before training
TRAINING = ("data_root", "max_epochs", "check", "batch_size", "device", "workers")  # of what is trained


@dataclass(frozen=True)
class Options:
    """How a reproduction is made.

    seed:        of weights, labels, data order
    images:      before training: a folder of photographs; None: the embedded digits, enlarged
    size, batch: before training: side of the images in pixels, and how many
    data_root:   of what is trained, as all below: where the data lies
    runs:        folder of run folders
    max_epochs:  stop after so many epochs; the learning rates are those of the whole published run
    check:       a few steps on stand-in data, to see that everything works
    weights:     a folder of published weights, to be evaluated in place of training
    batch_size:  samples per step; None: the published number. The learning rate goes with it
    """

    seed: int = 0
    images: Path | None = None
    size: int = 112
    batch: int = 8
    data_root: str | None = None
    runs: Path | None = None
    max_epochs: int | None = None
    check: bool = False
    weights: Path | None = None
    batch_size: int | None = None
    device: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}; use 0 or more")
        if self.max_epochs is not None and self.max_epochs < 1:
            raise ValueError(f"max_epochs={self.max_epochs}; use 1 epoch or more")
        if self.batch_size is not None and self.batch_size < 2:
            raise ValueError(f"batch_size={self.batch_size}; batch norm needs 2 or more samples")
        if self.size < 32:
            raise ValueError(f"size={self.size} pixels; 152 layers halve an image five times: use 32 or more")
        if self.batch < 2:
            raise ValueError(f"batch={self.batch}; batch norm needs 2 or more images")

    def changed(self) -> dict[str, Any]:
        """What is not as it is when nothing is said, by name."""
        given = {field.name: (getattr(self, field.name), field.default) for field in fields(self) if field.name != "runs"}
        return {name: value for name, (value, default) in given.items() if value != default}

    def command(self, name: str) -> str:
        """The command line that says the same."""
        words = [flag(key) + ("" if value is True else f" {value}") for key, value in self.changed().items()]
        return " ".join(["spikewise reproduce", name, *words])


def flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
