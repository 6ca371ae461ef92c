"""What frames hold of events, and frames of a fixed size: against plain loops in float64."""

import math

import numpy as np
import pytest
from checks import as_events, refuse
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.data.events import REPRESENTATIONS, FrameSpec, to_frames

SPLITS = [{"split_by": "count"}, {"split_by": "duration"}]
SIZES = [{"split_by": "count", "event_count": 7}, {"split_by": "duration", "time_window": 90}]
TIMES = st.lists(st.integers(-500, 500), min_size=1, max_size=60)


def recording(t, seed=0, size=(3, 4)):
    rng = np.random.default_rng(seed)
    return as_events(t, rng.integers(0, size[1], len(t)), rng.integers(0, size[0], len(t)), rng.integers(0, 2, len(t)), size)


def rows(events):
    return list(zip(*(column.tolist() for column in events.columns), strict=True))


def frame_of(events, T, split_by, event_count=None, time_window=None):
    """The frame of each event, as docs/equations.md has it (F1)."""
    n, first, last = len(events), min(events.t.tolist()), max(events.t.tolist())
    if event_count:
        return [i // event_count for i in range(n)]
    if time_window:
        return [(t - first) // time_window for t in events.t.tolist()]
    if split_by == "duration":
        return [(t - first) * T // (last - first + 1) for t in events.t.tolist()]
    return [min(i // (n // T), T - 1) if n >= T else T - 1 for i in range(n)]


@pytest.mark.parametrize("options", SIZES, ids=str)
@given(t=TIMES, T=st.one_of(st.none(), st.integers(1, 9)))
@settings(max_examples=60, deadline=None)
def test_frames_of_a_fixed_size(options, t, T):
    events = recording(t)
    frames = frame_of(events, T, **options)
    expected = np.zeros((T or max(frames) + 1, 2, *events.size))
    for (_, x, y, polarity), frame in zip(rows(events), frames, strict=True):
        if frame < len(expected):
            expected[frame, polarity, y, x] += 1
    found = to_frames(events, T, **options)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)
    if T is not None:  # what lies behind is counted and said
        left_out = len(events) - int(expected.sum())
        notes = FrameSpec(T, **options).select(events).notes
        assert notes == () if not left_out else notes[0].startswith(f"{left_out} event")


@pytest.mark.parametrize("options", SPLITS + SIZES, ids=str)
@given(t=TIMES, T=st.integers(1, 9), tau=st.sampled_from([1, 40.0, 5e4]))
@settings(max_examples=60, deadline=None)
def test_time_surfaces_are_the_age_of_the_latest_event(options, t, T, tau):
    events = recording(t)
    frames, first = frame_of(events, T, **options), min(t)
    expected = np.zeros((T, 2, *events.size))
    for k in range(T):
        latest = [row for row, frame in zip(rows(events), frames, strict=True) if frame <= k]
        if options["split_by"] == "count":
            end = max((row[0] for row in latest), default=0)
        else:
            end = first + (k + 1) * options["time_window"] if "time_window" in options else None
        if end is None:  # the first microsecond after the frame
            end = next(now for now in range(first, max(t) + 2) if (now - first) * T // (max(t) - first + 1) > k)
        for time, x, y, polarity in sorted(latest):
            expected[k, polarity, y, x] = math.exp(-(end - time) / tau)
    found = to_frames(events, T, representation="time_surface", tau=tau, **options)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)


@given(t=TIMES, T=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_a_voxel_grid_is_bilinear_in_time(t, T):
    events = recording(t)
    first, last = min(t), max(t)
    expected = np.zeros((T, 2, *events.size))
    for time, x, y, polarity in rows(events):
        place = (T - 1) * (time - first) / (last - first) if last > first else 0.0
        for k in range(T):
            expected[k, polarity, y, x] += max(0.0, 1 - abs(k - place))
    found = to_frames(events, T, split_by="duration", representation="voxel_grid")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert found.sum() == pytest.approx(len(events))


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_of_no_events_and_of_any_times(representation):
    options = {"split_by": "duration", "representation": representation}
    assert not to_frames(recording([]), 3, **options).any()
    ends = np.iinfo(np.int64)
    found = to_frames(recording([ends.min, -1, 0, ends.max]), 3, tau=1e18, **options)
    assert np.isfinite(found).all()
    assert found.sum() > 0


def test_a_recording_of_fewer_frames_ends_in_empty_ones():
    events = recording([0, 5, 10, 15])
    assert to_frames(events, 9, split_by="duration", time_window=10).sum((1, 2, 3)).tolist() == [2, 2, *[0] * 7]
    assert to_frames(events, 3, event_count=3).sum((1, 2, 3)).tolist() == [3, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": 3, "split_by": "time"}, "split_by='time' is unknown; use count or duration"),
        ({"T": 3, "representation": "voxels"}, "no representation named 'voxels'; did you mean 'voxel_grid'"),
        ({"time_window": 5}, "time_window.* is for split_by='duration', given 'count'"),
        ({"event_count": 5, "split_by": "duration"}, "event_count.* is for split_by='count'"),
        ({"event_count": 0}, "event_count=0; use 1 or more"),
        ({}, "say how many frames"),
        ({"T": 0}, "T=0 frames; use 1 or more"),
        ({"T": 3, "tau": 0}, "tau=0; use microseconds above 0"),
        ({"T": 3, "representation": "voxel_grid"}, "use split_by='duration'"),
        ({"T": 3, "filter": "noise=3"}, "no filter named 'noise'"),
        ({"split_by": "duration", "time_window": 1}, "GiB; use fewer of them, or a part"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options, message):
    refuse(message, to_frames, recording([0, 10**12]), **options)
