import numpy as np
import pytest
from checks import refuse
from hypothesis import given
from hypothesis import strategies as st

from spikewise.data.sampler import EpochSampler, rng_from


@given(st.integers(1, 300), st.data(), st.integers(0, 2**40), st.integers(0, 5))
def test_order_visits_each_sample_once_per_epoch(size, data, seed, epoch):
    batch = data.draw(st.integers(1, size))
    order = EpochSampler(size, batch, seed)
    first = epoch * order.steps_per_epoch
    visited = np.concatenate([order.batch_indices(step) for step in range(first, first + order.steps_per_epoch)])
    assert sorted(visited) == list(range(size))


def test_order_is_a_function_of_seed_and_step():
    once, again = EpochSampler(100, 16, seed=7), EpochSampler(100, 16, seed=7)
    steps = [9, 2, 33, 2]
    forwards = [again.batch_indices(step) for step in range(40)]
    assert all(np.array_equal(once.batch_indices(step), forwards[step]) for step in steps)
    assert not np.array_equal(EpochSampler(100, 16, seed=8).batch_indices(2), forwards[2])


def test_seed_and_epoch_are_hashed_not_added():
    assert not np.array_equal(EpochSampler(100, 100, seed=0).batch_indices(1), EpochSampler(100, 100, seed=1).batch_indices(0))
    assert rng_from(1, 23).integers(2**60) != rng_from(12, 3).integers(2**60)


def test_the_numbers_of_a_generator_never_change():
    """A run of an older version must go on with the same samples."""
    assert rng_from(0, 1, "order").permutation(8).tolist() == [4, 7, 6, 1, 0, 3, 2, 5]


@pytest.mark.parametrize("batch", [0, 101])
def test_a_batch_that_does_not_fit_is_refused(batch):
    refuse("use a batch between 1 and 100", EpochSampler, 100, batch, seed=0)
