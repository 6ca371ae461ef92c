"""Samples per second of a training loop that learns nothing: recordings of the size of DVS128 Gesture's, in batches of 16.

    python benchmarks/bench_loading.py [--recordings 64] [--epochs 3]

Recordings are random events of 128 x 128 pixels, 350,000 each (DVS128 Gesture's mean), in files as `spikewise data prepare
dvs-gesture` makes them; the files are in the page cache. Measured from the recordings, and from kept frames, with several
numbers of workers; with the recipe's random temporal delete. Batches arrive as training takes them: float32 [T, N, 2, H, W],
channels last.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from runner import save

from spikewise.config import Config, Data, Optim
from spikewise.data import EpochSampler
from spikewise.data.datasets.dvs_gesture import SIZE, encode_npz
from spikewise.data.events import Events
from spikewise.data.events.formats import read_events
from spikewise.data.events.recordings import EventDataset
from spikewise.data.files import PathArray
from spikewise.engine.loader import TrainingBatches, iterate_batches

EVENTS, BATCH = 350_000, 16


def write_recordings(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(number):
        t = np.sort(rng.integers(0, 6_000_000, EVENTS))
        x, y, p = (rng.integers(0, end, EVENTS) for end in (SIZE[1], SIZE[0], 2))
        events = Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), SIZE)
        (folder / f"{k:05d}.npz").write_bytes(encode_npz(events))


def samples_per_second(data: EventDataset, workers: int, epochs: int) -> list[float]:
    """Of each epoch but the first, in which workers start and frames are kept."""
    config = Config(data=Data(name="dvs-gesture", num_frames=16, temporal_delete=12), optim=Optim(batch=BATCH))
    order = EpochSampler(len(data), BATCH, 0)
    steps = range((epochs + 1) * order.steps_per_epoch)
    rates, began = [], time.perf_counter()
    for step, _ in enumerate(iterate_batches(TrainingBatches(config, data, order), steps, torch.device("cpu"), workers), 1):
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
        files = PathArray(folder, sorted(file.name for file in folder.iterdir()))
        labels = np.arange(given.recordings) % 11
        read = partial(read_events, format="npz", size=SIZE)
        for kept in (False, True):
            cache = folder / "frames" if kept else None
            data = EventDataset("stand-in", files, labels, tuple("abcdefghijk"), 16, read, cache=cache)
            for workers in (0, 1, 2):
                rate = statistics.median(samples_per_second(data, workers, given.epochs))
                what = f"16 x 128 x 128 from {'kept frames' if kept else 'recordings'}"
                print(f"{what:<40} {workers} workers {rate:8.1f} samples/s")
                lines.append({"what": what, "workers": workers, "samples_per_s": round(rate, 1), "events": EVENTS})
    save("loading", lines)


if __name__ == "__main__":
    main()
