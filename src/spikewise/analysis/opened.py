"""A network to be looked at, and samples to show it: of a run, or of a file of weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..config import Config
from ..engine.build import choose_device, load_data, weights_channels_last
from ..engine.evaluate import load_run
from ..engine.loader import EvalBatches, iterate_batches
from ..models import Network
from ..models.weights import load_pretrained
from .pictures import pictures

BATCH = 8


class Opened(NamedTuple):
    """A network, batches of samples with their labels (None: they have none), and the config of its run, if it is one's.

    steps:  training steps that the run says it took; 0 of a file
    """

    net: Network
    batches: Iterator[tuple[Tensor, Tensor | None]]
    config: Config | None
    steps: int = 0


def open_network(
    path: str | Path,
    *,
    samples: int,
    images: Path | None = None,
    size: int = 224,
    device: str = "auto",
    data_root: str | None = None,
    name: str | None = None,
    connect: str | None = None,
) -> Opened:
    """The network of a run with the first samples of its test split, or of a file with images.

    images, size:  for a file: a folder of photographs, or None: the embedded digits, enlarged to `size` pixels
    name, connect: for a file that does not tell them
    Raises:        FileNotFoundError, ValueError for what can't be read; ValueError for a file of an event network
    """
    if samples < 1:
        raise ValueError(f"samples={samples}; use 1 or more")
    where, path = choose_device(device), Path(path)
    if (path / "config.json").is_file() and (path / "metrics.jsonl").exists():
        net, config = load_run(path, data_root=data_root)
        test = EvalBatches(load_data(config, "test"), min(BATCH, samples))
        numbers = range(min(-(-samples // min(BATCH, samples)), len(test)))
        return Opened(net.to(where), iter(iterate_batches(test, numbers, where, workers=0)), config, steps_of(path))
    told = {key: value for key, value in (("name", name), ("connect", connect)) if value is not None}
    net = weights_channels_last(load_pretrained(path, **told)).to(where)
    if net.spec["name"].endswith("7b"):
        raise ValueError(f"{path} holds a network for event recordings, which a file does not bring; give the run folder")
    shown = pictures(images, size=size, batch=samples, in_channels=net.in_channels).to(where)
    return Opened(net, ((batch, None) for batch in shown.split(BATCH)), None)


def steps_of(run: Path) -> int:
    """Training steps of the last epoch that a run folder tells of."""
    lines = [line for line in (run / "metrics.jsonl").read_text().splitlines() if line.strip()]
    return int(json.loads(lines[-1])["step"]) if lines else 0
