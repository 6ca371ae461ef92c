"""Samples per second of a training loop that learns nothing: recordings of the size of DVS128 Gesture's, in batches of 16.

    python benchmarks/bench_loading.py [--recordings 64] [--epochs 3]

Recordings are random events of 128 x 128 pixels, 350,000 each (DVS128 Gesture's mean), as NPZ files (t, x, y, p); the files are
in the page cache. Measured from the recordings, and from kept frames, with several numbers of workers; with the recipe's
random temporal delete. Batches arrive as training takes them: float32 [T, N, 2, H, W], channels last.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from runner import save

from spikewise.config import Config, Data, Optim
from spikewise.data import Order
from spikewise.data.events import Events
from spikewise.data.recordings import Files, Recordings
from spikewise.engine.batches import TrainingBatches, load

EVENTS, SIZE, BATCH = 350_000, (128, 128), 16


def write_recordings(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(number):
        np.savez(
            folder / f"{k:05d}.npz",
            t=np.sort(rng.integers(0, 6_000_000, EVENTS)),
            x=rng.integers(0, SIZE[1], EVENTS).astype(np.uint16),
            y=rng.integers(0, SIZE[0], EVENTS).astype(np.uint16),
            p=rng.integers(0, 2, EVENTS).astype(np.uint8),
        )


def read(path: Path) -> Events:
    try:
        from spikewise.data.formats import read_events
    except ImportError:
        with np.load(path) as file:
            return Events(file["t"], file["x"], file["y"], file["p"], SIZE)
    return read_events(path, size=SIZE)


def samples_per_second(data: Recordings, workers: int, epochs: int) -> list[float]:
    """Of each epoch but the first, in which workers start and frames are kept."""
    config = Config(data=Data(name="dvs-gesture", frames=16, temporal_delete=12), optim=Optim(batch=BATCH))
    order = Order(len(data), BATCH, 0)
    steps = range((epochs + 1) * order.steps_per_epoch)
    rates, began = [], time.perf_counter()
    for step, _ in enumerate(load(TrainingBatches(config, data, order), steps, torch.device("cpu"), workers), 1):
        if step % order.steps_per_epoch == 0:
            now = time.perf_counter()
            rates.append(len(data) / (now - began))
            began = now
    return rates[1:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recordings", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder, given.recordings)
        files = Files(folder, sorted(file.name for file in folder.iterdir()))
        labels = np.arange(given.recordings) % 11
        for kept in (False, True):
            cache = folder / "frames" if kept else None
            data = Recordings("stand-in", files, labels, tuple("abcdefghijk"), 16, read, cache=cache)
            for workers in (0, 1, 2):
                rate = statistics.median(samples_per_second(data, workers, given.epochs))
                what = f"16 x 128 x 128 from {'kept frames' if kept else 'recordings'}"
                print(f"{what:<40} {workers} workers {rate:8.1f} samples/s")
                lines.append({"what": what, "workers": workers, "samples_per_s": round(rate, 1), "events": EVENTS})
    save("loading", lines)


if __name__ == "__main__":
    main()
