"""A training step, or inference, of whole networks: ours, its ReLU twin, SpikingJelly's, and ours on the reference kernels.

    .venv/bin/pip install --no-deps spikingjelly==2.0.0 loguru h5py
    .venv/bin/python benchmarks/bench_step.py

What is compared is one time step of the spiking network with one image of its twin: the twin gets T times as many images. Per
classified image the twin is about T times cheaper; that ratio is printed, too ("per image").
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from peers import SpikingJelly7B, SpikingJellySEW, fold
from runner import parse_options, report, save, take_turns, where
from torch import Tensor, nn

import spikewise as sw


@dataclass
class Options:
    """Which comparisons, and how many rounds."""

    only: str = ""  # comparisons whose name holds this
    rounds: int = 11
    batch: int = 8
    size: int = 224
    depth: int = 18
    T: int = 4
    packing: bool = True  # ours keeps spikes as bit planes, as it does unless told otherwise
    slow: bool = False  # our own network on the reference kernels, too
    compiled: bool = False  # the twin under torch.compile, too (minutes to compile)


def channels_last(net: nn.Module) -> nn.Module:
    return net.to(memory_format=torch.channels_last)


def images(*shape: int) -> Tensor:
    x = torch.rand(shape)
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])


def train_step(net: nn.Module, x: Tensor, labels: Tensor, precision: torch.dtype) -> Callable[[], float]:
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = F.cross_entropy(net(x).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def inference(net: nn.Module, x: Tensor, precision: torch.dtype) -> Callable[[], Tensor]:
    net.eval()

    @torch.inference_mode()
    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            return net(x)

    return run


def require_parity(ours: nn.Module, reference: nn.Module, x: Tensor) -> None:
    """No time is taken of networks that compute something else."""
    reference.load_state_dict(ours.state_dict())
    with torch.no_grad():
        apart = [float((a.train()(x) - b.train()(x)).abs().max()) for a, b in ((ours, reference),)]
    if apart[0] > 1e-2:  # a spike at the threshold may flip, and later layers see it
        raise SystemExit(f"the fused kernels and the reference differ by {apart[0]} in the logits: no time is taken")


def resnets(o: Options, build: Callable[..., Callable[[], object]], *, folded: bool) -> dict[str, Callable[[], object]]:
    ours = channels_last(sw.build_model(f"sew_resnet{o.depth}", num_classes=1000, T=o.T))
    reference = channels_last(sw.build_model(f"sew_resnet{o.depth}", num_classes=1000, T=o.T, backend="reference"))
    require_parity(ours, reference, images(2, 3, 64, 64))
    ours.packing = o.packing
    finish = fold if folded else (lambda net: net)
    few, many = images(o.batch, 3, o.size, o.size), images(o.batch * o.T, 3, o.size, o.size)
    twin = finish(channels_last(sw.build_model(f"resnet{o.depth}", num_classes=1000)).eval())
    contestants = {
        "spikewise": build(ours, few),
        "ReLU twin": build(twin, many),
        "SpikingJelly": build(finish(channels_last(SpikingJellySEW(o.depth, o.T))), few),
    }
    if o.slow:
        contestants["reference"] = build(reference, few)
    if o.compiled:
        again = channels_last(sw.build_model(f"resnet{o.depth}", num_classes=1000))
        contestants["ReLU twin, compiled"] = build(torch.compile(again), many)  # type: ignore[arg-type]
    return contestants


def event_nets(
    packing: bool, T: int, batch: int, size: int, build: Callable[..., Callable[[], object]]
) -> dict[str, Callable[[], object]]:
    ours, reference = (channels_last(sw.build_model("sew_7b", num_classes=11, backend=name)) for name in ("auto", "reference"))
    require_parity(ours, reference, images(4, 2, 2, 128, 128))
    ours.packing = packing
    frames = images(T, batch, 2, size, size)
    twin = nn.Sequential(*[channels_last(ReLU7B(11))])
    return {
        "spikewise": build(ours, frames),
        "ReLU twin": build(twin, frames.flatten(0, 1)),
        "SpikingJelly": build(channels_last(SpikingJelly7B(11)), frames),
    }


class ReLU7B(nn.Module):
    """7B-Net with rectifiers, on T times as many images."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(32, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
            )
            for _ in range(7)
        )
        self.head = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = F.max_pool2d(torch.relu(branch(x) + x), 2, 2)
        return self.head(x.flatten(1))


def main(o: Options) -> None:
    torch.manual_seed(0)
    print(where(), file=sys.stderr)
    shape = {"T": o.T, "batch": o.batch, "size": o.size}
    name = f"sew_resnet{o.depth}"
    for precision in (torch.bfloat16, torch.float32):
        short = {torch.bfloat16: "bf16", torch.float32: "fp32"}[precision]
        for what in ("training", "inference", "7B-Net training"):
            title = f"{what}, {short}" if "7B" in what else f"{name} {what}, {short}"
            if o.only not in title or (what != "training" and precision == torch.float32):
                continue

            def build(net: nn.Module, x: Tensor, what: str = what, precision: torch.dtype = precision) -> Callable[[], object]:
                if "training" not in what:
                    return inference(net, x, precision)
                many = len(x) if x.dim() == 4 else x.shape[1]
                return train_step(net, x, torch.randint(0, 10, (many,)), precision)

            shapes = {"T": 16, "batch": 4, "size": 128} if "7B" in what else shape
            contestants = (
                event_nets(o.packing, build=build, **shapes) if "7B" in what else resnets(o, build, folded=what == "inference")
            )
            seconds = take_turns(contestants, o.rounds)
            more = {"packing": o.packing} if "training" in what else {}
            lines = report(title, seconds, "spikewise", **shapes, **more)
            for line in lines:
                if "twin" in line["peer"]:
                    line["per_image"] = round(line["ratio"] * shapes["T"], 2)
            save("step", lines)


if __name__ == "__main__":
    main(parse_options(Options))
