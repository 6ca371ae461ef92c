"""How good a network is, exactly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data import Images
from ..models import Network
from ..models.weights import find_file, load_pretrained
from .build import channels_last, choose_device, load_data, make_batch
from .loss import cross_entropy
from .rundir import read_config


@dataclass(frozen=True)
class Score:
    """Right answers of `total`, and the mean loss."""

    correct: int
    total: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.correct / self.total


@torch.no_grad()
def score(net: Network, data: Images, device: torch.device, batch: int = 256) -> Score:
    """Every sample once, in evaluation mode; the network is left in the mode it was in."""
    training = net.training
    net.eval()
    correct, loss = 0, 0.0
    try:
        for start in range(0, len(data), batch):
            indices = np.arange(start, min(start + batch, len(data)))
            images, labels = make_batch(data, indices, device)
            logits = net(images)
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(cross_entropy(logits, labels)) * len(labels)
    finally:
        net.train(training)
    return Score(correct, len(data), loss / len(data))


def evaluate(run: str | Path, *, device: str = "auto", checkpoint: str = "last") -> Score:
    """Score a finished run on its test split.

    run:         the run folder
    checkpoint:  which of its checkpoints: "last", or "best" (chosen on the test split, as the paper did)
    Raises:      FileNotFoundError, ValueError with what is wrong and what to do
    """
    config: Config = read_config(Path(run))
    file = find_file(Path(run) / "checkpoints" / checkpoint)
    where = choose_device(device)
    data = load_data(config, "test")
    net = channels_last(load_pretrained(file)).to(where)
    return score(net, data, where)
