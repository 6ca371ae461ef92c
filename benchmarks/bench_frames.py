"""Events to frames of 16 x 128 x 128 by count, on one core: ours against SpikingJelly 2.0.0. Equal frames first.

    PYTHONPATH=folder/of/spikingjelly python benchmarks/bench_frames.py [--events 350000] [--rounds 40]

SpikingJelly's function asks for tqdm and matplotlib. Places are random; in a second run half of the events come from two hot
pixels.
"""

import argparse
import statistics
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from runner import report, save, take_turns

from spikewise.data.events import Events
from spikewise.data.events.frames import frames_by_count, frames_by_duration

SIZE, T = (128, 128), 16


def recording(events: int, *, hot: bool) -> Events:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 6_000_000, events))
    x, y = (rng.integers(0, side, events) for side in reversed(SIZE))
    if hot:
        few = rng.random(events) < 0.5
        x[few], y[few] = 64, rng.integers(0, 2, int(few.sum()))
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, events).astype(np.uint8), SIZE)


def peer() -> Callable[..., np.ndarray]:
    """SpikingJelly's function, without its other data sets, which ask for torchaudio and SciPy."""
    import spikingjelly

    for name in ("torchvision", "torchvision.transforms"):  # imported, never called
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    package = types.ModuleType("spikingjelly.datasets")
    package.__path__ = [str(Path(spikingjelly.__path__[0]) / "datasets")]
    sys.modules[package.__name__] = package
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

    return integrate_events_by_fixed_frames_number


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=350_000)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)
    integrate_events_by_fixed_frames_number = peer()
    lines = []
    for hot in (False, True):
        events = recording(given.events, hot=hot)
        theirs = {"t": events.t, "x": events.x, "y": events.y, "p": events.polarity}
        assert np.array_equal(frames_by_count(events, T), integrate_events_by_fixed_frames_number(theirs, "number", T, *SIZE))
        seconds = take_turns(
            {
                "spikewise": lambda e=events: frames_by_count(e, T),
                "spikingjelly": lambda e=theirs: integrate_events_by_fixed_frames_number(e, "number", T, *SIZE),
            },
            given.rounds,
        )
        rates = {name: round(given.events / statistics.median(taken) / 1e6, 1) for name, taken in seconds.items()}
        print({name: f"{rate} M events/s" for name, rate in rates.items()})
        what = f"frames by count, {given.events:,} events" + (", half at two hot pixels" if hot else "")
        lines += report(what, seconds, "spikewise", million_events_per_s=rates)
        by_duration = take_turns({"spikewise": lambda e=events: frames_by_duration(e, T)}, given.rounds)["spikewise"]
        rate = round(given.events / statistics.median(by_duration) / 1e6, 1)
        print(f"by duration: {rate} M events/s")
        lines.append({"what": what.replace("count", "duration"), "million_events_per_s": {"spikewise": rate}})
    save("frames", lines)


if __name__ == "__main__":
    main()
