"""A network to analyse and samples to show it: from a run folder, or from a file of weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..config import Config
from ..data.subset import Subset
from ..engine.build import choose_device, load_data, weights_channels_last
from ..engine.evaluate import load_run
from ..engine.loader import EvalBatches, iterate_batches
from ..engine.run.folder import CONFIG, METRICS, read_lines
from ..models import Network
from ..models.event_nets import EventNet
from ..models.weights import load_pretrained
from .sample_images import load_sample_images

BATCH_SIZE = 8


class AnalysisInput(NamedTuple):
    """A network, batches of samples with their labels, if any, and the config of its run, if there is one.

    steps:  training steps recorded in the run folder; 0 for a file
    score:  correct predictions and samples of the run's last evaluation; None without one
    """

    net: Network
    batches: Iterator[tuple[Tensor, Tensor | None]]
    config: Config | None
    steps: int = 0
    score: tuple[int, int] | None = None


def load_analysis_input(
    path: str | Path,
    *,
    samples: int,
    images: Path | None = None,
    size: int = 224,
    device: str = "auto",
    data_root: str | None = None,
    name: str | None = None,
    connect: str | None = None,
) -> AnalysisInput:
    """The network of a run with the first samples of its test split, or that of a file with images.

    images, size:  for a file: a folder of photographs, or None: the embedded digits, enlarged to `size` pixels
    name, connect: for a file that does not record them
    Raises:        FileNotFoundError, ValueError for what can't be read; ValueError for a file of an event network
    """
    if samples < 1:
        raise ValueError(f"samples={samples}; use 1 or more")
    where, path = choose_device(device), Path(path)
    if (path / CONFIG).is_file() and (path / METRICS).exists():
        net, config = load_run(path, data_root=data_root)
        data = load_data(config, "test")
        test = EvalBatches(Subset(data, spread_over_classes(data.labels, samples)), min(BATCH_SIZE, samples))
        numbers = range(min(-(-samples // min(BATCH_SIZE, samples)), len(test)))
        return AnalysisInput(
            net.to(where), iter(iterate_batches(test, numbers, where, workers=0)), config, *recorded_progress(path)
        )
    overrides = {key: value for key, value in (("name", name), ("connect", connect)) if value is not None}
    net = weights_channels_last(load_pretrained(path, **overrides)).to(where)
    if isinstance(net, EventNet):
        raise ValueError(f"{path} holds a network for event recordings, which a file does not bring; give the run folder")
    batch = load_sample_images(images, size=size, batch=samples, in_channels=net.in_channels).to(where)
    return AnalysisInput(net, ((part, None) for part in batch.split(BATCH_SIZE)), None)


def recorded_progress(run: Path) -> tuple[int, tuple[int, int] | None]:
    """Training steps up to the last epoch that a run folder records, and its correct predictions and samples."""
    epochs = read_lines(run / METRICS)
    if not epochs:
        return 0, None
    last = epochs[-1]
    return int(last["step"]), (int(last["test_correct"]), int(last["test_total"]))


def spread_over_classes(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` samples, or all: the first of each class, then the second of each, and so on."""
    within = np.empty(len(labels), np.int64)  # the place of each sample in its class
    for label in np.unique(labels):
        within[labels == label] = np.arange(np.count_nonzero(labels == label))
    return np.lexsort((np.arange(len(labels)), labels, within))[:count]
