"""Memory as `spikewise plan` predicts it, against what training steps really take.

    .venv/bin/python benchmarks/bench_plan.py

Each network is built and takes three steps in a process of its own: once PyTorch's profiler records what its allocator hands
out and takes back, a few times the system records the peak memory of the process (VmHWM; what it had before, with all libraries
loaded and a small network trained, is subtracted).
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import runner
import torch
import tyro

from spikewise.config import Config, Data, Memory, Model, Optim
from spikewise.engine.build import load_or_placeholder
from spikewise.engine.memory.allocator import disable_heap_trim
from spikewise.engine.memory.estimate import MemoryEstimator, random_batch, sample_shape
from spikewise.engine.memory.plan import process_bytes
from spikewise.engine.step import TrainState

IMAGENET, GESTURE = Data(name="imagenet"), Data(name="dvs-gesture", num_frames=16)
BFLOAT16 = Optim(batch=8, precision="bfloat16")
NETWORKS = {
    "sew_resnet18": Config(data=IMAGENET, model=Model(name="sew_resnet18"), optim=BFLOAT16),
    "sew_resnet50": Config(data=IMAGENET, model=Model(name="sew_resnet50"), optim=replace(BFLOAT16, batch=4)),
    "sew_resnet18, checkpointing block": Config(
        data=IMAGENET, model=Model(name="sew_resnet18"), optim=BFLOAT16, memory=Memory(checkpointing="block")
    ),
    "sew_7b": Config(data=GESTURE, model=Model(name="sew_7b", T=16), optim=Optim(batch=4)),
    "spiking_resnet34": Config(data=IMAGENET, model=Model(name="spiking_resnet34"), optim=Optim(batch=4)),
    # neither of these was looked at when the overhead of the heap was chosen
    "plain_resnet34": Config(data=IMAGENET, model=Model(name="plain_resnet34"), optim=replace(BFLOAT16, batch=4)),
    "sew_wide7b": Config(data=replace(GESTURE, name="cifar10-dvs"), model=Model(name="sew_wide7b", T=16), optim=Optim(batch=2)),
}
SMALL = Config(data=Data(name="digits"), model=Model(name="sew_resnet20"), optim=Optim(batch=16, precision="bfloat16"))


@dataclass
class Options:
    """What is compared; `network` and `measure` are for the processes that measure."""

    rounds: int = 3  # of the process's memory, which varies; the median counts
    network: str | None = None
    measure: Literal["allocator", "process"] = "allocator"


def train(config: Config, steps: int = 3) -> None:
    data, _ = load_or_placeholder(config)
    state = TrainState(config, data, torch.device("cpu"))
    batch = random_batch(config, sample_shape(config, data), len(data.class_names), config.optim.batch, state.device)
    for _ in range(steps):
        state.step(*batch)


def allocator_peak(config: Config) -> int:
    """The most bytes that PyTorch's allocator had handed out at once."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        train(config)
    events = profiler.profiler.kineto_results.events()
    alive = peak = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        alive += size
        peak = max(peak, alive)
    return peak


def process_peak(config: Config) -> int:
    """Peak memory of the process above what it had before, in bytes."""
    disable_heap_trim()
    train(SMALL)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    train(config)
    return status("VmHWM") - before


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def run_measurement(network: str, measure: str) -> int:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--network", network, "--measure", measure]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main(options: Options) -> None:
    if options.network is not None:
        print({"allocator": allocator_peak, "process": process_peak}[options.measure](NETWORKS[options.network]))
        return
    lines = []
    for network, config in NETWORKS.items():
        estimator = MemoryEstimator(config, load_or_placeholder(config)[0], torch.device("cpu"))
        use = estimator.step(config.optim.batch, packing=config.memory.packing, checkpointing=config.memory.checkpointing)
        predictions = {"allocator": use.peak, "process": process_bytes(use, torch.device("cpu"))}
        for measure, predicted in predictions.items():
            num_rounds = options.rounds if measure == "process" else 1
            measured = sorted(run_measurement(network, measure) for _ in range(num_rounds))
            line = {
                "what": f"peak memory of {network}",
                "way": measure,
                "foretold_mib": round(predicted / 2**20, 1),
                "measured_mib": [round(value / 2**20, 1) for value in measured],
                "ratio": round(predicted / measured[len(measured) // 2], 4),
                "batch": config.optim.batch,
                "precision": config.optim.precision,
            }
            print(
                f"{network:<36} {measure:<10} {line['foretold_mib']:>8} {line['measured_mib']!s:<26} {line['ratio']:.3f}",
                file=sys.stderr,
            )
            lines.append(line)
    runner.save("plan", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
