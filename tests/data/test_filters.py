"""Filters of noise: against plain loops, in C and in their definitions."""

from unittest import mock

import numpy as np
import pytest
from checks import as_events, refuse
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.data.events.filters import FILTERS, apply_filters, keep_background, keep_cool_pixels, keep_refractory
from spikewise.native import load as native

SIZE = (4, 5)
INT64 = np.iinfo(np.int64)
TIME = st.one_of(st.integers(0, 30), st.sampled_from([INT64.min, -1, INT64.max]))
EVENT = st.tuples(TIME, st.integers(0, SIZE[1] - 1), st.integers(0, SIZE[0] - 1), st.integers(0, 1))
RECORDING = st.lists(EVENT, max_size=60).map(lambda events: as_events(*np.array(events, dtype=object).reshape(-1, 4).T, SIZE))


@pytest.fixture(params=["c", "definition"], autouse=True)
def _both(request):
    reason = native.unavailable_reason()
    if request.param == "c" and reason:
        pytest.skip(reason)
    with mock.patch.object(native, "unavailable_reason", return_value="" if request.param == "c" else "not in this test"):
        yield


def in_order(events):
    """Events as (index, t, (x, y)) in the order of time; of the same time, in that of the file."""
    numbered = enumerate(zip(events.t.tolist(), zip(events.x.tolist(), events.y.tolist(), strict=True), strict=True))
    return sorted(((i, t, place) for i, (t, place) in numbered), key=lambda event: event[1])


@given(events=RECORDING, dt=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_background_is_what_has_no_neighbour(events, dt):
    expected, before = [False] * len(events), []
    for i, t, (x, y) in in_order(events):
        expected[i] = any(t - then <= dt and max(abs(x - a), abs(y - b)) == 1 for then, (a, b) in before)
        before.append((t, (x, y)))
    assert keep_background(events, dt).tolist() == expected


@given(events=RECORDING, period=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_a_pixel_rests_after_each_event_that_is_kept(events, period):
    expected, kept = [False] * len(events), []
    for i, t, place in in_order(events):
        expected[i] = not any(t - then < period and place == there for then, there in kept)
        if expected[i]:
            kept.append((t, place))
    assert keep_refractory(events, period).tolist() == expected


def test_hot_pixels_give_too_many_events_per_second():
    t = np.arange(101) * 10_000  # for a second: 100 events per second at x=1, one event at x=2
    events = as_events(np.append(t, 5), [1] * 101 + [2], [0] * 102, [0] * 102, SIZE)
    assert keep_cool_pixels(events, 100).all()
    assert keep_cool_pixels(events, 99).tolist() == [False] * 101 + [True]
    assert keep_cool_pixels(events[:1], 0).tolist() == [True]


def test_filters_follow_each_other_and_say_what_they_dropped():
    events = as_events([0, 1, 2, 5000, 5001], [1, 2, 2, 4, 1], [1, 1, 1, 3, 1], [0, 1, 0, 1, 1], SIZE)
    found = apply_filters(events, "refractory=10us, background=1ms")
    assert found.t.tolist() == [1]
    assert [note.split(" by ")[0] for note in found.notes] == ["1 of 5 events dropped", "3 of 4 events dropped"]
    assert apply_filters(events, "") is events


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_takes_its_example_and_no_events(name):
    nothing = as_events(*np.zeros((4, 0), int), SIZE)
    assert len(apply_filters(nothing, f"{name}={FILTERS[name].example}")) == 0
    outside = as_events([0], [5], [0], [0], SIZE)
    refuse("event 0 lies at x=5, outside the sensor of 5 pixels", apply_filters, outside, f"{name}={FILTERS[name].example}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hot_pixel=5", "no filter named 'hot_pixel'; did you mean 'hot_pixels'"),
        ("background", "the filter background needs a value, as background=10ms"),
        ("background=10", "the filter background: '10' is no duration; write a number and its unit"),
        ("hot_pixels=many", "the filter hot_pixels: 'many' is no rate"),
        ("hot_pixels=nan", "the filter hot_pixels: 'nan' is no rate"),
    ],
)
def test_mistakes_are_told(text, message):
    refuse(message, apply_filters, as_events([0], [0], [0], [0], SIZE), text)
