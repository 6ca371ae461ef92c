"""What it costs to watch a training step: rates, distances and gradients of every block, as `retention.probe_every_steps` does.

    python benchmarks/bench_probe.py

Steps with and without the probe take turns; probing every n steps costs the difference over n.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import tyro
from runner import median_and_interval, report, save, take_turns

from spikewise import RECIPES
from spikewise.config import Config, Data, Model, Optim, Retention
from spikewise.data import DATASETS, ImageArrays
from spikewise.engine.memory.allocator import disable_heap_trim
from spikewise.engine.step import TrainState
from spikewise.kernels.layout import to_layout


@dataclass
class Options:
    """Options of the benchmark."""

    rounds: int = 15  # of one step each


def photographs(side: int = 224, number: int = 8) -> ImageArrays:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (number, 3, side, side), dtype=np.uint8)
    return ImageArrays("photographs", images, np.arange(number) % 10, tuple("abcdefghij"), 255)


def compare(name: str, config: Config, data: ImageArrays, rounds: int) -> list[dict]:
    steps = {}
    for variant, every in (("watched", 1), ("plain", 0)):
        training = TrainState(replace(config, retention=Retention(probe_every_steps=every)), data, torch.device("cpu"))
        samples = to_layout(
            torch.stack([torch.from_numpy(data.sample(i)) for i in range(config.optim.batch)]), channels_last=True
        )
        labels = torch.from_numpy(data.labels[: config.optim.batch])
        steps[variant] = lambda training=training, samples=samples, labels=labels: training.step(samples, labels)
    seconds = take_turns(steps, rounds)
    lines = report(name, seconds, "watched")
    watched, plain = (median_and_interval(seconds[variant])[0] for variant in ("watched", "plain"))
    for every in (10, 100):
        lines[0][f"percent_every_{every}"] = round(100 * (watched / plain - 1) / every, 2)
        print(f"    sampled every {every} steps: {lines[0][f'percent_every_{every}']} % of training")
    return lines


def main(options: Options) -> None:
    disable_heap_trim()
    small = replace(RECIPES["digits"](), data=Data())
    large = Config(
        model=Model(name="sew_resnet18", T=4), optim=Optim(batch=8, epochs=1, precision="bfloat16"), data=Data(name="digits")
    )
    lines = compare("SEW ResNet-20, digits, batch 64", small, DATASETS["digits"].load("train"), options.rounds)
    lines += compare("SEW ResNet-18, 224 x 224, batch 8, bfloat16", large, photographs(), options.rounds)
    save("probe", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
