"""A training step of whole networks on a CUDA GPU: ours, the ReLU twin, and SpikingJelly, these two eager and compiled.

    .venv/bin/pip install --no-deps spikingjelly==2.0.0 loguru h5py
    .venv/bin/python benchmarks/bench_gpu_networks.py

bfloat16, channels last. The twin gets T times as many images. First the kernels and one step's gradients are compared with the
reference on the same GPU; where they differ no time is taken. Peaks are those of PyTorch's allocator. Last, the network of the
Open Neuromorphic benchmark: a linear layer and LIF neurons, 16 samples, 500 steps, 16,384 neurons.
"""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from bench_gpu import Layer
from bench_gpu import Options as KernelOptions
from bench_step import channels_last
from peers import SpikingJellySEW
from runner import parse_options, report, save, take_turns
from torch import Tensor, nn

import spikewise as sw
from spikewise.neurons import LIF


@dataclass
class Options:
    """Which networks, and how many rounds."""

    depths: tuple[int, ...] = (18, 50)
    T: int = 4
    batch: int = 64
    size: int = 224
    rounds: int = 15
    peers: bool = True  # SpikingJelly, too
    compiled: bool = True  # and what torch.compile makes of the peers: minutes


def train_step(net: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], float]:
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def step() -> float:
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(net(x).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.detach())  # waits for the device

    return step


def images(*shape: int) -> Tensor:
    return torch.rand(shape, device="cuda").contiguous(memory_format=torch.channels_last)


def require_same_gradients(depth: int, T: int) -> None:
    """One step of the fused kernels against the reference, in float32 on small images."""
    ours, reference = (
        channels_last(sw.build_model(f"sew_resnet{depth}", num_classes=10, T=T, backend=name)).cuda().train()
        for name in ("triton", "reference")
    )
    reference.load_state_dict(ours.state_dict())
    x, labels = images(4, 3, 64, 64), torch.arange(4, device="cuda")
    for net in (ours, reference):
        F.cross_entropy(net(x), labels).backward()
    apart = [
        float((p.grad - q.grad).norm() / q.grad.norm().clamp(min=1e-12))
        for p, q in zip(ours.parameters(), reference.parameters(), strict=True)
    ]
    if max(apart) > 0.05:  # a spike at the threshold may flip, and later layers see it
        raise SystemExit(f"gradients of the fused kernels and the reference differ by {max(apart):.3g}: no time is taken")


def peak_of(step: Callable[[], float]) -> int:
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def triton_peer(depth: int, T: int) -> nn.Module:
    net = SpikingJellySEW(depth, T)
    net.peer.functional.set_backend(net.net, "triton", net.peer.neuron.IFNode)
    return channels_last(net).cuda()


def contestants(depth: int, o: Options) -> dict[str, Callable[[], nn.Module]]:
    """How each is made; one at a time is on the device while its peak is measured."""
    found: dict[str, Callable[[], nn.Module]] = {
        "spikewise": lambda: channels_last(sw.build_model(f"sew_resnet{depth}", num_classes=1000, T=o.T)).cuda(),
        "ReLU twin": lambda: channels_last(sw.build_model(f"resnet{depth}", num_classes=1000)).cuda(),
    }
    if o.peers:
        found["SpikingJelly Triton"] = lambda: triton_peer(depth, o.T)
    if o.compiled:
        found["ReLU twin, compiled"] = lambda: torch.compile(found["ReLU twin"]())  # type: ignore[return-value]
        if o.peers:
            found["SpikingJelly, compiled"] = lambda: torch.compile(  # type: ignore[return-value]
                channels_last(SpikingJellySEW(depth, o.T)).cuda()
            )
    return found


def networks(depth: int, o: Options) -> None:
    require_same_gradients(depth, o.T)
    few, many = images(o.batch, 3, o.size, o.size), images(o.batch * o.T, 3, o.size, o.size)
    steps, peaks = {}, {}
    for name, make in contestants(depth, o).items():
        x = many if "twin" in name else few
        try:
            steps[name] = train_step(make(), x, torch.randint(0, 1000, (len(x),), device="cuda"))
            peaks[name] = peak_of(steps[name])
        except Exception as error:  # a peer that does not run here is told, not timed
            if name == "spikewise":
                raise
            print(f"{name} does not run: {str(error).splitlines()[0]}", file=sys.stderr)
            steps.pop(name, None)
        gc.collect()
        torch.cuda.empty_cache()
    seconds = take_turns(steps, o.rounds)
    lines = report(f"sew_resnet{depth} training, bf16", seconds, "spikewise", T=o.T, batch=o.batch, size=o.size)
    for line in lines:
        line |= {"images_per_s": round(o.batch / line["ours_s"], 1), "peak_bytes": peaks["spikewise"]}
        line |= {"gpu": torch.cuda.get_device_name(), "of_peers_peak": round(peaks["spikewise"] / peaks[line["peer"]], 4)}
        if "twin" in line["peer"]:
            line["per_image"] = round(line["ratio"] * o.T, 2)
    save("gpu_networks", lines)


def open_neuromorphic(o: Options) -> None:
    """Seconds of forward and of backward, and the peak."""
    linear, neurons = nn.Linear(16_384, 16_384, bias=False).cuda(), LIF(tau=2.0, surrogate="fast_sigmoid")
    x = torch.rand(500, 16, 16_384, device="cuda")

    def forward() -> Tensor:
        return neurons(linear(x))

    def both() -> Any:
        linear.zero_grad(set_to_none=True)
        forward().sum().backward()
        torch.cuda.synchronize()

    def forward_alone() -> None:
        forward()
        torch.cuda.synchronize()

    torch.cuda.reset_peak_memory_stats()
    seconds = take_turns({"forward": forward_alone, "both": both}, o.rounds)
    line: dict[str, Any] = {"what": "Open Neuromorphic: Linear + LIF, 16 x 500 x 16,384, float32"}
    line |= {name: round(sorted(values)[len(values) // 2], 5) for name, values in seconds.items()}
    save("gpu_networks", [line | {"peak_bytes": torch.cuda.max_memory_allocated(), "gpu": torch.cuda.get_device_name()}])


def main(o: Options) -> None:
    if not torch.cuda.is_available():
        print("bench_gpu_networks: PyTorch sees no CUDA device; run it where there is one", file=sys.stderr)
        raise SystemExit(2)
    torch.manual_seed(0)
    if differences := Layer(KernelOptions(precision="bfloat16")).differences():
        raise SystemExit(f"the kernels and the reference differ in {', '.join(differences)}: no time is taken")
    for depth in o.depths:
        networks(depth, o)
    open_neuromorphic(o)


if __name__ == "__main__":
    main(parse_options(Options))
