"""The options of a reproduction."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

UNTRAINED_OPTIONS = ("images", "size", "batch")  # of figures that show networks before training
TRAINING_OPTIONS = ("data_root", "max_epochs", "check", "batch_size", "device", "workers")
LEDGER_OPTIONS = ("data_root", "device", "workers", "from_ledger")  # of grids whose finished runs are lines of a ledger


@dataclass(frozen=True)
class Options:
    """How a figure or table is reproduced.

    seed:        of weights, labels, data order
    images:      before training: a folder of photographs; None: the embedded digits, enlarged
    size, batch: before training: side of the images in pixels, and how many
    data_root:   of what is trained, as all below: where the data lies
    runs:        folder of run folders
    max_epochs:  stop after so many epochs; the learning rates are those of the whole published run
    check:       a few steps on synthetic data, to see that everything works
    weights:     a folder of published weights, to be evaluated instead of training
    from_ledger: make the page from the runs that are in the ledger, and train nothing
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
    from_ledger: bool = False
    device: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        least = (
            ("seed", 0, "use 0 or more"),
            ("max_epochs", 1, "use 1 epoch or more"),
            ("batch_size", 2, "batch norm needs 2 or more samples"),
            ("batch", 2, "batch norm needs 2 or more images"),
            ("size", 32, "152 layers halve an image five times: use 32 or more pixels"),
        )
        for name, minimum, advice in least:
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ValueError(f"{name}={value}; {advice}")

    def non_default(self) -> dict[str, Any]:
        """Options that differ from their defaults, by name."""
        values = {option.name: getattr(self, option.name) for option in fields(self) if option.name != "runs"}
        return {name: value for name, value in values.items() if value != getattr(type(self), name)}

    def command(self, name: str) -> str:
        """The command line that says the same."""
        words = [flag(key) + ("" if value is True else f" {value}") for key, value in self.non_default().items()]
        return " ".join(["spikewise reproduce", name, *words])


def flag(option: str) -> str:
    return "--data.root" if option == "data_root" else f"--{option.replace('_', '-')}"
