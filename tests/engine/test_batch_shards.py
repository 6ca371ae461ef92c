"""Shards of a batch: sums that know no order, and steps that are those of several devices."""

import copy
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY, begin

import spikewise as sw
from spikewise.config import Optim
from spikewise.engine.distributed import World
from spikewise.engine.errors import NonFiniteError
from spikewise.engine.loader import ShardBatches
from spikewise.engine.loop import resume, train
from spikewise.engine.shards import ExactSum, Float32Sum, shard_sizes


class Together(World):
    """Processes that take turns in one: what each of them would send is noted, then all get the result."""

    def __init__(self, sent):
        super().__init__(size=2)  # or it would keep what it has
        object.__setattr__(self, "sent", sent)

    def sum(self, x):
        self.sent.append(x.clone())
        return x.copy_(torch.stack(self.sent).sum(0))


EXACT = partial(ExactSum, shards=8)


def grouped_sum(shards, weights, groups, kind=EXACT):
    """The mean when processes hold these groups of shards, as one tensor."""
    like, sent = [torch.empty_like(next(s for s in shards if s is not None))], []
    sums = [kind(like, world=Together(sent)) for _ in groups]
    for one, group in zip(sums, groups, strict=True):
        for number in group:
            one.add([shards[number]], weights[number])
    most = torch.stack([one.largest() for one in sums]).amax(0)
    return [one.finish(most, sum(weights)) for one in sums][-1][0]  # the last one to send has the sum of all


GROUPS = [[[0, 1, 2, 3, 4, 5, 6, 7]], [[0, 2, 4, 6], [1, 3, 5, 7]], [[0, 3, 6], [1, 4, 7], [2, 5]], [[i] for i in range(8)]]


@given(st.integers(0, 2**31), st.integers(-140, 100), st.booleans())
def test_the_sum_is_the_same_for_any_grouping_and_right(seed, exponent, double):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    spread = torch.rand(8, 1, generator=generator).mul(40).sub(20).exp2()
    shards = (torch.randn(8, 50, generator=generator) * spread * 2.0**exponent).to(dtype)
    weights = shard_sizes(61, 8)
    found = [grouped_sum([*shards], weights, groups) for groups in GROUPS]
    assert all(torch.equal(found[0], other) for other in found[1:])
    exact = [sum(Fraction(float(g)) * w for g, w in zip(column, weights, strict=True)) / 61 for column in shards.T]
    largest = max(abs(Fraction(float(x))) for x in shards.flatten()) * max(weights) / 61
    resolution = Fraction(torch.finfo(dtype).eps) * largest + Fraction(torch.finfo(dtype).smallest_normal)
    for mine, right in zip(found[0].tolist(), exact, strict=True):
        assert abs(Fraction(mine) - right) <= Fraction(2) ** -52 * largest * 8 + resolution


def test_sums_in_float32_are_near_the_exact_ones():
    shards, weights = [*torch.randn(8, 50)], [3, 3, 3, 3, 3, 2, 2, 2]
    for groups in GROUPS:
        exact = grouped_sum(shards, weights, groups)
        torch.testing.assert_close(grouped_sum(shards, weights, groups, kind=Float32Sum), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_in_one_shard_makes_the_sum_nan(bad):
    shards = [torch.ones(4), torch.tensor([1.0, bad, 1.0, 1.0])]
    for groups in ([[0, 1]], [[0], [1]]):
        assert grouped_sum(shards, [1, 1], groups).isnan().all()


def test_what_has_no_gradient_in_some_shard_counts_as_zero():
    assert torch.equal(grouped_sum([torch.ones(3), None], [1, 1], [[0], [1]]), torch.full((3,), 0.5))


@pytest.mark.parametrize("scale", [1.0, 2.0**-149, 2.0**127])
def test_extremes_neither_overflow_nor_vanish(scale):
    shards = [torch.full((2,), scale), torch.full((2,), scale)]
    assert torch.equal(grouped_sum(shards, [1, 1], [[0], [1]]), torch.full((2,), scale))


@given(st.integers(0, 2**31), st.sampled_from([2.0**-14, 2.0**16, 2.0**24]))
def test_a_loss_scale_changes_no_bit_of_the_sum(seed, scale):
    """float16's scaler multiplies gradients before they are added, and divides the sum: by powers of two."""
    shards = torch.randn(8, 50, generator=torch.Generator().manual_seed(seed))
    weights = shard_sizes(61, 8)
    scaled = grouped_sum([*(shards * scale)], weights, GROUPS[2])
    assert torch.equal(scaled / scale, grouped_sum([*shards], weights, GROUPS[2]))


def test_gradients_of_spiking_152_span_more_than_64_bits_and_keep_their_digits():
    """The network of Fig. 7 and 8, zero initialisation and threshold 0.5, a quarter as wide, on images of 32 x 32."""
    torch.manual_seed(0)
    net = sw.build_model("spiking_resnet152", num_classes=10, T=2, zero_init=True, v_th=0.5, width=0.25).train()
    shards = []
    for _ in range(3):
        loss = F.cross_entropy(net(torch.rand(2, 3, 32, 32)), torch.arange(2))
        shards.append(torch.autograd.grad(loss, [*net.parameters()]))
    largest = []
    for terms in zip(*shards, strict=True):
        found, again = (grouped_sum([*terms], [2, 2, 2], groups) for groups in ([[0, 1, 2]], [[1], [2, 0]]))
        assert torch.equal(found, again)
        places = terms[0].abs().flatten().topk(min(20, found.numel())).indices
        right = torch.stack([term.double().flatten()[places] for term in terms]).sum(0) / 3
        torch.testing.assert_close(found.double().flatten()[places], right, rtol=2.0**-23, atol=2.0**-149)
        largest.append(float(found.abs().max()))
    assert max(largest) > 2**64 * min(filter(None, largest))


@pytest.mark.parametrize(
    ("samples", "shards", "sizes"),
    [(256, 8, [32] * 8), (143, 8, [18] * 7 + [17]), (5, 8, [3, 2]), (1, 8, [1]), (7, 1, [7]), (6, 3, [2, 2, 2])],
)
def test_batches_are_cut_as_evenly_as_it_goes(samples, shards, sizes):
    assert shard_sizes(samples, shards) == sizes


def state_of(shards, **optim):
    config = replace(TINY, optim=replace(TINY.optim, batch=24, shards=shards, **optim))
    return begin(config)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_step_of_shards_is_that_of_several_devices(class_weights):
    """Gradients are the weighted mean of each device's, running statistics the first one's (rank 0's under DDP)."""
    state, batches = state_of(4, momentum=0.0, class_weights=class_weights)
    shards = ShardBatches(batches)[0]
    before = copy.deepcopy(state.net)
    gradients, counts = [], []
    for number, (samples, labels) in enumerate(shards):
        device = copy.deepcopy(before).train()
        F.cross_entropy(device(samples), labels, state.class_weights).backward()
        counts.append(float(len(labels) if state.class_weights is None else state.class_weights[labels].sum()))
        gradients.append([p.grad.double() for p in device.parameters()])
        if number == 0:
            buffers = [buffer.clone() for buffer in device.buffers()]
    loss = state.step_shards(shards)
    for position, p in enumerate(state.net.parameters()):
        expected = sum(count / sum(counts) * gradient[position] for count, gradient in zip(counts, gradients, strict=True))
        torch.testing.assert_close(p.grad, expected.float(), rtol=1e-6, atol=1e-9)
    assert all(map(torch.equal, state.net.buffers(), buffers))
    whole = torch.cat([samples for samples, _ in shards])
    assert len(whole) == 24
    assert loss == pytest.approx(state.meter.loss / 24)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("norm_over", ["shard", "batch"])
def test_a_loss_scale_changes_no_bit_of_a_step(norm_over, precision):
    nets = []
    for scale in (None, 2.0**16):
        state, batches = state_of(3, norm_over=norm_over, precision=precision)
        state.scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for step in range(2):
            state.step_shards(ShardBatches(batches)[step])
        nets.append(state.net)
    assert all(map(torch.equal, *(net.state_dict().values() for net in nets)))


def test_one_shard_is_a_plain_step_to_the_bit():
    plain, batches = state_of(1)
    sharded, _ = state_of(1)
    plain.step(*batches[0])
    sharded.step_shards(ShardBatches(batches)[0])
    assert all(map(torch.equal, plain.net.state_dict().values(), sharded.net.state_dict().values()))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
def test_processes_share_the_shards_of_every_step(world_size):
    _, batches = state_of(4)
    alone = [labels for _, labels in ShardBatches(batches)[1]]
    for rank in range(world_size):
        mine = [labels for _, labels in ShardBatches(batches, rank, world_size)[1]]
        assert all(map(torch.equal, mine, alone[rank::world_size]))
        assert len(mine) == len(alone[rank::world_size])


def test_what_is_not_finite_in_a_shard_is_told_and_changes_nothing():
    state, batches = state_of(4)
    shards = ShardBatches(batches)[0]
    shards[2][0][0, 0, 0, 0] = float("nan")
    before = copy.deepcopy(state.net.state_dict())
    with pytest.raises(NonFiniteError, match="samples themselves are not finite"):
        state.step_shards(shards)
    assert all(map(torch.equal, before.values(), state.net.state_dict().values()))


def test_a_run_in_shards_is_resumed_to_the_bit(tmp_path):
    config = replace(TINY, optim=replace(TINY.optim, batch=24, shards=3, epochs=2))
    train(config, tmp_path / "whole", device="cpu", quiet=True)
    train(config, tmp_path / "cut", device="cpu", quiet=True, stop_epoch=1)
    resume(tmp_path / "cut", device="cpu", quiet=True, workers=1)
    for name in ("model.safetensors", "training.safetensors"):
        whole, cut = ((tmp_path / run / "checkpoints" / "last" / name).read_bytes() for run in ("whole", "cut"))
        assert whole == cut


def test_shards_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"optim.shards=5.*divisor of optim.batch=24"):
        Optim(batch=24, shards=5)
