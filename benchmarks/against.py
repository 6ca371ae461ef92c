"""Two checkouts beside each other, this one and another, in turns: step time, kept bytes, dispatch, decoding, import.

    git worktree add /tmp/other COMMIT
    .venv/bin/python benchmarks/against.py /tmp/other

Every figure is taken by a new process of either checkout, one after the other, `rounds` times; what is printed is the
median of the ratios of neighbours, ours over the other's, with their spread. Of dispatch, on tensors so small that little is
computed, it is the processor's time per spiking layer and step, without that of PyTorch's convolutions.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

HERE = Path(__file__).resolve().parent


@dataclass
class Options:
    """Which checkout, and how often."""

    other: tyro.conf.Positional[Path]
    rounds: int = 7
    only: str = ""  # figures whose name holds this


def training_step(name: str, shape: tuple[int, ...], autocast: bool, **options: object) -> tuple[Callable[[], None], object]:
    import torch
    import torch.nn.functional as F

    from spikewise import build_model

    torch.manual_seed(0)
    net = build_model(name, num_classes=10, **options).train().to(memory_format=torch.channels_last)
    x, labels = torch.rand(shape), torch.arange(shape[-4]) % 10

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(net(x).float(), labels)
        loss.backward()

    return step, net


def step_time(name: str, shape: tuple[int, ...], autocast: bool, **options: object) -> float:
    step, _ = training_step(name, shape, autocast, **options)
    step()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def kept_bytes(name: str, shape: tuple[int, ...], autocast: bool, **options: object) -> float:
    import torch

    step, net = training_step(name, shape, autocast, **options)
    owned, kept = {p.untyped_storage().data_ptr() for p in net.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in owned:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def dispatch() -> float:
    """Microseconds per spiking layer and step."""
    import torch

    torch.set_num_threads(1)
    step, net = training_step("sew_resnet20", (2, 3, 8, 8), False, T=2)
    for _ in range(10):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(3):
            step()
    convolutions = sum(
        event.self_cpu_time_total
        for event in profile.key_averages()
        if "convolution" in event.key or "conv2d" in event.key or "mkldnn" in event.key
    )
    times = []
    for _ in range(40):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    layers = sum(type(module).__name__ == "ConvNormFire" for module in net.modules())
    return (1e6 * min(times) - convolutions / 3) / layers


def decode() -> float:
    """Nanoseconds per event of N-MNIST's format."""
    import tempfile

    import numpy as np

    try:
        from spikewise.data.events.formats import read_events
    except ImportError:
        from spikewise.data.formats import read_events
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 34, (2_000_000, 5), dtype=np.uint8)
    raw[:, 2:] = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "0.bin")
        path.write_bytes(raw.tobytes())
        times = []
        for _ in range(9):
            start = time.perf_counter()
            read_events(path)
            times.append(time.perf_counter() - start)
    return 1e9 * statistics.median(times) / len(raw)


def import_time() -> float:
    start = time.perf_counter()
    import spikewise.models  # noqa: F401  with torch and the kernels

    return time.perf_counter() - start


SEW18, EVENTS = ("sew_resnet18", (4, 3, 112, 112)), ("sew_7b", (4, 4, 2, 128, 128))
FIGURES: dict[str, Callable[[], float]] = {
    "step, SEW ResNet-18, float32": lambda: step_time(*SEW18, False),
    "step, SEW ResNet-18, bfloat16": lambda: step_time(*SEW18, True),
    "step, SEW ResNet-18 IAND": lambda: step_time(*SEW18, False, connect="IAND"),
    "step, Spiking ResNet-18": lambda: step_time("spiking_resnet18", SEW18[1], False),
    "step, 7B-Net": lambda: step_time(*EVENTS, False),
    "kept, SEW ResNet-18": lambda: kept_bytes(*SEW18, False),
    "kept, SEW ResNet-18 IAND, bfloat16": lambda: kept_bytes(*SEW18, True, connect="IAND"),
    "kept, 7B-Net": lambda: kept_bytes(*EVENTS, False),
    "dispatch per layer and step": dispatch,
    "decode, N-MNIST": decode,
    "import": import_time,
}


def measure(checkout: Path, figure: str) -> float:
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--figure", figure],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    options = tyro.cli(Options)
    for figure in FIGURES:
        if options.only in figure:
            pairs = [(measure(HERE.parent, figure), measure(options.other, figure)) for _ in range(options.rounds)]
            ratios = sorted(ours / theirs for ours, theirs in pairs)
            ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
            median = statistics.median(ratios)
            print(
                f"{figure:<36} {ours:>12.5g} {theirs:>12.5g}   {median:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})", flush=True
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--figure"]:
        print(json.dumps(FIGURES[sys.argv[2]]()))
    else:
        main()
