"""Firing rates of a run, block by block."""

from pathlib import Path

from ..engine.batches import TestBatches, load
from ..engine.build import choose_device, load_data
from ..engine.evaluate import load_run
from ..models.probe import Rate, firing_rates


def firing_rates_of_run(
    run: str | Path, *, batches: int = 8, batch: int = 64, device: str = "auto", data_root: str | None = None
) -> dict[str, Rate]:
    """Firing rate of each block of a finished run over the first samples of its test split.

    batches, batch:  how many batches, of how many samples
    data_root:       where the data lies now; None: where the config says
    Raises:          ValueError for a run of a ReLU network
    """
    if batches < 1 or batch < 1:
        raise ValueError(f"batches={batches} of {batch} samples; use 1 or more of each")
    where = choose_device(device)
    net, config = load_run(run, data_root=data_root)
    net, test = net.to(where), TestBatches(load_data(config, "test"), batch)
    return firing_rates(net, (samples for samples, _ in load(test, range(min(batches, len(test))), where, workers=0)))
