"""Files of event cameras: events decoded per second, on one core.

    .venv/bin/pip install --no-deps spikingjelly==2.0.0 loguru h5py tqdm scipy
    .venv/bin/python benchmarks/bench_events.py

AEDAT 3.1 beside SpikingJelly's reader, in turns and with the same events; AEDAT 2.0 and N-MNIST's files alone. The files lie
in memory already when they are read.
"""

import struct
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from peers import spikingjelly
from runner import report, save, take_turns

from spikewise.data.events.formats import read_events


@dataclass
class Options:
    """How many events, and how often."""

    events: int = 2_000_000
    rounds: int = 15
    peer_events: int = 200_000  # SpikingJelly's reader takes a second for a million


def columns(n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return np.sort(rng.integers(0, 10**7, n)), rng.integers(0, 128, n), rng.integers(0, 128, n), rng.integers(0, 2, n)


def aedat3(n: int, at_once: int = 4096) -> bytes:
    t, x, y, polarity = columns(n)
    words = np.stack([1 | polarity << 1 | y << 2 | x << 17, t], axis=1).astype("<u4")
    packets = [words[begin : begin + at_once] for begin in range(0, n, at_once)]
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    return head + b"".join(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, *[len(part)] * 3) + part.tobytes() for part in packets)


def aedat2(n: int) -> bytes:
    t, x, y, polarity = columns(n)
    return b"#!AER-DAT2.0\r\n" + np.stack([polarity | x << 1 | y << 8, t], axis=1).astype(">u4").tobytes()


def atis(n: int) -> bytes:
    t, x, y, polarity = columns(n)
    return np.stack([x, y, polarity << 7, t >> 8 & 255, t & 255], axis=1).astype(np.uint8).tobytes()


def peer_reader() -> Callable[[Path], dict[str, np.ndarray]]:
    """SpikingJelly's reader of AEDAT 3.1; its package of data sets asks for torchvision and scipy, this module for nothing."""
    spikingjelly()
    package = types.ModuleType("spikingjelly.datasets")
    package.__path__ = [str(Path(sys.modules["spikingjelly"].__path__[0]) / "datasets")]
    sys.modules["spikingjelly.datasets"] = package
    from spikingjelly.datasets.utils import load_aedat_v3

    return load_aedat_v3


def main(o: Options) -> None:
    torch.set_num_threads(1)
    load_aedat_v3 = peer_reader()

    with tempfile.TemporaryDirectory() as folder:
        files = {"AEDAT 3.1": ("a.aedat", aedat3), "AEDAT 2.0": ("b.aedat", aedat2), "N-MNIST": ("c.bin", atis)}
        lines = []
        for name, (file, encoder) in files.items():
            path = Path(folder, file)
            path.write_bytes(encoder(o.events))
            if len(read_events(path)) != o.events:
                raise SystemExit(f"{name}: not every event was read: no time is taken")
            steps: dict[str, Callable[[], object]] = {"spikewise": lambda path=path: read_events(path, size=(256, 256))}
            into = np.empty_like(raw := np.fromfile(path, np.uint8))
            steps["copy of the bytes"] = lambda into=into, raw=raw: np.copyto(into, raw)
            lines += report(f"{name}, {o.events:,} events", steps_taken := take_turns(steps, o.rounds), "spikewise")
            lines[-1]["events_per_s"] = round(o.events / float(np.median(steps_taken["spikewise"])))
        few = Path(folder, "few.aedat")
        few.write_bytes(aedat3(o.peer_events))
        theirs = load_aedat_v3(few)
        ours = read_events(few)
        if not all(np.array_equal(theirs[a], b) for a, b in zip("txyp", (ours.t, ours.x, ours.y, ours.polarity), strict=True)):
            raise SystemExit("SpikingJelly's reader and ours differ: no time is taken")
        both = {"spikewise": lambda: read_events(few), "SpikingJelly": lambda: load_aedat_v3(few)}
        lines += report(f"AEDAT 3.1, {o.peer_events:,} events", steps_taken := take_turns(both, 5, warm=1), "spikewise")
        for name, seconds in steps_taken.items():
            lines[-1][f"{name} events_per_s"] = round(o.peer_events / float(np.median(seconds)))
        save("events", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
