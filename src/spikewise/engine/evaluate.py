"""Accuracy and loss of a network on a whole split, and the networks of finished runs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data import Dataset
from ..models import Network
from ..models.weights import load_pretrained, resolve_weights_file
from ..progress import MinuteLines
from .build import autocast, choose_device, load_data, weights_channels_last
from .console import Console
from .loader import EvalBatches, iterate_batches
from .loss import cross_entropy
from .run.checkpoint import find_corruption, read_state
from .run.fingerprint import describe_changes, run_fingerprint
from .run.folder import CHECKPOINTS, read_config


@dataclass(frozen=True)
class Score:
    """Correct predictions among `total` samples, their mean loss, and how often the label is among the five largest logits."""

    correct: int
    total: int
    loss: float
    correct_top5: int

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
    batch: int = 256,
    workers: int = 0,
    quiet: bool = True,
) -> Score:
    """Score a network on every sample once, in evaluation mode; its mode is restored afterwards.

    quiet:  False: where standard error is no terminal, say there once a minute how far it is
    """
    training, batches = net.training, EvalBatches(data, batch)
    correct, correct_top5, loss, seen = 0, 0, 0.0, 0
    lines = MinuteLines(Console(quiet).minutely, len(data.labels))
    net.eval()
    try:
        for samples, labels in iterate_batches(batches, range(len(batches)), device, workers):
            with autocast(precision, device):
                logits = net(samples)
            correct += int((logits.argmax(1) == labels).sum())
            top5 = logits.topk(min(5, logits.shape[1])).indices
            correct_top5 += int((top5 == labels[:, None]).sum())
            loss += float(cross_entropy(logits, labels)) * len(labels)
            seen += len(labels)
            lines.at(seen, lambda: f"evaluating {data.name}: {seen:,} of {len(data.labels):,} samples, loss {loss / seen:.3f}")  # noqa: B023  # called at once
    finally:
        net.train(training)
    return Score(correct, len(data.labels), loss / len(data.labels), correct_top5)


def load_run(run: str | Path, checkpoint: str = "last", data_root: str | None = None) -> tuple[Network, Config]:
    """The network of a run, in evaluation mode, and its config.

    checkpoint:  "last" or "best"
    data_root:   where the data is now; None: where the config says
    Raises:      FileNotFoundError for a run without that checkpoint; ValueError for a corrupt one, or one of another config
    """
    config, folder = read_config(Path(run), data_root), Path(run) / CHECKPOINTS / checkpoint
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
    return weights_channels_last(load_pretrained(resolve_weights_file(folder))), config


def evaluate(
    run: str | Path,
    *,
    device: str = "auto",
    checkpoint: str = "last",
    workers: int = 0,
    data_root: str | None = None,
    quiet: bool = True,
) -> Score:
    """Score a run on its test split, in the precision of its config.

    run:         the run folder
    checkpoint:  which of its checkpoints: "last", or "best" (selected on the test split, as the paper did)
    workers:     data loading processes; 0: this process
    data_root:   where the data is now; None: where the config says
    quiet:       False: where standard error is no terminal, say there once a minute how far it is
    Raises:      FileNotFoundError, ValueError with what is wrong and what to do
    """
    torch_device = choose_device(device)
    net, config = load_run(run, checkpoint, data_root)
    net, data, optim = net.to(torch_device), load_data(config, "test"), config.optim
    precision, batch = optim.eval_precision, optim.batch
    return evaluate_network(net, data, torch_device, precision=precision, batch=batch, workers=workers, quiet=quiet)
