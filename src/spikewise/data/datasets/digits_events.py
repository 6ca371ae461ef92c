"""The embedded digits, moved in front of a simulated event camera."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..augment import resize
from ..dataset import DatasetEntry, DatasetInfo
from ..events.events import Events
from ..events.recordings import EventDataset
from ..events.simulate import simulate
from .digits import digits


@dataclass(frozen=True)
class SimulatedRecordings:
    """Simulated recordings of images: each is made when it is first asked for, and kept in memory."""

    images: np.ndarray  # [N, H, W], 0 to 1
    first_seed: int
    recordings: dict[int, Events] = field(default_factory=dict)

    def __call__(self, index: int) -> Events:
        if index not in self.recordings:
            self.recordings[index] = simulate(self.images[index], seed=self.first_seed + index)
        return self.recordings[index]


def digits_events(
    split: str, root: str | Path | None = None, *, T: int = 8, split_by: str = "count", cache: bool = False, **options: Any
) -> EventDataset:
    """The embedded digits, enlarged to 32 x 32 pixels, seen by the simulated camera: 1,438 training, 359 test recordings.

    T, split_by:  frames per recording, and how events are divided into them; see `EventDataset`
    cache:        no effect: recordings are kept in memory
    options:      as of `nmnist`
    """
    still = digits(split, root)
    images = resize(still.images[:, 0].astype(np.float32) / still.max_pixel, (32, 32))
    read = SimulatedRecordings(images, first_seed=0 if split == "train" else 1_000_000)
    return EventDataset("digits-events", range(len(still)), still.labels, still.class_names, T, read, split_by, options=options)


ENTRY = DatasetEntry(
    digits_events,
    "the digits, 32 x 32 pixels, moved in front of a simulated event camera; simulated when first read",
    DatasetInfo(num_train=1438, num_classes=10, shape=(2, 32, 32)),
    events=True,
)
