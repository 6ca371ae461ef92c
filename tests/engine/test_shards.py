"""Shards of a batch: sums that know no order, and steps that are those of several devices."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikewise.engine.shards import GradientSum, shard_sizes


def grouped_sum(shards, weights, groups):
    """The sum when processes hold these groups of shards, as a list of numbers each."""
    sums = [GradientSum(len(shards)) for _ in groups]
    for one, group in zip(sums, groups, strict=True):
        for number in group:
            one.add([shards[number]], weights[number])
    like = [torch.empty_like(next(s for s in shards if s is not None))]
    largest, totals = [], []
    for one in sums:  # what all_reduce does
        one.reduce_max = lambda x: largest.append(x) or x
        one.finish(like)
    most = torch.stack(largest).amax(0)
    for one in sums:
        one.reduce_max, one.reduce_sum = (lambda _: most), (lambda x: totals.append(x) or x)
        one.finish(like)
    if not totals:
        return sums[0].finish(like)[0]
    sums[0].reduce_sum = lambda _: sum(totals)
    return sums[0].finish(like)[0]


GROUPS = [[[0, 1, 2, 3, 4, 5, 6, 7]], [[0, 2, 4, 6], [1, 3, 5, 7]], [[0, 3, 6], [1, 4, 7], [2, 5]], [[i] for i in range(8)]]


@given(st.integers(0, 2**31), st.integers(-140, 100), st.booleans())
def test_the_sum_is_the_same_for_any_grouping_and_right(seed, exponent, double):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    spread = torch.rand(8, 1, generator=generator).mul(40).sub(20).exp2()
    shards = (torch.randn(8, 50, generator=generator) * spread * 2.0**exponent).to(dtype)
    weights = [size / 61 for size in shard_sizes(61, 8)]
    found = [grouped_sum([*shards], weights, groups) for groups in GROUPS]
    assert all(torch.equal(found[0], other) for other in found[1:])
    exact = [sum(Fraction(float(g)) * Fraction(w) for g, w in zip(column, weights, strict=True)) for column in shards.T]
    largest = max(abs(Fraction(float(x))) for x in shards.flatten()) * Fraction(max(weights))
    resolution = Fraction(torch.finfo(dtype).eps) * largest + Fraction(torch.finfo(dtype).smallest_normal)
    for mine, right in zip(found[0].tolist(), exact, strict=True):
        assert abs(Fraction(mine) - right) <= Fraction(2) ** -52 * largest * 2 + resolution


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_in_one_shard_makes_the_sum_nan(bad):
    shards = [torch.ones(4), torch.tensor([1.0, bad, 1.0, 1.0])]
    for groups in ([[0, 1]], [[0], [1]]):
        assert grouped_sum(shards, [0.5, 0.5], groups).isnan().all()


def test_what_has_no_gradient_in_some_shard_counts_as_zero():
    assert torch.equal(grouped_sum([torch.ones(3), None], [0.5, 0.5], [[0], [1]]), torch.full((3,), 0.5))


@pytest.mark.parametrize("scale", [1.0, 2.0**-149, 2.0**127])
def test_extremes_neither_overflow_nor_vanish(scale):
    shards = [torch.full((2,), scale), torch.full((2,), scale)]
    assert torch.equal(grouped_sum(shards, [0.5, 0.5], [[0], [1]]), torch.full((2,), scale))


@pytest.mark.parametrize(
    ("samples", "shards", "sizes"),
    [(256, 8, [32] * 8), (143, 8, [18] * 7 + [17]), (5, 8, [3, 2]), (1, 8, [1]), (7, 1, [7]), (6, 3, [2, 2, 2])],
)
def test_batches_are_cut_as_evenly_as_it_goes(samples, shards, sizes):
    assert shard_sizes(samples, shards) == sizes
