"""A network to analyse and samples to show it: from a run folder, or from a file of weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..config import Config
from ..data.subset import Subset
from ..engine.build import choose_device
from ..engine.evaluate import labelled_batches, load_test_split, load_trained
from ..engine.loader import EvalBatches
from ..engine.run.folder import METRICS, is_run, read_lines, run_of_checkpoint
from ..models import Network
from ..models.event_nets import EventNet
from ..models.network import require_positive
from ..wording import option
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
    size: int | None = None,
    default_size: int = 224,
    device: str = "auto",
    data_root: str | None = None,
    data_name: str | None = None,
    **overrides: Any,
) -> AnalysisInput:
    """The network of a run with samples of its test split, or that of a file with samples of its data, or with images.

    images:       for a file: a folder of photographs; None: its data's test split or, of a file that tells no data and without
                  `data_name`, the embedded digits, enlarged to `size` (None: `default_size`) pixels
    data_root, data_name, overrides:  as of `spikewise.evaluate`
    Raises:       FileNotFoundError, ValueError for what can't be read; ValueError for a file of an event network without data,
                  and for images beside data
    """
    require_positive(samples=samples)
    where, of_run = choose_device(device), is_run(path)
    if of_run and (images is not None or size is not None):
        raise ValueError(f"images and their size are for weights files; {path} is a run, and shown its test split")
    net, config = load_trained(path, data_root=data_root, data_name=data_name, **overrides)
    net = net.to(where)
    if images is not None or config is None:
        if data_name is not None:
            raise ValueError(f"give {option('images', str(images))} or {option('data_name', data_name)}, not both")
        if isinstance(net, EventNet):
            raise ValueError(f"{path} holds a network for event recordings; name their data set: {option('data_name')}")
        side = default_size if size is None else size
        batch = load_sample_images(images, size=side, batch=samples, in_channels=net.in_channels).to(where)
        return AnalysisInput(net, ((part, None) for part in batch.split(BATCH_SIZE)), None)
    if size is not None:
        raise ValueError(f"{option('size', size)} is for images; samples of {config.data.name} have their own")
    data = load_test_split(net, config, path, overrides.get("T"))
    test = EvalBatches(Subset(data, spread_over_classes(data.labels, samples)), min(BATCH_SIZE, samples))
    batches = labelled_batches(net, test, range(min(-(-samples // test.batch), len(test))), where)
    if of_run:
        return AnalysisInput(net, batches, config, *recorded_progress(Path(path)))
    return AnalysisInput(net, batches, config if data_name is None and run_of_checkpoint(path) else None)


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
