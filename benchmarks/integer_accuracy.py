"""Accuracy of a run's network as whole numbers, beside that of the network, on its test split.

.venv/bin/python benchmarks/integer_accuracy.py RUN [RUN ...] [--samples N]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from runner import save

from spikewise.analysis.load import spread_over_classes
from spikewise.data.dataset import Dataset
from spikewise.data.subset import Subset
from spikewise.engine.build import load_data
from spikewise.engine.loader import EvalBatches
from spikewise.engine.run.folder import METRICS, read_config, read_lines
from spikewise.export.integer import input_range, quantize_input, to_integers
from spikewise.export.integer_runner import Runner
from spikewise.models import Network
from spikewise.models.weights import load_pretrained

BATCH = 64


def predict_both(net: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The classes of every sample: of the network, and of its integer program."""
    unit, bound = input_range(net)
    batches, ours, integers = EvalBatches(data, BATCH), [], []
    height, width = data.sample(0).shape[-2:]
    runner = Runner(to_integers(net, shape=(height, width), input_unit=unit, input_bound=bound))
    for number in range(len(batches)):
        x = batches[number][0].float()
        with torch.no_grad():
            ours.append(net(x).argmax(1).numpy())
        whole = quantize_input(x, unit, bound)
        frames = whole if whole.ndim == 5 else np.broadcast_to(whole, (net.T, *whole.shape))
        integers.append(runner.run(frames).argmax(1))
    return np.concatenate(ours), np.concatenate(integers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, help="of the test split, spread over its classes; default all")
    options = parser.parse_args()
    lines = []
    for run in options.runs:
        config, net = read_config(run), load_pretrained(run)
        data: Dataset = load_data(config, "test")
        if options.samples:
            data = Subset(data, spread_over_classes(data.labels, options.samples))
        ours, integers = predict_both(net, data)
        right, right_integers = (100 * float((answers == data.labels).mean()) for answers in (ours, integers))
        alike = int((ours == integers).sum())
        print(
            f"{run}: {config.model.name} on {data.name}: {right:.2f} %, as integers {right_integers:.2f} %, "
            f"{alike:,} of {len(ours):,} alike"
        )
        found = {"accuracy": round(right, 2), "integer_accuracy": round(right_integers, 2), "alike": alike}
        trained = {"samples": len(ours), "epochs": len(read_lines(run / METRICS)), "seed": config.seed}
        lines.append({"what": f"{config.model.name} on {data.name}", **found, **trained})
    save("integers", lines)


if __name__ == "__main__":
    main()
