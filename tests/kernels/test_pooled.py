"""Neurons with the max pooling behind them, against the two one after the other."""

import pytest
import torch
from given import WINDOWS, dyadic, given_norm, laid

from spikewise import build_model
from spikewise.kernels import BACKENDS, NeuronParams, NormParams
from spikewise.kernels.cpu import norm_fire as cpu_norm_fire
from spikewise.kernels.layout import supports_fused_pool
from spikewise.models.layers import MaxPool

cpu, reference = BACKENDS["cpu"], BACKENDS["reference"]
reason = cpu.unavailable_reason(None)
pytestmark = pytest.mark.skipif(bool(reason), reason=f"no CPU kernels here: {reason}")

SHAPES = [(2, 64, 16, 16), (1, 5, 7, 9), (2, 17, 8, 5), (3, 16, 3, 3), (1, 100, 4, 11)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
windows = pytest.mark.parametrize("window", WINDOWS, ids=str)


def case(shape, *, dtype=torch.float32, steps=4):
    torch.manual_seed(sum(shape) + steps)
    y = laid(torch.randn(shape).to(dtype), "last").requires_grad_()
    weight, bias = torch.rand(shape[1]).add(0.5).requires_grad_(), torch.randn(shape[1]).requires_grad_()
    return y, weight, bias


def fire(y, weight, bias, steps=4, **options):
    options = {"return_membrane": False} | options
    return cpu.norm_fire(y, NormParams(weight, bias), NeuronParams(1.0, 1.0, 0.0), repeat_steps=steps, **options)


def pooled(spikes, window):
    return cpu.max_pool(spikes.flatten(0, 1), *window).unflatten(0, spikes.shape[:2])


@shapes
@windows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [1, 4, 19])
def test_equal_to_the_two_one_after_the_other(shape, window, dtype, steps):
    tensors = case(shape, dtype=dtype, steps=steps)
    assert supports_fused_pool(tensors[0], window)
    together, _, *statistics = fire(*tensors, steps, pool=window)
    spikes, _, *same = fire(*tensors, steps)
    apart = pooled(spikes, window)
    assert torch.equal(together, apart)
    assert all(map(torch.equal, statistics, same))
    upstream = torch.randn_like(apart)
    ours, theirs = (torch.autograd.grad(out, tensors, upstream) for out in (together, apart))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        assert (mine.float() - other.float()).norm() <= tolerance * other.float().norm()


@shapes
@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_equal_to_the_reference(shape, v_reset, detach_reset):
    w = torch.tensor(0.25, requires_grad=True)  # of a PLIF neuron, so to say
    y = laid(dyadic(*shape), "last").requires_grad_()
    scale = (torch.randint(1, 5, (shape[1],)) / 4).requires_grad_()
    shift = (torch.randint(-4, 5, (shape[1],)) / 4).requires_grad_()
    results = []
    for backend in (cpu, reference):
        neuron = NeuronParams(1 - w, w, 0.0, v_reset=v_reset, detach_reset=detach_reset)
        out, v, _, _ = backend.norm_fire(
            y, given_norm(scale, shift), neuron, repeat_steps=4, return_membrane=False, pool=(3, 2, 1)
        )
        assert v is None
        weights = torch.arange(out.numel(), dtype=torch.float32).reshape(out.shape).remainder(7)
        results.append((out, torch.autograd.grad((out * weights).sum(), (y, scale, shift, w))))
    (ours, gradients), (theirs, expected) = results
    assert torch.equal(ours, theirs)
    for mine, other in zip(gradients, expected, strict=True):
        assert (mine - other).norm() <= 1e-5 * other.norm().clamp(min=1e-3)


def test_what_does_not_fit_takes_the_longer_way():
    y, *norm = case((2, 8, 6, 6))
    window = (3, 2, 1)
    for other in (y.detach().contiguous(), y.detach()[:, :, :2, :2].contiguous(memory_format=torch.channels_last)):
        assert not supports_fused_pool(other, window)
        assert torch.equal(fire(other, *norm, pool=window)[0], pooled(fire(other, *norm)[0], window))
    out, v, *_ = fire(y, *norm, return_membrane=True, pool=window)
    assert v is not None
    assert torch.equal(out, fire(y, *norm, pool=window)[0])


def test_the_same_for_any_number_of_threads():
    tensors, results, threads = case((3, 32, 12, 12)), [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            out = fire(*tensors, pool=(3, 2, 1))[0]
            results.append((out, *torch.autograd.grad(out.sum(), tensors)))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


def test_networks_take_it_and_compute_the_same(monkeypatch):
    calls, real = [], cpu_norm_fire.pool_args
    monkeypatch.setattr(cpu_norm_fire, "pool_args", lambda *args: (calls.append(1), real(*args))[1])
    torch.manual_seed(0)
    net = build_model("sew_resnet18", num_classes=5, T=3).to(memory_format=torch.channels_last)
    x = torch.rand(2, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    fused = net(x)
    assert len(calls) == 1
    seen = []
    assert isinstance(net.pool, MaxPool)
    for module in (net.stem.spikes, net.pool):
        hook = module.register_forward_hook(lambda _module, _args, out: seen.append(out))
        assert torch.equal(fused, net(x))
        hook.remove()
    assert len(calls) == 1
    assert [tuple(out.shape) for out in seen] == [(3, 2, 64, 24, 24), (6, 64, 12, 12)]
