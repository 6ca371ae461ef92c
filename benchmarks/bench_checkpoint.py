"""What a checkpoint costs: a run's wait for it, and its way to the disk beside a plain synced write of the same bytes.

    .venv/bin/python benchmarks/bench_checkpoint.py --folder DIR

SEW ResNet-152 with SGD's momentum. Contestants take turns: a plain write and fsync of the same files; the whole checkpoint,
copied, hashed, written, synced, renamed, and removed again; and the copy alone, which is all that training waits for. The
checkpoint is to take at most 1.3 times the plain write.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from runner import report, save, take_turns, where

import spikewise as sw
from spikewise import disk
from spikewise.engine.run import checkpoint


@dataclass
class Options:
    """What is written, and where."""

    folder: Path = Path()  # on the disk that is measured
    model: str = "sew_resnet152"
    rounds: int = 11


def main(o: Options) -> None:
    print(where(), file=sys.stderr)
    net = sw.build_model(o.model, num_classes=1000).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    state = checkpoint.CheckpointState(step=1, meter={}, metrics_bytes=0, timing_bytes=0, run={})

    def copy() -> checkpoint.Snapshot:
        return checkpoint.snapshot(net, net, optimizer, state)

    same = copy()
    with tempfile.TemporaryDirectory(dir=o.folder) as name:
        folder = Path(name)

        def plain() -> None:
            for file, content in same.files.items():
                with (folder / file).open("wb", buffering=0) as opened:
                    rest = content
                    while rest:
                        rest = rest[opened.write(rest) :]
                    os.fsync(opened.fileno())

        def whole() -> None:
            disk.remove_tree(checkpoint.write(folder, copy()))

        os.sync()
        seconds = take_turns({"checkpoint": whole, "plain write": plain, "copy": copy}, o.rounds, warm=2)
    megabytes = sum(len(content) for content in same.files.values()) / 1e6
    save("checkpoint", report(f"{o.model} with momentum, {megabytes:.0f} MB", seconds, "checkpoint", target=1.3))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
