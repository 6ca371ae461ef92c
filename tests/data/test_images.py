import numpy as np

from spikewise.data.augment import random_affine, random_shift, sample_bilinear
from spikewise.data.datasets.digits import digits
from spikewise.data.sampler import rng_from


def test_the_digits_are_whole():
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.images.shape == (1438, 1, 8, 8)
    everything = np.concatenate([train.images, test.images])
    assert (everything.min(), everything.max()) == (0, 16)
    assert int(everything.astype(np.int64).sum()) == 561718  # of the published file
    sample = test.sample(0)
    assert sample.dtype == np.float32
    assert 0 <= sample.min() <= sample.max() <= 1


def test_the_split_is_stratified_and_has_no_image_twice():
    train, test = digits("train"), digits("test")
    for label in range(10):
        share = (test.labels == label).sum() / ((test.labels == label).sum() + (train.labels == label).sum())
        assert 0.19 < share < 0.21
    images = {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert not images


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
