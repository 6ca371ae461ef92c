"""Accuracy and loss of a network on a whole split, and the networks of finished runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import disk
from ..config import Config, Data, Optim
from ..data import Dataset, find_dataset
from ..data.input_spec import match_classes
from ..models import Network
from ..models.folding import fold_norms
from ..models.network import require_positive
from ..models.published_files import PublishedAccuracy
from ..models.weights import load_pretrained, resolve_weights_file
from ..progress import MinuteLines
from ..wording import count, option
from .build import autocast, choose_device, load_data, model_config, weights_channels_last, where_data_is
from .console import Console
from .distributed import ALONE, World
from .loader import EvalBatches, fit_workers, iterate_batches, resolve_num_workers
from .loss import LOSSES
from .run.checkpoint import find_corruption, read_state
from .run.fingerprint import describe_changes, run_fingerprint
from .run.folder import CHECKPOINTS, is_run, read_config, run_of_checkpoint
from .shards import sum_in_order

FILE_BATCH = 64  # samples of a weights file's data computed at once


@dataclass
class Answers:
    """What a network said of every sample of a split, in their order.

    labels, predicted:  class indices of the network
    probability:        of the predicted class
    sources:            files, where the samples are files; else their numbers
    class_names:        of the network or, where it has none, of the data; numbers where those do not fit
    """

    class_names: tuple[str, ...] = ()
    sources: Sequence[object] = ()
    labels: list[int] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    probability: list[float] = field(default_factory=list)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        probability, predicted = logits.float().softmax(1).max(1)
        self.labels.extend(labels.tolist())
        self.predicted.extend(predicted.tolist())
        self.probability.extend(probability.tolist())

    def confusion(self) -> np.ndarray:
        """How many samples of each class (row) were taken for each (column): int64 [classes, classes]."""
        num_classes = len(self.class_names)
        pairs = np.array(self.labels, np.int64) * num_classes + np.array(self.predicted, np.int64)
        return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Score:
    """Correct predictions among `total` samples, their mean loss, and how often the label is among the five largest logits.

    published:  what the authors' log says, where the network is of a file of theirs
    """

    correct: int
    total: int
    loss: float
    correct_top5: int
    published: PublishedAccuracy | None = None

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, 0 to 1."""
        return self.correct / self.total


@torch.no_grad()
def evaluate_network(
    net: Network,
    data: Dataset,
    device: torch.device,
    *,
    precision: str = "float32",
    loss: str = "cross_entropy",
    batch: int = 256,
    workers: int = 0,
    quiet: bool = True,
    answers: Answers | None = None,
    world: World = ALONE,
) -> Score:
    """Score a network on every sample once, in evaluation mode; its mode is restored afterwards.

    loss:     of LOSSES, whose mean is taken
    answers:  takes what the network says of each sample that this process computes
    quiet:    False: where standard error is no terminal, say there once a minute how far it is
    world:    the processes that share the batches; each of them returns the score of all
    """
    training, batches = net.training, EvalBatches(data, batch)
    mine = range(world.rank, len(batches), world.size)
    # loss, correct, correct_top5 of each batch
    sums = torch.zeros(len(batches), 3, dtype=torch.float64, device=place_of_sums(device))
    seen = 0
    if answers is not None:
        answers.sources = getattr(data, "files", range(len(data.labels)))
        names = net.class_names or tuple(data.class_names)
        answers.class_names = names if len(names) == net.num_classes else tuple(map(str, range(net.num_classes)))
    lines = MinuteLines(Console(quiet or not world.is_first).minutely, len(data.labels))
    net.eval()
    try:
        for number, (samples, labels) in zip(mine, labelled_batches(net, batches, mine, device, workers), strict=True):
            with autocast(precision, device):
                logits = net(samples)
            if answers is not None:
                answers.add(logits, labels)
            sums[number] = score_sums(logits, labels, loss)
            seen += len(labels)
            lines.at(at := min((number + 1) * batch, len(data.labels)), partial(describe_progress, data, at, sums, seen))
    finally:
        net.train(training)
    total_loss, correct, correct_top5 = (sum_in_order(column) for column in world.join(sums.cpu()).T)
    return Score(int(correct), len(data.labels), total_loss / len(data.labels), int(correct_top5))


def score_sums(logits: Tensor, labels: Tensor, loss: str = "cross_entropy") -> Tensor:
    """Of a batch: the sum of the losses, right answers, and labels among the five largest logits; float64 [3]. A GPU is not
    waited for.
    """
    top5 = logits.topk(min(5, logits.shape[1])).indices
    total = LOSSES[loss](logits, labels) * len(labels)
    right = (logits.argmax(1) == labels).sum(), (top5 == labels[:, None]).sum()
    return torch.stack([value.to(place_of_sums(logits.device), torch.float64) for value in (total, *right)])


def place_of_sums(device: torch.device) -> torch.device:
    """Where sums of what this device computes are kept: others than CUDA and the CPU have no float64."""
    return device if device.type == "cuda" else torch.device("cpu")


def describe_progress(data: Dataset, at: int, sums: Tensor, seen: int) -> str:
    return f"evaluating {data.name}: {at:,} of {len(data.labels):,} samples, loss {float(sums[:, 0].sum()) / seen:.3f}"


def labelled_batches(
    net: Network, batches: EvalBatches, numbers: range, device: torch.device, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """`iterate_batches` for a network: the labels are its class indices.

    Raises:  ValueError for classes that only one of network and data has
    """
    classes = class_indices(net, batches.data, device)
    for samples, labels in iterate_batches(batches, numbers, device, workers):
        yield samples, labels if classes is None else classes[labels]


def class_indices(net: Network, data: Dataset, device: torch.device) -> Tensor | None:
    """The network's class index of each class of the data, matched by name; None where they are the same, or unknown.

    Raises:  ValueError for classes that only one of them has
    """
    if not net.class_names and net.num_classes < len(data.class_names):
        raise ValueError(class_mismatch(net, data))
    if not net.class_names or net.class_names == tuple(data.class_names):
        return None
    return torch.tensor(match_classes(net.class_names, tuple(data.class_names), data.name), device=device)


def class_mismatch(net: Network, data: Dataset) -> str:
    """What is wrong where a network without class names has another number of classes than the data."""
    return f"{data.name} has {count(len(data.class_names), 'class')}, the network {net.num_classes:,} without names"


def load_run(
    run: str | Path, checkpoint: str = "last", data_root: str | None = None, **overrides: Any
) -> tuple[Network, Config]:
    """The network of a run, in evaluation mode, and its config.

    checkpoint:  "last" or "best"
    data_root:   where the data is now; None: where the config says
    overrides:   as of `load_pretrained`
    Raises:      FileNotFoundError for a run without that checkpoint; ValueError for a corrupt one, or one of another config
    """
    config, folder = read_config(Path(run), data_root), disk.follow(Path(run) / CHECKPOINTS / checkpoint)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{run} has no checkpoint {checkpoint!r} yet: its first epoch is not finished, or it keeps none"
        )
    if corruption := find_corruption(folder):
        raise ValueError(
            f"{folder} is damaged: {corruption}; `spikewise train --resume {run}` continues from the newest intact checkpoint"
        )
    now = run_fingerprint(config, np.empty(0))
    if changes := describe_changes(read_state(folder).get("run"), now, sections=("model", "data")):
        raise ValueError(f"{run}/config.json was changed since {folder.name} was saved: {', '.join(changes)}; undo that")
    return weights_channels_last(load_pretrained(resolve_weights_file(folder), **overrides)), config


def load_weights(
    path: str | Path, data_name: str | None, data_root: str | None, **overrides: Any
) -> tuple[Network, Config | None]:
    """The network of a weights file, and the data that it was trained on, or other data of the same kind, as a config; None
    where neither the file nor `data_name` says which data.

    Raises:  as `load_pretrained`
    """
    net = weights_channels_last(load_pretrained(path, **overrides)).float()
    spec = net.input_spec
    name = data_name or (spec and spec.data)
    if not name:
        return net, None
    fields: dict[str, Any] = {"name": name, "root": data_root}
    entry = find_dataset(name)
    if spec is not None and entry.variable_size and spec.kind == "photographs":
        fields |= {"size": spec.shape[1:], "mean": spec.mean, "std": spec.std}
    if spec is not None and entry.events and spec.kind == "events":
        fields |= {"num_frames": spec.num_frames, "split_by": spec.split_by, "max_count": spec.max_count, **spec.frame_options}
        if spec.sensor is not None:
            fields |= {"size": spec.shape[1:], "crop": spec.crop}
    return net, Config(data=Data(**fields), model=model_config(net), optim=Optim(batch=FILE_BATCH))


def load_trained(
    path: str | Path,
    *,
    checkpoint: str = "last",
    data_root: str | None = None,
    data_name: str | None = None,
    **overrides: Any,
) -> tuple[Network, Config | None]:
    """The network of a run or of a weights file, and its config; None of a file that does not tell its data.

    checkpoint, data_root, data_name, overrides:  as of `evaluate`
    Raises:  FileNotFoundError, ValueError with what is wrong and what to do
    """
    if "T" in overrides:
        require_positive(T=overrides["T"])
    if is_run(path):
        if data_name is not None:
            raise ValueError(
                f"{option('data_name', data_name)} is for weights files; {path} is a run, whose config says its data"
            )
        return load_run(path, checkpoint, data_root, **overrides)
    if checkpoint != "last":
        raise ValueError(f"{option('checkpoint', checkpoint)} is for runs; {path} is a file of weights")
    if data_name is None and (found := run_of_checkpoint(path)):
        return load_run(*found, data_root, **overrides)
    return load_weights(path, data_name, data_root, **overrides)


def load_test_split(net: Network, config: Config | None, path: str | Path, T: int | None = None) -> Dataset:
    """The test split for a network that `load_trained` read from a path.

    T:       that was asked for
    Raises:  as `load_data`; ValueError where nothing says which data, for a T beside recordings, for another number of classes
    """
    if config is None:
        raise ValueError(f"{path} does not say what it was trained on; name the data set: {option('data_name')}")
    if T is not None and find_dataset(config.data.name).events:
        raise ValueError(f"{option('T', T)} is for images; recordings are cut into frames as in training")
    data = load_data(config, "test")
    if net.class_names:
        match_classes(net.class_names, tuple(data.class_names), where_data_is(config.data))
    elif net.num_classes != len(data.class_names):
        raise ValueError(class_mismatch(net, data))
    return data


def evaluate(
    run: str | Path,
    *,
    device: str = "auto",
    checkpoint: str = "last",
    workers: int | None = None,
    data_root: str | None = None,
    data_name: str | None = None,
    batch: int | None = None,
    answers: Answers | None = None,
    quiet: bool = True,
    fold: bool = False,
    **overrides: Any,
) -> Score:
    """Score a run on its test split, in the precision of its config; or a weights file, in float32.

    run:         the run folder, or a weights file
    checkpoint:  which of a run's checkpoints: "last", or "best" (chosen on samples held out for validation or, without them, on
                 the test split, as the paper did)
    workers:     data loading processes; 0: this process; None: chosen by device
    data_root:   where the data is now; None: where the config says
    data_name:   of a weights file: another data set than it was trained on. Classes are matched by name
    batch:       samples computed at once; None: as in training, of a file 64
    answers:     takes what the network says of each sample
    quiet:       False: where standard error is no terminal, say there once a minute how far it is
    fold:        whether batch norms are folded into the convolutions first (folding.py), as exported networks have them
    overrides:   as of `load_pretrained`: T, the time steps for which an image is shown, and what a file does not tell
    Raises:      FileNotFoundError, ValueError with what is wrong and what to do
    """
    where = choose_device(device)
    if batch is not None:
        require_positive(batch=batch)
    net, config = load_trained(run, checkpoint=checkpoint, data_root=data_root, data_name=data_name, **overrides)
    data = load_test_split(net, config, run, overrides.get("T"))
    assert config is not None, "the test split is of its data"
    optim, batch = config.optim, batch or config.optim.shard_batch
    workers = fit_workers(resolve_num_workers(workers, where), data, batch, Console(quiet).line)
    score = evaluate_network(
        (weights_channels_last(fold_norms(net)) if fold else net).to(where),
        data,
        where,
        precision=optim.eval_precision,
        loss=optim.loss,
        batch=batch,
        workers=workers,
        quiet=quiet,
        answers=answers,
    )
    return replace(score, published=net.published)
