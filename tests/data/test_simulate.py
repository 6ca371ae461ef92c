"""The simulated event camera: laws of its physics."""

import numpy as np
import pytest
from checks import columns, refuse, require_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.data.datasets.digits_events import digits_events
from spikewise.data.events.simulate import refractory_mask, simulate, threshold_crossings

QUIET = {"noise_hz": 0.0, "threshold_std": 0.0, "refractory_us": 0}


def picture(seed=0, size=(12, 15)):
    return np.random.default_rng(seed).random(size)


def test_without_motion_and_noise_nothing_happens():
    assert len(simulate(picture(), seed=0, amplitude=0, noise_hz=0)) == 0
    assert len(simulate(np.full((5, 6), 0.7), seed=0, motion="random", noise_hz=0)) == 0  # nothing to see


@given(st.integers(0, 1000), st.sampled_from(["triangle", "random"]))
@settings(max_examples=25, deadline=None)
def test_events_are_in_order_inside_the_sensor_and_a_function_of_the_seed(seed, motion):
    events = simulate(picture(seed), seed=seed, motion=motion, noise_hz=5.0)
    assert (np.diff(events.t) >= 0).all()
    assert 0 <= events.t[0] <= events.t[-1] <= 300_000
    for column, end in ((events.x, 15), (events.y, 12), (events.polarity, 2)):
        assert column.max() < end
    require_equal(simulate(picture(seed), seed=seed, motion=motion, noise_hz=5.0), *columns(events))
    other = simulate(picture(seed), seed=seed + 1, motion=motion, noise_hz=5.0)
    assert not np.array_equal(events.t, other.t)


@given(st.integers(0, 1000), st.floats(0.05, 0.6))
@settings(max_examples=40, deadline=None)
def test_no_pixel_fires_more_often_under_a_doubled_threshold(seed, contrast):
    def per_pixel(threshold):
        events = simulate(picture(seed), seed=seed, motion="random", contrast_threshold=threshold, **QUIET)
        return np.bincount(events.y.astype(int) * 15 + events.x, minlength=180)

    assert (per_pixel(2 * contrast) <= per_pixel(contrast)).all()


def test_a_bright_edge_brightens_what_it_reaches():
    edge = np.zeros((10, 40))
    edge[:, :20] = 1.0
    events = simulate(edge, seed=0, amplitude=8.0, **QUIET)
    for start, end, polarity in ((20_000, 180_000, 1), (220_000, 300_001, 0)):  # two saccades go right, the third comes back
        part = events.between(start, end)
        assert len(part) > 100
        assert (part.polarity == polarity).all()


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_events_say_where_the_brightness_is_to_within_a_threshold(seed):
    rng = np.random.default_rng(seed)
    seen, t = np.cumsum(rng.normal(0, 0.5, (30, 5)), axis=0), np.arange(30) * 1000.0
    threshold = rng.uniform(0.1, 0.4, 5)
    pixel, polarity, when = threshold_crossings(seen, t, threshold)
    for s in range(1, 30):
        before = when < t[s]
        level = seen[0] + threshold * np.bincount(pixel[before], 2 * polarity[before] - 1, minlength=5)
        assert (np.abs(seen[s] - level) < threshold * 1.02).all()  # times are floored to whole microseconds


@given(st.integers(0, 1000), st.integers(1, 40_000))
@settings(max_examples=30, deadline=None)
def test_a_pixel_rests_after_each_event(seed, refractory_us):
    events = simulate(picture(seed), seed=seed, refractory_us=refractory_us, noise_hz=20.0)
    pixel = events.y.astype(int) * 15 + events.x
    for p in np.unique(pixel):
        assert (np.diff(events.t[pixel == p]) >= refractory_us).all()


def test_rest_follows_a_plain_loop():
    rng = np.random.default_rng(0)
    pixel, when = rng.integers(0, 6, 300), np.sort(rng.integers(0, 4000, 300))
    last, expected = {}, []
    for p, t in zip(pixel, when, strict=True):
        expected.append(p not in last or t - last[p] >= 70)
        if expected[-1]:
            last[p] = t
    assert refractory_mask(pixel, when, 70).tolist() == expected


def test_noise_comes_at_its_rate():
    events = simulate(np.zeros((100, 100)), seed=3, noise_hz=10.0, refractory_us=0)
    assert len(events) == pytest.approx(10 * 0.3 * 100 * 100, rel=0.03)  # 5 standard deviations
    assert events.polarity.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("image", "how", "message"),
    [
        (np.zeros((3, 4, 5)), {}, r"takes an image \[H, W\] of finite intensities, 0 or more; given float64 \[3, 4, 5\]"),
        (-np.ones((3, 4)), {}, "finite intensities, 0 or more"),
        (np.full((3, 4), np.nan), {}, "finite intensities"),
        (np.zeros((3, 4)), {"contrast_threshold": 0.0}, "contrast_threshold=0.0 is out of range; use a number above 0"),
        (np.zeros((3, 4)), {"log_offset": 0.0}, "log_offset=0.0 is out of range; use a number above 0"),
        (np.zeros((3, 4)), {"saccade_us": 0}, "saccade_us=0 is out of range; use 1 or more"),
        (np.zeros((3, 4)), {"refractory_us": -1}, "refractory_us=-1 is out of range; use 0 or more"),
        (np.zeros((3, 4)), {"noise_hz": float("nan")}, "noise_hz=nan is out of range"),
        (np.zeros((3, 4)), {"motion": "circle"}, "motion='circle' is unknown; use 'triangle' or 'random'"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_words(image, how, message):
    refuse(message, simulate, image, seed=0, **how)


def test_digits_before_the_camera_are_the_digits():
    train, test = digits_events("train", T=4), digits_events("test", T=4, split_by="duration")
    assert (len(train), len(test)) == (1438, 359)
    frames = train.sample(5)
    assert (frames.shape, frames.dtype) == ((4, 2, 32, 32), np.float32)
    assert np.array_equal(frames, digits_events("train", T=4).sample(5))
    assert frames.sum() == len(train.read(5))
    assert not np.array_equal(test.sample(5), frames)
