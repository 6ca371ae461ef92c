"""Whether the fused kernels learn what the reference learns: 200 steps on the digits, with either, over five seeds.

    .venv/bin/python benchmarks/same_learning.py

Prints the largest difference of the losses over the first 20 steps, and mean and deviation of the final test accuracies.
"""

import json
import statistics
from dataclasses import dataclass, replace

import torch
import tyro
from runner import RESULTS, where

from spikewise.data.images import digits
from spikewise.engine.batches import TrainingBatches
from spikewise.engine.evaluate import score
from spikewise.engine.training import Training
from spikewise.recipes import RECIPES


@dataclass
class Options:
    """How long, and how often."""

    steps: int = 200
    seeds: int = 5


def run(backend: str, seed: int, steps: int) -> tuple[list[float], float]:
    """Losses, and the final test accuracy."""
    config = RECIPES["digits"]()
    config = replace(config, seed=seed, model=replace(config.model, backend=backend))
    config = replace(config, optim=replace(config.optim, epochs=-(-steps // 23)))
    training = Training(config, digits("train"), torch.device("cpu"))
    batches = TrainingBatches(config, training.data, training.order)
    losses = [training.step(*batches[number]) for number in range(steps)]
    return losses, score(training.evaluated, digits("test"), torch.device("cpu")).accuracy


def main(o: Options) -> None:
    apart, accuracies = [], {"cpu": [], "reference": []}
    for seed in range(o.seeds):
        losses = {}
        for backend, found in accuracies.items():
            losses[backend], accuracy = run(backend, seed, o.steps)
            found.append(accuracy)
        apart.append(max(abs(a - b) for a, b in zip(losses["cpu"][:20], losses["reference"][:20], strict=True)))
    line = {"what": "digits, with and without the fused kernels", "steps": o.steps, "loss_apart_first_20_steps": apart}
    for backend, found in accuracies.items():
        line[f"backend {backend}"] = {"accuracies": found, "mean": statistics.mean(found), "deviation": statistics.stdev(found)}
    text = json.dumps(line | where())
    print(text)
    with (RESULTS / "same_learning.jsonl").open("a") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
