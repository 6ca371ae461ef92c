"""What the engine costs over a bare loop of forward, backward and optimiser step.

    .venv/bin/python benchmarks/engine_cost.py

Both take turns in one process, step by step, now one first, now the other; the median of the paired ratios is printed with
its quartiles. The bare loop gets a ready-made batch. The engine makes its own, in the same process (a worker would take its
time from the cores that are being measured), sets the learning rate, checks loss and gradient, saves the running statistics,
and counts.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import tyro

from spikewise.config import Config, Data, Model, Optim
from spikewise.data import ImageArrays
from spikewise.data.images.arrays import digits
from spikewise.engine.loader import TrainingBatches, iterate_batches
from spikewise.engine.memory.allocator import disable_heap_trim
from spikewise.engine.step import TrainState
from spikewise.native.processor import cpu_name

DIGITS = Config(model=Model(name="sew_resnet20"), optim=Optim(batch=64, lr_batch=64, epochs=100))
LARGE = Config(model=Model(name="sew_resnet18"), optim=Optim(batch=8, lr_batch=256, epochs=100, precision="bfloat16"))


@dataclass
class Options:
    """How many pairs of steps, per network."""

    steps: int = 200
    large_steps: int = 16


def time_call(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(name: str, config: Config, data: ImageArrays, steps: int) -> dict:
    device = torch.device("cpu")
    engine, bare = TrainState(config, data, device), TrainState(config, data, device)
    batches = iterate_batches(TrainingBatches(config, data, engine.order), range(steps + 3), device, workers=0)
    samples, labels = next(iterate_batches(TrainingBatches(config, data, engine.order), range(1), device, workers=0))

    def bare_step() -> None:
        bare.net.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.optim.precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(bare.net(samples).float(), labels)
        bare.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        bare.optimizer.step()

    def engine_step() -> None:
        engine.step(*next(batches))

    ratios, seconds = [], []
    for number in range(steps + 3):
        if number % 2:
            bare_seconds, engine_seconds = time_call(bare_step), time_call(engine_step)
        else:
            engine_seconds, bare_seconds = time_call(engine_step), time_call(bare_step)
        if number >= 3:
            ratios.append(engine_seconds / bare_seconds)
            seconds.append(bare_seconds)
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"network": name, "bare_step_s": round(statistics.median(seconds), 4), "ratio": median, "quartiles": [low, high]}


def main(options: Options) -> None:
    disable_heap_trim()
    photographs = replace(digits("train"), images=torch.randint(0, 256, (64, 3, 224, 224), dtype=torch.uint8).numpy())
    photographs = replace(photographs, labels=photographs.labels[:64], max_pixel=255.0)
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    for line in (
        measure("sew_resnet20, digits, batch 64, float32", DIGITS, digits("train"), options.steps),
        measure("the same, warped", replace(DIGITS, data=Data(affine=0.06)), digits("train"), options.steps),
        measure("sew_resnet18, 224 x 224, batch 8, bfloat16", LARGE, photographs, options.large_steps),
    ):
        print(json.dumps(line | machine))


if __name__ == "__main__":
    main(tyro.cli(Options))
