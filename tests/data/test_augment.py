"""What chance does to samples: laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.data import rng_from
from spikewise.data.augment import (
    cutmix,
    event_drop,
    mixup,
    random_affine,
    random_crop,
    random_crop_box,
    random_hflip,
    random_polarity_flip,
    random_resized_crop,
    random_rotation,
    random_shift,
    random_temporal_delete,
    resize,
    sample_bilinear,
)


class Fixed:
    """A generator whose next random number is known."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def counts(shape=(4, 2, 7, 9), seed=0):
    return np.random.default_rng(seed).integers(0, 6, shape).astype(np.uint8)


EVERY = {
    "shift": lambda x, rng: random_shift(x, rng, 2),
    "crop": lambda x, rng: random_crop(x, rng, (5, 6), 1),
    "flip": random_hflip,
    "rotate": lambda x, rng: random_rotation(x, rng, 20),
    "polarity_flip": random_polarity_flip,
    "event_drop": lambda x, rng: event_drop(x, rng, 0.3),
    "temporal_delete": lambda x, rng: random_temporal_delete(x, rng, 3),
    "warp": lambda x, rng: random_affine(x[0].astype(np.float32), rng, 0.1),
    "random_resized_crop": lambda x, rng: random_resized_crop(x[0], rng, (7, 9)),
}


@pytest.mark.parametrize("name", EVERY)
def test_it_is_a_function_of_sample_and_generator_and_leaves_the_sample_as_it_was(name):
    sample = counts()
    results = [EVERY[name](sample, rng_from(k)).tobytes() for k in range(20)]
    assert results == [EVERY[name](sample, rng_from(k)).tobytes() for k in range(20)]
    assert len(set(results)) > 1
    assert np.array_equal(sample, counts())


@pytest.mark.parametrize("change", [random_hflip, random_polarity_flip])
def test_what_is_flipped_twice_is_as_it_was_and_the_sum_stays(change):
    sample = counts()
    once = change(sample, Fixed(0.1))
    assert not np.array_equal(once, sample)
    assert once.sum() == sample.sum()
    assert np.array_equal(change(once, Fixed(0.1)), sample)
    assert change(sample, Fixed(0.9)) is sample


def test_shift_is_a_crop_of_the_padded_sample_as_it_was_drawn_before():
    sample = counts((2, 8, 8))
    rng, other = rng_from(5), rng_from(5)
    for _ in range(20):
        down, right = other.integers(0, 7, size=2)
        padded = np.pad(sample, [(0, 0), (3, 3), (3, 3)])
        assert np.array_equal(random_shift(sample, rng, 3), padded[:, down : down + 8, right : right + 8])
    assert rng.random() == other.random()


def test_a_crop_larger_than_the_sample_is_refused():
    with pytest.raises(ValueError, match="a crop of 8 x 3 pixels from 7 x 9; use a smaller one"):
        random_crop(counts(), rng_from(0), (8, 3))


@pytest.mark.parametrize("most", [0.0, 90.0])
def test_a_rotation_by_right_angles_moves_whole_pixels(most, monkeypatch):
    sample = counts((2, 3, 9, 9))

    class Most:
        def uniform(self, low, high):
            return high

    assert np.array_equal(random_rotation(sample, Most(), most), np.rot90(sample, k=int(most // 90), axes=(-2, -1)))


def test_rotated_counts_are_counts_that_were_there():
    sample = counts((4, 2, 15, 15))
    turned = random_rotation(sample, rng_from(3), 30)
    assert turned.dtype == sample.dtype
    assert set(np.unique(turned)) <= {0, *np.unique(sample)}
    assert turned[..., 7, 7].tolist() == sample[..., 7, 7].tolist()  # about the middle


@given(st.integers(0, 1000), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_event_drop_never_adds(seed, share):
    sample = counts(seed=seed)
    left = event_drop(sample, rng_from(seed), share)
    assert left.dtype == sample.dtype
    assert (left <= sample).all()
    if share in (0, 1):
        assert np.array_equal(left, sample * (share == 0))


def test_event_drop_loses_the_share_that_it_is_told():
    sample = np.full((10, 2, 50, 50), 3, dtype=np.float32)
    assert event_drop(sample, rng_from(0), 0.25).mean() == pytest.approx(3 * 0.75, abs=0.02)  # 6 standard deviations


def test_temporal_delete_keeps_some_of_the_frames():
    sample = counts((8, 2, 3, 3))
    kept = random_temporal_delete(sample, rng_from(1), 5)
    assert kept.sum() <= sample.sum()
    assert all(any(np.array_equal(frame, other) for other in sample) for frame in kept)


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
def test_boxes_lie_inside_the_image(height, width, seed):
    top, left, h, w = random_crop_box(height, width, rng_from(seed))
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert min(h, w) >= 1


def test_boxes_have_the_area_and_the_ratio_that_are_drawn():
    boxes = np.array([random_crop_box(600, 600, rng_from(k)) for k in range(4000)])
    area, ratio = boxes[:, 2] * boxes[:, 3] / 600**2, boxes[:, 3] / boxes[:, 2]
    assert 0.079 < area.min() < 0.1
    assert area.max() <= 1
    assert ratio.min() == pytest.approx(3 / 4, abs=0.02)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.02)
    assert abs(np.log(ratio).mean()) < 0.02  # even in the logarithm
    assert area.mean() == pytest.approx(0.51, abs=0.04)  # little is refused in a square


def test_a_long_image_is_cropped_in_its_middle():
    assert random_crop_box(1000, 10, rng_from(0), scale=(0.9, 1.0)) == (493, 0, 13, 10)
    assert random_crop_box(10, 1000, rng_from(0), scale=(0.9, 1.0)) == (0, 493, 10, 13)


@pytest.mark.parametrize("size", [(5, 4), (16, 24), (9, 40), (32, 7)], ids=str)
def test_resizing_equals_torchs_antialiased_bilinear(size):
    image = np.random.default_rng(0).random((3, 16, 24)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], size=size, mode="bilinear", antialias=True, align_corners=False
    )[0]
    np.testing.assert_allclose(resize(image, size), expected.numpy(), atol=1e-5)


def batch(frames):
    shape = (3, 6, 2, 8, 10) if frames else (6, 2, 8, 10)
    values = np.arange(6, dtype=np.float32)[:, None, None, None]  # sample k is full of k
    return np.broadcast_to(values, shape).copy(), np.eye(6, dtype=np.float32)


@pytest.mark.parametrize("frames", [False, True], ids=["images", "frames"])
@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_targets_are_mixed_as_the_samples_are(mix, frames, alpha):
    samples, targets = batch(frames)
    seen = set()
    for k in range(30):
        mixed, shares = mix(samples, targets, rng_from(k), alpha)
        assert mixed.dtype == shares.dtype == np.float32
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        assert (shares >= 0).all()
        # sample k is full of k, so that its mean is what its target says
        mean = np.moveaxis(mixed, mixed.ndim - 4, 0).reshape(6, -1).mean(1)
        np.testing.assert_allclose(mean, shares @ np.arange(6), atol=1e-4)
        seen.add(shares.tobytes())
    assert len(seen) > 10  # small rectangles vanish
    assert np.array_equal(samples, batch(frames)[0])


def test_cutmix_puts_one_rectangle_everywhere():
    samples, targets = batch(True)
    mixed, _ = cutmix(samples, targets, rng_from(4), 1.0)
    changed = mixed != samples
    places = changed.any((0, 1, 2))
    rows, columns = np.flatnonzero(places.any(1)), np.flatnonzero(places.any(0))
    assert places.sum() == len(rows) * len(columns) > 0
    assert places[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_shift_moves_and_never_invents():
    image = np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4)
    seen = {random_shift(image, rng_from(seed), 1).tobytes() for seed in range(200)}
    assert len(seen) == 9  # every direction, and none
    assert set(np.unique(random_shift(image, rng_from(3), 2))) <= {0, *range(1, 17)}
    assert random_shift(image, rng_from(3), 0) is image


def test_warp_at_strength_zero_or_for_a_constant_inside_changes_nothing():
    image = np.random.default_rng(0).random((2, 7, 9), dtype=np.float32)
    assert random_affine(image, rng_from(0), 0.0) is image
    warped = random_affine(np.ones((1, 40, 40), dtype=np.float32), rng_from(1), 0.02)
    np.testing.assert_allclose(warped[:, 10:30, 10:30], 1, rtol=1e-6)


def test_warp_stays_within_the_values_of_the_image():
    image = np.random.default_rng(0).random((2, 7, 9), dtype=np.float32)
    for seed in range(50):
        warped = random_affine(image, rng_from(seed), 0.3)
        assert warped.shape == image.shape
        assert warped.dtype == np.float32
        assert warped.min() >= 0
        assert warped.max() <= image.max()


def test_bilinear_reads_pixels_where_they_are_and_mixes_between():
    image = np.arange(12, dtype=np.float64).reshape(1, 3, 4)
    y, x = np.mgrid[:3, :4].astype(float)
    np.testing.assert_array_equal(sample_bilinear(image, y, x), image)
    assert sample_bilinear(image, np.array([[0.5]]), np.array([[1.5]])).item() == (1 + 2 + 5 + 6) / 4
    for outside in ((50.0, 1.0), (1.0, 50.0), (-50.0, 1.0), (1.0, -50.0), (3.0, 1.0)):
        assert sample_bilinear(image, *(np.array([[place]]) for place in outside)).item() == 0
