"""A network that watches a camera: a decision for every frame, and how long it took."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..data.events.bins import time_range
from ..data.events.events import Events
from ..data.events.frames import FrameSpec
from ..data.events.live import DamagedStream, LiveFrame, LiveFrames, Packet
from ..data.input_spec import InputSpec
from ..models.stream_state import Memory, StreamState, require_memory
from ..wording import count, option
from .predict import Predictor


@dataclass(frozen=True)
class Decision:
    """What a network says after a frame.

    frame:     from 1
    seconds:   of the stream, from its first event to the end of the frame
    classes:   (name, probability), the most probable first
    latency:   seconds from when the frame was there to the decision
    image:     the frame, float32 [2, H, W]; num_events, in it
    """

    frame: int
    seconds: float
    classes: tuple[tuple[str, float], ...]
    latency: float
    image: np.ndarray
    num_events: int


class Latencies:
    """Percentiles of any number of latencies, to 1 %, in constant memory: a count by logarithm, from 1 us to 1,000 s."""

    SHORTEST, STEP, BINS = 1e-6, math.log(1.01), 2084

    def __init__(self) -> None:
        self.counts = np.zeros(self.BINS, dtype=np.int64)

    def add(self, seconds: float) -> None:
        place = math.log(max(seconds, self.SHORTEST) / self.SHORTEST) / self.STEP
        self.counts[min(int(place), self.BINS - 1)] += 1

    def percentile(self, percent: float) -> float:
        """The latency, in seconds, that so many percent do not exceed; NaN of none."""
        total = int(self.counts.sum())
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), math.ceil(total * percent / 100)))
        return self.SHORTEST * math.exp((place + 0.5) * self.STEP)


class Watcher:
    """A network and what it remembers of a stream, whose length does not matter.

    weights:  as of `Predictor`, of a network for event cameras
    memory:   which frames the logits average, as of `Network.step`
    top:      how many classes are given; None: 3, or all where there are fewer
    Raises:   as `Predictor`; ValueError for a network of images, and for another memory
    """

    def __init__(self, weights: Any, *, memory: Memory = "all", device: str = "auto", top: int | None = None, **overrides: Any):
        require_memory(memory)
        self.predictor = Predictor(weights, device=device, top=top, **overrides)
        if top is None:
            self.predictor.top = min(3, self.predictor.top)
        self.spec: InputSpec = self.predictor.spec
        if self.spec.kind != "events":
            raise ValueError(
                f"this network was trained on {self.spec.kind}, and a stream is of an event camera: use `spikewise predict`"
            )
        self.memory, self.state, self.latencies = memory, None, Latencies()
        self.frames = 0

    state: StreamState | None

    @torch.no_grad()
    def see(self, image: np.ndarray) -> tuple[tuple[str, float], ...]:
        """The classes after one more frame, float32 [2, H, W]."""
        frame = torch.from_numpy(image)[None].to(self.predictor.device)
        logits, self.state = self.predictor.net.step(frame, self.state, memory=self.memory)
        return self.predictor.rank(logits.float().softmax(1)[0].cpu())

    def watch(
        self, packets: Iterable[Packet], frames: LiveFrames, *, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Decision]:
        """A decision for each frame of what arrives.

        Raises:  DamagedStream where the stream cannot go on, after the decisions on all that came before
        """
        first: int | None = None

        def decide(frame: LiveFrame, arrived: float) -> Decision:
            nonlocal first
            classes = self.see(frame.values)
            latency = clock() - arrived
            self.latencies.add(latency)
            self.frames += 1
            assert first is not None, "a frame has events"
            return Decision(self.frames, (frame.end + 1 - first) / 1e6, classes, latency, frame.values, frame.num_events)

        damage, arrived = None, clock()
        try:
            for packet in packets:
                arrived = packet.arrived
                first = int(packet.events.t[0]) if first is None and len(packet.events) else first
                for frame in frames.push(packet.events, packet.until):
                    yield decide(frame, arrived)
        except DamagedStream as error:
            damage = error
        for frame in frames.finish():
            yield decide(frame, arrived)
        if damage is not None:
            raise damage


def live_spec(
    spec: InputSpec, recording: Events | None, *, time_window: int | None = None, event_count: int | None = None
) -> tuple[FrameSpec, str]:
    """The frames of a stream, of a size that is known while it goes on; and what was decided, in words, "" where nothing was.

    Asked for, or as the network was trained; where it was trained on recordings in T equal parts, a T-th of this one.

    recording:  None: not known, of a pipe
    Raises:     ValueError for both sizes, for what no stream can make, and where the size is not known
    """
    trained = spec.frame_spec
    if trained.representation == "voxel_grid":
        raise ValueError(
            "this network was trained on voxel grids, which span a whole recording: train it on counts, or predict"
        )
    if trained.filter and recording is None:
        raise ValueError(f"this network was trained with filter={trained.filter!r}, which needs a whole recording: name a file")
    if time_window is not None and event_count is not None:
        raise ValueError(
            f"frames are of a time or of so many events: use either {option('time_window')} or {option('event_count')}"
        )
    if time_window is not None:
        return replace(trained, T=None, split_by="duration", time_window=time_window, event_count=None), ""
    if event_count is not None:
        return replace(trained, T=None, split_by="count", event_count=event_count, time_window=None), ""
    if trained.size is not None:
        return replace(trained, T=None), ""
    assert trained.T is not None, "it has no size"
    by_time = trained.split_by == "duration"
    flag = option("time_window" if by_time else "event_count")
    if recording is None:
        raise ValueError(
            f"this network was trained on recordings in {trained.T} parts, and a pipe has no end: say a frame's size, {flag}"
        )
    first, last = time_range(recording)
    size = -(-(last + 1 - first) // trained.T) if by_time else max(len(recording) // trained.T, 1)
    what = f"{size:,} us" if by_time else count(size, "event")
    said = f"frames of {what}, one of {trained.T} parts of the recording as in training; {flag} says otherwise"
    chosen = replace(trained, T=None, time_window=size) if by_time else replace(trained, T=None, event_count=size)
    return chosen, said
