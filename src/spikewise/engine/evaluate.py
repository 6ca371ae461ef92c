"""How good a network is, exactly."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data import Dataset
from ..models import Network
from ..models.weights import load_pretrained, resolve_weights_file
from .build import autocast, channels_last, choose_device, load_data
from .loader import TestBatches, load
from .loss import cross_entropy
from .run.checkpoint import find_damage, read_state
from .run.fingerprint import changes, identity
from .run.folder import CHECKPOINTS, read_config


@dataclass(frozen=True)
class Score:
    """Right answers of `total`, the mean loss, and how often the right class is among the first five."""

    correct: int
    total: int
    loss: float
    correct5: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.correct / self.total


@torch.no_grad()
def score(
    net: Network, data: Dataset, device: torch.device, *, precision: str = "float32", batch: int = 256, workers: int = 0
) -> Score:
    """Every sample once, in evaluation mode; the network is left in the mode it was in."""
    training, correct, correct5, loss, batches = net.training, 0, 0, 0.0, TestBatches(data, batch)
    net.eval()
    try:
        for samples, labels in load(batches, range(len(batches)), device, workers):
            with autocast(precision, device):
                logits = net(samples)
            correct += int((logits.argmax(1) == labels).sum())
            first = logits.topk(min(5, logits.shape[1])).indices
            correct5 += int((first == labels[:, None]).sum())
            loss += float(cross_entropy(logits, labels)) * len(labels)
    finally:
        net.train(training)
    return Score(correct, len(data.labels), loss / len(data.labels), correct5)


def load_run(run: str | Path, checkpoint: str = "last", data_root: str | None = None) -> tuple[Network, Config]:
    """The network of a run, in evaluation mode, and its config.

    Raises:  FileNotFoundError, ValueError for a run without that checkpoint, a damaged one, or one of another config
    """
    config = read_config(Path(run))
    folder = Path(run) / CHECKPOINTS / checkpoint
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{run} has no checkpoint {checkpoint!r} yet: its first epoch is not finished, or it keeps none"
        )
    if damage := find_damage(folder):
        raise ValueError(f"{folder} is damaged: {damage}; `spikewise train --resume {run}` goes on from the newest whole one")
    if changed := changes(read_state(folder).get("run"), identity(config, np.empty(0)), parts=("model", "data")):
        raise ValueError(f"{run}/config.json was changed since {folder.name} was saved: {', '.join(changed)}; put it back")
    if data_root is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=data_root))
    return channels_last(load_pretrained(resolve_weights_file(folder))), config


def evaluate(
    run: str | Path, *, device: str = "auto", checkpoint: str = "last", workers: int = 0, data_root: str | None = None
) -> Score:
    """Score a run on its test split, in the precision of its config.

    run:         the run folder
    checkpoint:  which of its checkpoints: "last", or "best" (chosen on the test split, as the paper did)
    workers:     processes that read data; 0: this one
    data_root:   where the data lies now; None: where the config says
    Raises:      FileNotFoundError, ValueError with what is wrong and what to do
    """
    where = choose_device(device)
    net, config = load_run(run, checkpoint, data_root)
    net, data = net.to(where), load_data(config, "test")
    return score(net, data, where, precision=config.optim.eval_precision, batch=config.optim.batch, workers=workers)
