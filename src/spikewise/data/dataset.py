"""What a data set is, to whoever trains on it."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np


class Samples(Protocol):
    """A split of a data set: labels in memory, samples one at a time."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def labels(self) -> np.ndarray:
        """The class of every sample, int64 [N]."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""

    @property
    def in_channels(self) -> int:
        """Channels of a sample."""

    def sample(self, index: int) -> np.ndarray:
        """One sample as a network sees it, float32: an image [C, H, W] or frames [T, C, H, W]."""


def find_folder(root: str | Path | None, name: str, holds: str, bring: str, *others: str) -> Path:
    """The folder of a data set: `root` itself, or `root`/`name` or one of the `others` in it, whichever has the entry `holds`.

    root:    None is $SPIKEWISE_DATA, or else the folder `data`
    bring:   what to do when it is not there
    Raises:  FileNotFoundError that says where was looked, and what to do
    """
    base = Path(root or os.environ.get("SPIKEWISE_DATA") or "data")
    for folder in (base, *(base / other for other in (name, *others))):
        if (folder / holds).exists() or (folder / f"{holds}.gz").exists():
            return folder
    raise FileNotFoundError(
        f"no {name} data: {holds} is neither in {base} nor in {base / name}; {bring}, or say where it is "
        "(SPIKEWISE_DATA in the environment; --data.root of a new run, --data-root of an old one)"
    )


def require_split(split: str, data: str) -> None:
    """Refuse a split that is neither train nor test."""
    if split not in ("train", "test"):
        raise ValueError(f"{data} has no split {split!r}; use 'train' or 'test'")


def require_labels(labels: np.ndarray, num_classes: int, file: Path) -> None:
    """Refuse labels that no class has."""
    if len(labels) and int(labels.max()) >= num_classes:
        at = int(np.argmax(labels >= num_classes))
        raise ValueError(f"{file}: label {int(labels[at])} of sample {at} is out of range; there are {num_classes} classes")
