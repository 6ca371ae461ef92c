"""A training step against the number of time steps and against the batch: its time, and the bytes it keeps for backward.

    .venv/bin/python benchmarks/bench_scaling.py

Both should grow in proportion. Kept bytes are counted by storage, through the hooks on what autograd saves.
"""

import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from bench_step import channels_last, images, train_step
from runner import kept_bytes, parse_options, save, take_turns

import spikewise as sw


@dataclass
class Options:
    """Sizes of the sweep."""

    size: int = 64
    rounds: int = 5
    most: int = 64


def main(o: Options) -> None:
    torch.manual_seed(0)
    lines = []
    sizes = [2**k for k in range(o.most.bit_length())]
    for axis, pairs in (("T", [(T, 2) for T in sizes]), ("batch", [(2, batch) for batch in sizes])):
        for T, batch in pairs:
            net = channels_last(sw.build_model("sew_resnet18", num_classes=10, T=T))
            x, labels = images(batch, 3, o.size, o.size), torch.randint(0, 10, (batch,))

            def loss(net: torch.nn.Module = net, x: torch.Tensor = x, labels: torch.Tensor = labels) -> torch.Tensor:
                with torch.autocast("cpu", torch.bfloat16):
                    return F.cross_entropy(net(x).float(), labels)

            seconds = sorted(take_turns({"step": train_step(net, x, labels, torch.bfloat16)}, o.rounds)["step"])
            kept = kept_bytes(loss, net.parameters())
            line = {"what": f"SEW-18 training step against {axis}", "T": T, "batch": batch, "size": o.size}
            lines.append(line | {"seconds": round(seconds[len(seconds) // 2], 5), "kept_bytes": kept})
            print(lines[-1], file=sys.stderr)
    save("scaling", lines)


if __name__ == "__main__":
    main(parse_options(Options))
