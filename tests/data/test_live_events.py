"""Streams of events: the frames of a stream are those of the whole recording, from a file and from a pipe."""

import re
from dataclasses import replace

import numpy as np
import pytest

from spikewise.data.events import Events, FrameSpec
from spikewise.data.events.live import MAX_GAP, DamagedStream, LiveFrames, play
from spikewise.data.events.pipe import TextPipe

SIZE = (6, 8)
SPECS = {
    "time": FrameSpec(split_by="duration", time_window=7000),
    "count": FrameSpec(event_count=333),
    "surfaces by time": FrameSpec(split_by="duration", time_window=7000, representation="time_surface", tau=20_000.0),
    "surfaces by count": FrameSpec(event_count=333, representation="time_surface"),
}


@pytest.fixture
def recording():
    """With a gap of some empty windows."""
    rng = np.random.default_rng(0)
    t = np.sort(np.concatenate([rng.integers(1000, 40_000, 1500), rng.integers(80_000, 100_000, 1500)]))
    x, y = (rng.integers(0, side, 3000).astype(np.uint16) for side in SIZE[::-1])
    return Events(t, x, y, rng.integers(0, 2, 3000).astype(np.uint8), SIZE)


def lines(events, template=b"%d %d %d %d\n"):
    return b"".join(template % row for row in zip(*(column.tolist() for column in events.columns), strict=True))


def frames_of(packets, spec, **how):
    frames = LiveFrames(spec, **how)
    made = [frame for packet in packets for frame in frames.push(packet.events, packet.until)]
    return [*made, *frames.finish()], frames


def pipe(content, piece=997, size=SIZE, **how):
    pieces = iter([content[at : at + piece] for at in range(0, len(content), piece)])
    return TextPipe(lambda _: next(pieces, b""), size, **how)


def read_all(source):
    """What arrives before the damage, and the damage."""
    events, damage = [], None
    try:
        for packet in source.packets():
            events.append(packet.events)  # noqa: PERF401  what came before is kept
    except DamagedStream as error:
        damage = str(error)
    columns = [np.concatenate([getattr(part, name) for part in events] or [[]]) for name in ("t", "x", "y", "polarity")]
    return [column.tolist() for column in columns], damage


@pytest.mark.parametrize("how", ["file", "pipe", "pipe in small pieces"])
@pytest.mark.parametrize("spec", SPECS)
def test_frames_are_those_of_the_whole_recording(spec, how, recording):
    spec = SPECS[spec]
    packets = (
        play(recording, spec, np.inf) if how == "file" else pipe(lines(recording), 65536 if how == "pipe" else 23).packets()
    )
    made, frames = frames_of(packets, spec)
    expected = spec.frames(recording).astype(np.float32)
    assert np.array_equal(np.stack([frame.values for frame in made]), expected)
    assert sum(frame.num_events for frame in made) == len(recording)
    assert frames.late == 0


def test_counts_are_limited_as_in_training(recording):
    made, _ = frames_of(play(recording, SPECS["time"], np.inf), SPECS["time"], max_count=2)
    assert max(frame.values.max() for frame in made) == 2


def test_a_recording_whose_times_run_backwards_is_put_in_order(recording):
    mixed = recording[np.random.default_rng(1).permutation(len(recording))]
    made, _ = frames_of(play(mixed, SPECS["time"], np.inf), SPECS["time"])
    assert np.array_equal(np.stack([frame.values for frame in made]), SPECS["time"].frames(recording))


def test_packets_come_when_a_frame_is_over():
    t = np.array([500, 1500, 1600, 4500])
    events = Events(t, *(np.zeros(4, kind) for kind in (np.uint16, np.uint16, np.uint8)), SIZE)
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(round(seconds, 9))
        now[0] += seconds

    spec = FrameSpec(split_by="duration", time_window=1000)
    packets = list(play(events, spec, speed=2.0, clock=lambda: now[0], sleep=sleep))
    assert slept == [0.0005] * 5
    assert [round(packet.arrived - 100, 9) for packet in packets] == [0.0005, 0.001, 0.0015, 0.002, 0.0025]
    assert [len(packet.events) for packet in packets] == [1, 2, 0, 0, 1]


def test_events_that_come_behind_their_frame_are_counted(recording):
    frames = LiveFrames(SPECS["time"])
    made = [frame for part in (recording[:2000], recording[:3], recording[2000:]) for frame in frames.push(part)]
    assert (frames.late, len(made)) == (3, 14)


def test_a_clock_that_jumps_ends_the_stream(recording):
    frames = LiveFrames(SPECS["time"])
    list(frames.push(recording))
    far = replace(recording, t=recording.t + 2 * MAX_GAP * 7000)
    with pytest.raises(DamagedStream, match="times jump ahead"):
        list(frames.push(far))


def test_frames_without_a_size_are_refused():
    with pytest.raises(ValueError, match="a stream has no end to divide by 8; say the size"):
        LiveFrames(FrameSpec(8))


# Pipes -----------------------------------------------------------------------------------------------------------------------


EVENTS = [[10, 20, 30], [1, 2, 3], [4, 5, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (b"10 1 4 1\n20 2 5 0\n30 3 0 1\n", {}),
        (b"10,1,4,1\n20,2,5,-1\n30,3,0,1", {}),
        (b"# from a camera\n10 1 4 1\n\n20 2 5 0\n% a remark\n30 3 0 1\n", {}),
        (b"x,y,polarity,time_us\n1,4,1,10\n2,5,0,20\n3,0,1,30\n", {}),
        (b"1 10 4 1\n0 20 5 2\n1 30 0 3\n", {"columns": "p,t,y,x"}),
        (b"0.00001 1 4 true\n0.00002 2 5 false\n0.00003 3 0 on\n", {"time_unit": "s"}),
        (b"8 6\n10 1 4 1\n20 2 5 0\n30 3 0 1\n", {}),
    ],
    ids=["spaces", "commas", "comments", "names", "columns", "seconds", "sensor"],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_lines_of_a_pipe(content, how, piece):
    assert read_all(pipe(content, piece, **how)) == (EVENTS, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"40 1 x 1", "line 4 has something else than numbers"),
        (b"40 1 1", "line 4 has 3 columns, not 4"),
        (b"40.5 1 1 1", "line 4 has a t with a fraction"),
        (b"40 8 1 1", "event 4 .*not on the sensor of 8 x 6"),
        (b"40 1 1 2", "event 4 .*polarity 2"),
        (b"\xff" * 8, "line 4"),
        (b"1" * 5000, "line 4"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1000])
def test_what_lies_before_a_damaged_line_is_read(line, message, piece):
    source = pipe(b"10 1 4 1\n20 2 5 0\n30 3 0 1\n" + line + b"\n50 1 1 1\n", piece)
    found, damage = read_all(source)
    assert found == EVENTS
    assert re.search(message, damage)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "a pipe is read as text.*HDF5"),
        (b"% evt 3.0\n% end\n\x01\x02", "a pipe is read as text.*EVT 3.0"),
        (b"\x01\x00\x02\x03" * 9, "a pipe is read as text.*no text"),
        (b"\x28\xb5\x2f\xfd rest", "Zstandard"),
        (b"", "holds no events"),
        (b"# nothing\n", "holds no events"),
        (b"t,x,y\n1,2,3\n", "polarity"),
    ],
)
def test_what_is_no_text_of_events_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_all(pipe(content))
