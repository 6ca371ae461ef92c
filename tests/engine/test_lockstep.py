"""Norms over the whole batch: shards that meet at every norm compute what one batch would, however they are distributed."""

import dataclasses
import threading

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, begin, with_optim
from torch import nn

import spikewise as sw
from spikewise.engine.distributed import ALONE, World
from spikewise.engine.errors import NonFiniteError
from spikewise.engine.loader import ShardBatches
from spikewise.engine.lockstep import Lockstep, require_usual_norms
from spikewise.engine.loop import resume, train
from spikewise.engine.memory.plan import plan
from spikewise.engine.shards import shard_sizes
from spikewise.kernels import BACKENDS

SAMPLES, SHARDS = 8, 3  # shards of 3, 3, 2
NETWORKS = {
    "ADD": ("sew_resnet20", {"connect": "ADD", "T": 2}),
    "IAND": ("sew_resnet20", {"connect": "IAND", "zero_init": True, "T": 2}),
    "PLIF": ("sew_7b", {"neuron": "PLIF", "num_blocks": 2}),
    "Spiking": ("spiking_resnet20", {"neuron": "LIF", "v_reset": None, "T": 2}),
    "ReLU": ("resnet20", {}),
    "currents": ("ms_resnet20", {"T": 2}),
    "bottleneck": ("sew_resnet50", {"stem": "3x3", "width": 0.125, "T": 2}),
}


def build(kind, backend="reference", dtype=torch.float64):
    name, options = NETWORKS[kind]
    more = {"in_channels": 2 if "7b" in name else 1} | ({} if kind == "ReLU" else {"backend": backend})
    torch.manual_seed(0)
    net = sw.build_model(name, num_classes=4, **more, **options).to(dtype, memory_format=torch.channels_last)
    for p in net.parameters():
        if p.dim() == 1:
            p.data += 0.1 * torch.randn_like(p)  # zero init: let gradients pass
    shape = (2, SAMPLES, 2, 16, 16) if "7b" in name else (SAMPLES, 1, 16, 16)
    return net.train(), 3 * torch.rand(shape, dtype=dtype), torch.arange(SAMPLES) % 4


def cut(x, labels, shards=SHARDS):
    sizes = shard_sizes(SAMPLES, shards)
    return list(zip(x.split(sizes, x.dim() - 4), labels.split(sizes), strict=True))


def forward(net, shard):
    return F.cross_entropy(net(shard[0]), shard[1], reduction="sum") / SAMPLES


def run_shards(net, batches, shards=SHARDS, world=ALONE):
    """The gradients of each shard of this process, and the sum of the losses."""
    lockstep = Lockstep(net, shards, world)
    losses = lockstep.forward(batches, forward)
    torch.autograd.backward(losses)
    return [lockstep.gradients(number) for number in range(len(batches))], sum(losses).detach()


def assert_close(found, right, tolerance):
    for (name, x), y in zip(found.items(), right, strict=True):
        assert (x - y).abs().max() <= tolerance * y.abs().max() + tolerance, name


@pytest.mark.parametrize("kind", NETWORKS)
def test_shards_compute_what_the_whole_batch_would(kind):
    """In float64 to 1e-10 of the largest value: the loss, the gradient of every weight, the running statistics."""
    net, x, labels = build(kind)
    whole, _, _ = build(kind)
    loss = forward(whole, (x, labels))
    loss.backward()
    gradients, summed = run_shards(net, cut(x, labels))
    torch.testing.assert_close(summed, loss.detach(), rtol=0, atol=1e-12)
    names = [name for name, _ in net.named_parameters()]
    assert_close(
        dict(zip(names, map(sum, zip(*gradients, strict=True)), strict=True)), [p.grad for p in whole.parameters()], 1e-10
    )
    assert_close(dict(net.named_buffers()), list(whole.buffers()), 1e-10)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.skipif(bool(BACKENDS["cpu"].unavailable_reason(None)), reason="no C compiler")
@pytest.mark.parametrize("kind", ["ADD", "IAND", "Spiking"])
def test_fused_kernels_agree_with_the_reference(kind):
    """The same weights and samples in float32; few spikes may differ, so that gradients are compared in the norm."""
    _, x, labels = build(kind, dtype=torch.float32)
    both = []
    for backend in ("cpu", "reference"):
        net, _, _ = build(kind, backend, torch.float32)
        gradients, loss = run_shards(net, cut(x, labels))
        both.append(([sum(of).double() for of in zip(*gradients, strict=True)], loss, list(net.buffers())))
    torch.testing.assert_close(both[0][1], both[1][1], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(both[0][0], both[1][0], strict=True):
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm() + 1e-6
    for ours, theirs in zip(both[0][2], both[1][2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Threads(World):
    """Processes as threads: each joins its rows with those of the others."""

    def share(self, tables, barrier):
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "barrier", barrier)
        return self

    def join(self, x):
        self.tables[self.rank] = x.view(torch.int64)
        self.barrier.wait()
        total = sum(self.tables).view(torch.float64)
        self.barrier.wait()
        return total


def run_distributed(kind, size, shards=4, batches=None):
    """Gradients by shard, and the buffers of each process."""
    tables, barrier, gradients, buffers = [None] * size, threading.Barrier(size, timeout=60), {}, {}
    built = [build(kind, "auto", torch.float32) for _ in range(size)]  # here: random numbers are one for all threads

    def process(rank):
        net, x, labels = built[rank]
        mine = (batches or cut(x, labels, shards))[rank::size]
        world = Threads(rank, size).share(tables, barrier)
        found = run_shards(net, mine, shards, world)[0] if mine else Lockstep(net, shards, world).accompany(x)
        gradients.update(zip(range(rank, shards, size), found or [], strict=False))
        buffers[rank] = list(net.buffers())

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [gradients[number] for number in sorted(gradients)], buffers


@pytest.mark.parametrize("kind", ["ADD", "PLIF", "ReLU"])
def test_every_shard_is_the_same_to_the_bit_for_any_number_of_processes(kind):
    alone, buffers = run_distributed(kind, 1)
    for size in (2, 3, 4):
        others, theirs = run_distributed(kind, size)
        for ours, other in zip(alone, others, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, other, strict=True))
        for rank in range(size):
            assert all(map(torch.equal, buffers[0], theirs[rank]))


def test_a_process_without_a_shard_accompanies_the_others():
    """The last batch of an epoch may have fewer shards than there are processes."""
    _, x, labels = build("ADD", "auto", torch.float32)
    few = cut(x, labels, shards=2)
    (alone, _), (others, _) = (run_distributed("ADD", size, batches=few) for size in (1, 4))
    assert len(alone) == len(others) == 2
    for ours, other in zip(alone, others, strict=True):
        assert all(map(torch.equal, ours, other))


@pytest.mark.parametrize("checkpointing", ["block", "stage"])
@pytest.mark.parametrize("kind", ["ADD", "Spiking", "ReLU"])
def test_activations_may_be_computed_again(kind, checkpointing):
    results = []
    for word in ("none", checkpointing):
        net, x, labels = build(kind, "auto", torch.float32)
        net.checkpointing = word
        results.append((run_shards(net, cut(x, labels))[0], list(net.buffers())))
    for ours, theirs in zip(results[0][0], results[1][0], strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert all(map(torch.equal, results[0][1], results[1][1]))


def test_memory_is_freed_after_backward():
    import gc
    import weakref

    net, x, labels = build("ADD", "auto", torch.float32)
    lockstep = Lockstep(net, SHARDS)
    seen = []
    lockstep.first.layer1[0].register_forward_hook(lambda _m, _a, out: seen.append(weakref.ref(out)))
    gc.disable()
    try:
        torch.autograd.backward(lockstep.forward(cut(x, labels), forward))
        assert seen[0]() is None
    finally:
        gc.enable()


def test_a_shard_that_fails_ends_the_others():
    net, x, labels = build("ADD")
    batches = cut(x, labels)
    batches[1] = (batches[1][0][:, :, :, :0], batches[1][1])
    before = {*threading.enumerate()}
    with pytest.raises(ValueError, match="given"):
        Lockstep(net, SHARDS).forward(batches, forward)
    for thread in {*threading.enumerate()} - before:
        thread.join(5)
        assert not thread.is_alive()


def test_threads_of_shards_compute_with_as_many_cores():
    net, x, labels = build("ADD")
    seen = []
    Lockstep(net, SHARDS).forward(cut(x, labels), lambda net, shard: seen.append(torch.get_num_threads()) or net(shard[0]))
    assert seen == [torch.get_num_threads()] * SHARDS


class OwnNorm(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize(
    ("norm", "fits"),
    [
        (nn.GroupNorm(1, 16), True),
        (nn.InstanceNorm2d(16), True),
        (nn.Identity(), True),
        (nn.BatchNorm2d(16), True),
        (nn.SyncBatchNorm(16), False),
        (OwnNorm(16), False),
        (nn.BatchNorm2d(16, track_running_stats=False), False),
        (nn.BatchNorm2d(16, momentum=None), False),
    ],
)
def test_a_norm_of_the_users_is_called_as_it_is_or_refused(norm, fits):
    net, x, labels = build("ADD")
    net.layer1[0].conv1.norm = norm.double().train()
    if not fits:
        with pytest.raises(ValueError, match=rf"layer1.0.conv1.norm, a {type(norm).__name__}, would take .* over a shard"):
            require_usual_norms(net)
        return
    require_usual_norms(net)
    whole, _, _ = build("ADD")
    whole.layer1[0].conv1.norm = norm
    gradients, _ = run_shards(net, cut(x, labels))
    for p in norm.parameters():
        p.grad = None
    forward(whole, (x, labels)).backward()
    for found, right in zip(map(sum, zip(*gradients, strict=True)), whole.parameters(), strict=True):
        assert (found - right.grad).abs().max() <= 1e-10 * (1 + right.grad.abs().max())


def test_a_norm_that_is_called_twice_is_refused():
    net, x, labels = build("ADD")
    net.layer1[1] = net.layer1[0]
    with pytest.raises(ValueError, match="a norm is called twice"):
        run_shards(net, cut(x, labels))


BATCH = with_optim(batch=24, shards=4, norm_over="batch", momentum=0.0)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_step_is_that_of_one_shard(class_weights):
    together, batches = begin(with_optim(BATCH, class_weights=class_weights))
    whole, _ = begin(with_optim(BATCH, class_weights=class_weights, shards=1, norm_over="shard"))
    loss = together.step_shards(ShardBatches(batches)[0])
    assert loss == pytest.approx(float(whole.step(*batches[0])), rel=0.02 if class_weights == "balanced" else 1e-5)
    for ours, theirs in zip(together.net.state_dict().values(), whole.net.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_last_small_batch_and_a_probe():
    state, batches = begin(dataclasses.replace(BATCH, retention=dataclasses.replace(TINY.retention, probe_every_steps=1)))
    samples, labels = batches[0]
    for count in (5, 2):
        state.step_shards([(x, y) for x, y in zip(samples[:count].split(3), labels[:count].split(3), strict=True)])
        assert all(block["gradient"] > 0 for block in state.probe_record["blocks"].values())
    assert all(layer.norm_group is None for layer in state.net.conv_layers.values())


def test_what_is_not_finite_in_a_shard_is_told_and_changes_nothing():
    state, batches = begin(BATCH)
    shards = ShardBatches(batches)[0]
    shards[2][0][0, 0, 0, 0] = float("nan")
    before = {name: x.clone() for name, x in state.net.state_dict().items()}
    with pytest.raises(NonFiniteError, match="samples themselves are not finite"):
        state.step_shards(shards)
    assert all(map(torch.equal, before.values(), state.net.state_dict().values()))


def test_a_run_is_resumed_to_the_bit(tmp_path):
    config = with_optim(BATCH, batch=360, momentum=0.9)
    train(config, tmp_path / "whole", device="cpu", quiet=True)
    train(config, tmp_path / "cut", device="cpu", quiet=True, stop_epoch=1)
    resume(tmp_path / "cut", device="cpu", quiet=True, workers=1)
    for name in ("model.safetensors", "training.safetensors"):
        whole, cut_ = ((tmp_path / run / "checkpoints" / "last" / name).read_bytes() for run in ("whole", "cut"))
        assert whole == cut_


def test_memory_is_planned_for_the_whole_batch():
    def kept(**optim):
        return plan(with_optim(batch=64, **optim), device="cpu", measure=0).bytes.activations

    assert kept(shards=4, norm_over="batch") == kept()
