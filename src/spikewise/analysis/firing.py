"""Firing rates of a run, block by block."""

from pathlib import Path

from ..engine.batches import TestBatches, load
from ..engine.build import channels_last, choose_device, load_data
from ..engine.rundir import read_config
from ..models.probe import Rate, firing_rates
from ..models.weights import load_pretrained


def firing_rates_of_run(run: str | Path, *, batches: int = 8, batch: int = 64, device: str = "auto") -> dict[str, Rate]:
    """Firing rate of each block of a finished run over the first samples of its test split.

    batches, batch:  how many batches, of how many samples
    Raises:          ValueError for a run of a ReLU network
    """
    if batches < 1 or batch < 1:
        raise ValueError(f"batches={batches} of {batch} samples; use 1 or more of each")
    data, where = load_data(read_config(Path(run)), "test"), choose_device(device)
    net = channels_last(load_pretrained(run)).to(where)
    test = TestBatches(data, batch)
    return firing_rates(net, (samples for samples, _ in load(test, range(min(batches, len(test))), where, workers=0)))
