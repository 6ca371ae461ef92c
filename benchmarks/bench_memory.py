"""Bytes that a training step keeps for backward, and what keeping them as bit planes costs in time.

    .venv/bin/pip install --no-deps spikingjelly==2.0.0 loguru h5py
    .venv/bin/python benchmarks/bench_memory.py

Kept bytes are counted by storage, through the hooks on what autograd saves; parameters are not counted. The ReLU twin gets T
times as many images. The time of a step with packing is compared with that of the same network without, in turns.
"""

import statistics
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from bench_step import channels_last, images, train_step
from peers import SpikingJellySEW
from runner import kept_bytes, parse_options, report, save, take_turns, where
from torch import Tensor, nn

import spikewise as sw

NETWORKS = {  # name -> images, T, side
    "sew_resnet50": (4, 4, 224),
    "sew_resnet18": (8, 4, 224),
    "sew_7b": (4, 16, 128),
}


@dataclass
class Options:
    """What is measured."""

    rounds: int = 11  # of time; 0: bytes alone
    only: str = ""  # networks whose name holds this


def bytes_of(net: nn.Module, x: Tensor) -> int:
    count = len(x) if x.dim() == 4 else x.shape[1]
    labels = torch.randint(0, 10, (count,))

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(net.train()(x).float(), labels)

    return kept_bytes(loss, net.parameters())


def build(name: str, T: int, **how: object) -> nn.Module:
    more = {} if "7b" in name else {"T": T}
    net = channels_last(sw.build_model(name, num_classes=10, **more))
    for key, value in how.items():
        setattr(net, key, value)
    return net


def main(o: Options) -> None:
    torch.manual_seed(0)
    print(where(), file=sys.stderr)
    for name, (batch, T, side) in NETWORKS.items():
        if o.only not in name:
            continue
        shape = {"T": T, "batch": batch, "size": side}
        x = images(T, batch, 2, side, side) if "7b" in name else images(batch, 3, side, side)
        kept = {
            "packed": bytes_of(build(name, T), x),
            "whole": bytes_of(build(name, T, packing=False), x),
        }
        if "7b" not in name:
            many = images(batch * T, 3, side, side)
            kept["ReLU twin"] = bytes_of(channels_last(sw.build_model(name.replace("sew_", ""), num_classes=10)), many)
            kept["SpikingJelly"] = bytes_of(channels_last(SpikingJellySEW(int(name.removeprefix("sew_resnet")), T)), x)
        line = {"what": f"{name}, bf16: bytes kept for backward", **shape, "kept": kept}
        line |= {f"of {peer}": round(kept["packed"] / kept[peer], 4) for peer in kept if peer != "packed"}
        save("memory", [line])
        if o.rounds:
            labels = torch.randint(0, 10, (batch,))
            steps = {
                key: train_step(build(name, T, packing=key == "packed"), x, labels, torch.bfloat16)
                for key in ("packed", "whole")
            }
            seconds = take_turns(steps, o.rounds)
            lines = report(f"{name} training, bf16: packing", seconds, "packed", **shape)
            lines[0]["spread"] = [round(min(seconds["packed"]), 4), round(statistics.median(seconds["packed"]), 4)]
            save("memory", lines)


if __name__ == "__main__":
    main(parse_options(Options))
