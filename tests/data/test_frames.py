"""Events to frames: laws of both rules, and the loops in C against their definition."""

from unittest import mock

import numpy as np
import pytest
from checks import as_events, columns, refuse
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.data.events import Events
from spikewise.data.events.frames import FRAME_BINNERS, frames_by_count, frames_by_duration, to_frames
from spikewise.native import load as native

needs_c = pytest.mark.skipif(bool(native.unavailable_reason()), reason=native.unavailable_reason())
INT64 = np.iinfo(np.int64)


def recording(t, size, seed=0):
    rng = np.random.default_rng(seed)
    n = len(t)
    return as_events(t, rng.integers(0, size[1], n), rng.integers(0, size[0], n), rng.integers(0, 2, n), size)


ordinary = st.integers(0, 10**6)
any_time = st.one_of(ordinary, st.integers(INT64.min, INT64.max), st.sampled_from([INT64.min, -1, 0, INT64.max]))
sizes = st.tuples(st.integers(1, 7), st.integers(1, 9))
streams = st.builds(recording, st.one_of(st.lists(any_time, max_size=50), st.lists(ordinary, max_size=200).map(sorted)), sizes)


@needs_c
@pytest.mark.parametrize("variant", native.supported_variants())
@pytest.mark.parametrize("rule", FRAME_BINNERS)
@given(events=streams, T=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_the_loop_in_c_equals_its_definition(rule, variant, events, T):
    with mock.patch.object(native, "selected_variant", return_value=variant):
        got = FRAME_BINNERS[rule](events, T)
    with mock.patch.object(native, "unavailable_reason", return_value="not in this test"):
        want = FRAME_BINNERS[rule](events, T)
    assert got.dtype == want.dtype == np.int32
    assert np.array_equal(got, want)


@pytest.mark.parametrize("rule", FRAME_BINNERS)
@given(events=streams, T=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_every_event_is_in_one_frame_at_its_place(rule, events, T):
    frames = FRAME_BINNERS[rule](events, T)
    assert frames.shape == (T, 2, *events.size)
    if rule == "count":  # the published rule: floor(n / T), the last takes the remainder
        assert (frames[:-1].sum((1, 2, 3)) == len(events) // T).all()
    places = np.zeros(frames.shape[1:], dtype=np.int64)
    np.add.at(places, (events.polarity, events.y, events.x), 1)
    assert np.array_equal(frames.sum(0), places)


@given(st.lists(any_time, min_size=1, max_size=40), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_frames_of_equal_duration_follow_the_formula_for_any_times(t, T):
    first, last = min(t), max(t)
    expected = [0] * T
    for time in t:
        expected[(time - first) * T // (last - first + 1)] += 1
    assert frames_by_duration(recording(t, (3, 4)), T).sum((1, 2, 3)).tolist() == expected


@pytest.mark.parametrize("rule", FRAME_BINNERS)
def test_a_recording_without_events_gives_zeros(rule):
    assert np.array_equal(FRAME_BINNERS[rule](recording([], (4, 5)), 3), np.zeros((3, 2, 4, 5)))


def test_the_order_of_the_events_does_not_matter_to_frames_of_equal_duration():
    events = recording(np.sort(np.random.default_rng(0).integers(0, 1000, 300)), (6, 7))
    mixed = np.random.default_rng(1).permutation(300)
    assert np.array_equal(frames_by_duration(events, 8), frames_by_duration(events[mixed], 8))


@pytest.mark.parametrize("wrong", [("x", 5), ("y", 4), ("polarity", 2)], ids=str)
@pytest.mark.parametrize("plain", [True, False], ids=["c", "numpy"])
def test_an_event_outside_is_named_before_anything_is_counted(wrong, plain):
    arrays = vars(recording(range(9), (4, 5)))
    arrays[wrong[0]][6] = wrong[1]
    if not plain:
        arrays |= {name: arrays[name].astype(np.int64) for name in ("x", "y", "polarity")}
    refuse(
        r"event 6 lies at x=.*outside the sensor of 5 x 4 pixels or the polarities 0 and 1",
        frames_by_count,
        Events(**arrays),
        2,
    )
    if not plain:
        arrays[wrong[0]][6] = -1
        refuse("event 6 lies at", frames_by_count, Events(**arrays), 2)


@pytest.mark.parametrize("rule", FRAME_BINNERS)
def test_what_is_no_recording_is_refused(rule):
    events = recording(range(9), (4, 5))
    refuse(
        r"t, x, y and polarity of \(9,\), \(8,\), .* are no recording",
        FRAME_BINNERS[rule],
        Events(events.t, events.x[:8], events.y, events.polarity, (4, 5)),
        2,
    )
    refuse("T=0 frames; use 1 or more", FRAME_BINNERS[rule], events, 0)


def test_arrays_that_are_not_contiguous_are_counted_alike():
    every_other = recording(np.random.default_rng(0).integers(0, 99, 400), (6, 7))[::2]
    copied = Events(*map(np.copy, columns(every_other)), every_other.size)
    for rule in FRAME_BINNERS.values():
        assert np.array_equal(rule(every_other, 5), rule(copied, 5))


def test_the_number_of_frames_has_the_name_of_the_command_line_too():
    events = recording([1, 5, 9], (3, 4))
    assert np.array_equal(to_frames(events, num_frames=2), to_frames(events, 2))
    refuse("are the same", to_frames, events, 2, num_frames=3)
