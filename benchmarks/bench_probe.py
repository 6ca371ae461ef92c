"""What it costs to watch a training step: rates, distances and gradients of every block, as `keep.probe_every` does.

    python benchmarks/bench_probe.py

A watched step and a plain one in turns; sampled every n steps, the cost is the difference over n.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import tyro
from runner import median_and_interval, report, save, take_turns

from spikewise import RECIPES
from spikewise.config import Config, Data, Keep, Model, Optim
from spikewise.data import DATASETS
from spikewise.data.images.arrays import Images
from spikewise.engine.loader import to_channels_last
from spikewise.engine.memory.allocator import disable_heap_trim
from spikewise.engine.step import TrainState


@dataclass
class Options:
    """How often."""

    rounds: int = 15


def photographs(side: int = 224, number: int = 8) -> Images:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (number, 3, side, side), dtype=np.uint8)
    return Images("photographs", images, np.arange(number) % 10, tuple("abcdefghij"), 255)


def compare(what: str, config: Config, data: Images, rounds: int) -> list[dict]:
    steps = {}
    for name, every in (("watched", 1), ("plain", 0)):
        state = TrainState(replace(config, keep=Keep(probe_every=every)), data, torch.device("cpu"))
        samples = to_channels_last(torch.stack([torch.from_numpy(data.sample(i)) for i in range(config.optim.batch)]))
        labels = torch.from_numpy(data.labels[: config.optim.batch])
        steps[name] = lambda state=state, samples=samples, labels=labels: state.step(samples, labels)
    seconds = take_turns(steps, rounds)
    lines = report(what, seconds, "watched")
    watched, plain = (median_and_interval(seconds[name])[0] for name in ("watched", "plain"))
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
    lines = compare("SEW ResNet-20, digits, batch 64", small, DATASETS["digits"].open("train"), options.rounds)
    lines += compare("SEW ResNet-18, 224 x 224, batch 8, bfloat16", large, photographs(), options.rounds)
    save("probe", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
