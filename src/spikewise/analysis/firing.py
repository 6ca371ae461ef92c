"""Firing rates of a run, block by block."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ..engine.build import choose_device, load_data, make_batch
from ..engine.rundir import read_config
from ..models.probe import Rate, firing_rates
from ..models.weights import load_pretrained


def firing_rates_of_run(run: str | Path, *, batches: int = 8, batch: int = 64, device: str = "auto") -> dict[str, Rate]:
    """Firing rate of each block of a finished run over the first samples of its test split.

    batches, batch:  how many batches, of how many samples
    Raises:          ValueError for a run of a ReLU network
    """
    data, where = load_data(read_config(Path(run)), "test"), choose_device(device)
    net = load_pretrained(run).to(where)

    def images() -> Iterator[Tensor]:
        for start in range(0, min(batches * batch, len(data)), batch):
            yield make_batch(data, np.arange(start, min(start + batch, len(data))), where)[0]

    return firing_rates(net, images())
