"""A training step of two shards: two processes of one thread each beside one process of two threads, on two cores.

    .venv/bin/python benchmarks/bench_processes.py

SEW ResNet-18, two shards of 16 images in both arms, over gloo. Two processes are to reach 85 % of the throughput of one: a
ratio of times of at most 1.18. Contestants take turns; who does not compute waits for a message. The sum in float32 sends half
the bytes.
"""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection

import torch
from runner import parse_options, report, save, take_turns, where
from torch import multiprocessing

from spikewise.config import Config, Data, Model, Optim
from spikewise.engine.build import load_or_placeholder
from spikewise.engine.distributed import ALONE, World, joined
from spikewise.engine.memory.allocator import disable_heap_trim
from spikewise.engine.memory.estimate import random_batch
from spikewise.engine.step import TrainState

SUMS = ("exact", "float32")
CPU = torch.device("cpu")


@dataclass
class Options:
    """What is trained."""

    model: str = "sew_resnet18"
    size: int = 64
    batch: int = 32  # samples of both shards
    processes: int = 2
    precision: str = "float32"
    rounds: int = 11


def steps(o: Options, world: World = ALONE) -> dict[str, Callable[[], float]]:
    """A training step of this process's shards for each kind of sum."""
    torch.manual_seed(0)
    optim = Optim(batch=o.batch, lr_batch=o.batch, shards=o.processes, precision=o.precision)  # type: ignore[arg-type]
    config = Config(data=Data(name="imagenet", size=o.size), model=Model(name=o.model), optim=optim)
    data, _ = load_or_placeholder(config)
    samples, labels = random_batch(config, (3, o.size, o.size), len(data.class_names), o.batch, CPU)
    parts = zip(samples.chunk(o.processes), labels.chunk(o.processes), strict=True)
    shards = [*parts][world.rank :: world.size]
    states = {
        kind: TrainState(replace(config, optim=replace(optim, gradient_sum=kind)), data, CPU, world=world) for kind in SUMS
    }
    return {kind: partial(state.step_shards, shards) for kind, state in states.items()}


def serve(rank: int, o: Options, port: int, connection: Connection) -> None:
    """One of several processes: a step whenever its kind is asked for."""
    variables = {"RANK": rank, "WORLD_SIZE": o.processes, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    disable_heap_trim()
    with joined(CPU) as world:
        mine = steps(o, world)
        while kind := connection.recv():
            connection.send(mine[kind]())


def main(o: Options) -> None:
    print(where(), file=sys.stderr)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context, connections, processes = multiprocessing.get_context("spawn"), [], []
    for rank in range(o.processes):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(rank, o, port, theirs), daemon=True))
        processes[-1].start()
        connections.append(ours)

    def together(kind: str) -> None:
        for connection in connections:
            connection.send(kind)
        for connection in connections:
            connection.recv()

    alone = steps(o)["exact"]
    names = {kind: f"{o.processes} processes, {kind}" for kind in SUMS}
    seconds = take_turns({names[kind]: partial(together, kind) for kind in SUMS} | {"1 process": alone}, o.rounds, warm=2)
    for connection in connections:
        connection.send("")
    for process in processes:
        process.join()
    what = f"step of {o.model} at {o.size}, {o.processes} shards of {o.batch // o.processes}, {o.precision}"
    save("processes", report(what, seconds, names["exact"]))


if __name__ == "__main__":
    main(parse_options(Options))
