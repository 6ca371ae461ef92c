"""A network before a camera: its decisions are those of its stream, and its memory does not grow."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from spikewise.data.events import Events, FrameSpec
from spikewise.data.events.live import DamagedStream, LiveFrames, Packet, play
from spikewise.data.input_spec import InputSpec
from spikewise.engine.live import Latencies, Watcher, live_spec
from spikewise.models import build_model

ROOT = Path(__file__).parents[2]
SPEC = FrameSpec(split_by="duration", time_window=1000)


def network(side=4, **how):
    net = build_model("sew_7b", num_classes=3, num_blocks=1, width=0.0625).eval()
    net.input_spec = InputSpec("", "events", ("a", "b", "c"), (2, side, side), num_frames=4, **how)
    return net


def recording(num_events=500, side=4, microseconds=20_000):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, microseconds, num_events))
    x, y = rng.integers(0, side, (2, num_events)).astype(np.uint16)
    return Events(t, x, y, rng.integers(0, 2, num_events).astype(np.uint8), (side, side))


@pytest.mark.parametrize("memory", ["all", 3, 0.5])
def test_decisions_are_those_of_the_networks_stream(memory):
    net, events = network(), recording()
    watcher = Watcher(net, memory=memory, device="cpu")
    decisions = list(watcher.watch(play(events, SPEC, np.inf), LiveFrames(SPEC)))
    state = None
    with torch.no_grad():
        for frame, decision in zip(torch.from_numpy(SPEC.frames(events)).float(), decisions, strict=True):
            logits, state = net.step(frame[None], state, memory=memory)
            probabilities = dict(decision.classes)
            assert [probabilities[name] for name in "abc"] == logits.softmax(1)[0].tolist()
            assert np.array_equal(decision.image, frame.numpy())
    assert [decision.frame for decision in decisions] == list(range(1, 21))
    assert decisions[0].seconds == 0.001


def test_latency_counts_from_when_a_frame_was_there():
    ticks = iter(range(1000))
    watcher = Watcher(network(), device="cpu")
    packets = [Packet(recording(50, microseconds=900), None, 10.0), Packet(recording(0), None, 20.0)]
    (decision,) = watcher.watch(packets, LiveFrames(SPEC), clock=lambda: 100.0 + next(ticks))
    assert decision.latency == 101.0 - 20.0


def test_what_came_before_damage_is_decided_on():
    def packets():
        yield Packet(recording()[:130], None, 0.0)
        raise DamagedStream("a line")

    watcher, seen = Watcher(network(), device="cpu"), []
    decisions = watcher.watch(packets(), LiveFrames(SPEC))
    with pytest.raises(DamagedStream, match="a line"):
        seen.extend(decision.num_events for decision in decisions)
    assert sum(seen) == 130


def test_percentiles_are_within_a_percent():
    latencies, values = Latencies(), np.exp(np.random.default_rng(0).normal(-6, 2, 5000))
    assert np.isnan(latencies.percentile(50))
    for value in values:
        latencies.add(value)
    for percent in (1, 50, 99, 100):
        exact = np.percentile(values, percent, method="inverted_cdf")
        assert latencies.percentile(percent) == pytest.approx(exact, rel=0.01)
    latencies.add(0.0)
    latencies.add(1e9)
    assert latencies.percentile(0.001) < 2e-6 < 900 < latencies.percentile(100)


@pytest.mark.parametrize("num_frames", [2_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
@pytest.mark.parametrize("memory", ["all", 16, 0.9])
def test_memory_is_constant(memory, num_frames):
    """Of a camera that never ends: the peak of the second half is that of the first."""
    part = recording(20, 2, 1000)

    def packets(number):
        for k in range(number):
            yield Packet(Events(part.t + 1000 * k, part.x, part.y, part.polarity, part.size), 1000 * (k + 1) - 1, 0.0)

    watcher = Watcher(network(2), memory=memory, device="cpu")
    decisions = watcher.watch(packets(num_frames), LiveFrames(SPEC))
    for _ in range(num_frames // 10):
        next(decisions)
    peaks = []
    tracemalloc.start()
    for _ in range(2):
        gc.collect()
        tracemalloc.reset_peak()
        for _ in range(num_frames * 9 // 20):
            next(decisions)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert watcher.frames == num_frames
    assert peaks[1] < peaks[0] + 20_000


@pytest.mark.parametrize(
    ("how", "asked", "frames"),
    [
        ({}, {}, {"event_count": 125}),
        ({"split_by": "duration"}, {}, {"split_by": "duration", "time_window": 4973}),
        ({"frame_options": {"event_count": 50}}, {}, {"event_count": 50}),
        ({}, {"time_window": 700}, {"split_by": "duration", "time_window": 700}),
        ({"split_by": "duration"}, {"event_count": 7}, {"event_count": 7}),
    ],
)
def test_frames_are_as_trained_or_as_asked_for(how, asked, frames):
    spec, said = live_spec(network(**how).input_spec, recording(), **asked)
    assert spec == FrameSpec(**frames)
    assert bool(said) == (not asked and "frame_options" not in how)


@pytest.mark.parametrize(
    ("how", "asked", "message"),
    [
        ({}, {}, "in 4 parts, and a pipe has no end: .*'event_count'"),
        ({"split_by": "duration"}, {}, "'time_window'"),
        ({"frame_options": {"filter": "background=10ms"}}, {"event_count": 5}, "needs a whole recording"),
        ({"split_by": "duration", "frame_options": {"representation": "voxel_grid"}}, {}, "voxel grids"),
        ({}, {"event_count": 5, "time_window": 5}, "either 'time_window' or 'event_count'"),
    ],
)
def test_what_a_pipe_cannot_be_is_refused(how, asked, message):
    with pytest.raises(ValueError, match=message):
        live_spec(network(**how).input_spec, None, **asked)


def test_other_networks_and_memories_are_refused():
    images = build_model("sew_resnet20", num_classes=2, width=0.25)
    images.input_spec = InputSpec(class_names=("a", "b"), shape=(3, 8, 8))
    with pytest.raises(ValueError, match="trained on photographs, and a stream is of an event camera"):
        Watcher(images)
    with pytest.raises(ValueError, match="memory=0 is unknown"):
        Watcher(network(), memory=0)


def test_the_pages_program_runs():
    """The Python of docs/streams.md, as it stands."""
    exec((ROOT / "docs" / "streams.md").read_text().split("```python\n")[1].split("```")[0], {})
