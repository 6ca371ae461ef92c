"""Whether the fused kernels learn what the reference learns: 200 steps on the digits, with either, over five seeds.

    .venv/bin/python benchmarks/same_learning.py

Prints the largest difference of the losses over the first 20 steps, for how many steps they are equal to the last digit, and
mean and deviation of the final test accuracies. Beside it the differences of two runs on the reference, of which one starts
with every weight moved by its last digit, up or down: a first spike that flips parts two runs, whatever moved it.
"""

import json
import statistics
from dataclasses import dataclass, replace

import torch
import tyro
from runner import RESULTS, where

from spikewise.data.datasets.digits import digits
from spikewise.engine.evaluate import evaluate_network
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.step import TrainState
from spikewise.recipes import RECIPES


@dataclass
class Options:
    """How long, and how often."""

    steps: int = 200
    seeds: int = 5


def run(backend: str, seed: int, steps: int, *, moved: bool = False) -> tuple[list[float], float]:
    """Losses, and the final test accuracy. moved: every weight by its last digit"""
    config = RECIPES["digits"]()
    config = replace(config, seed=seed, model=replace(config.model, backend=backend))
    config = replace(config, optim=replace(config.optim, epochs=-(-steps // 23)))
    state = TrainState(config, digits("train"), torch.device("cpu"))
    if moved:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in state.net.parameters():
                up = torch.rand(weight.shape, generator=draw) < 0.5
                weight.copy_(torch.nextafter(weight, torch.where(up, torch.inf, -torch.inf)))
    batches = TrainingBatches(config, state.data, state.order)
    losses = [state.step(*batches[number]) for number in range(steps)]
    return losses, evaluate_network(state.eval_net, digits("test"), torch.device("cpu")).accuracy


def apart(ours: list[float], theirs: list[float]) -> tuple[float, int]:
    """The largest difference over the first 20 steps, and for how many steps there is none."""
    differences = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    return max(differences[:20]), next((step for step, value in enumerate(differences) if value), len(differences))


def main(o: Options) -> None:
    accuracies: dict[str, list[float]] = {"cpu": [], "reference": []}
    kernels, last_digit = [], []
    for seed in range(o.seeds):
        losses = {}
        for backend, found in accuracies.items():
            losses[backend], accuracy = run(backend, seed, o.steps)
            found.append(accuracy)
        kernels.append(apart(losses["cpu"], losses["reference"]))
        last_digit.append(apart(run("reference", seed, o.steps, moved=True)[0], losses["reference"]))
    line = {"what": "digits, with and without the fused kernels", "steps": o.steps, "apart_20_and_equal_steps": kernels}
    line["the_same_for_weights_moved_by_their_last_digit"] = last_digit
    for backend, found in accuracies.items():
        line[f"backend {backend}"] = {"accuracies": found, "mean": statistics.mean(found), "deviation": statistics.stdev(found)}
    text = json.dumps(line | where())
    print(text)
    with (RESULTS / "same_learning.jsonl").open("a") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
