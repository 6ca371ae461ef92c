"""Neurons with the max pooling behind them, against the two one after the other."""

import pytest
import torch

from spikewise import build_model
from spikewise.kernels import Dynamics, cpu, fused, pooled, reference
from spikewise.models.layers import MaxPool

pytestmark = pytest.mark.skipif(bool(cpu.reason_against()), reason=f"no CPU kernels here: {cpu.reason_against()}")

SHAPES = [(2, 64, 16, 16), (1, 5, 7, 9), (2, 17, 8, 5), (3, 16, 3, 3), (1, 100, 4, 11)]
WINDOWS = [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
windows = pytest.mark.parametrize("window", WINDOWS, ids=str)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Memory that the operator is to fill holds NaN (or 255) before."""
    real = pooled.empty
    monkeypatch.setattr(
        pooled,
        "empty",
        lambda shape, dtype, *rest, **more: real(shape, dtype, *rest, **more).fill_(
            torch.nan if dtype.is_floating_point else 255
        ),
    )


def case(shape, *, dtype=torch.float32, repeat=4, dynamics=None):
    torch.manual_seed(sum(shape) + repeat)
    y = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.rand(shape[1]).add(0.5).requires_grad_(), torch.randn(shape[1]).requires_grad_()
    return (y, weight, bias, 1e-5, dynamics or Dynamics(1.0, 1.0, 0.0)), {"repeat": repeat, "keep_v": False}


@shapes
@windows
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("repeat", [1, 4, 19])
def test_equal_to_the_two_one_after_the_other(shape, window, dtype, repeat):
    given, options = case(shape, dtype=dtype, repeat=repeat)
    assert pooled.fits(given[0], window, {**options, "shortcut": None, "current": None, "v": None})
    together, _, *statistics = cpu.batch_norm_fire(*given, **options, pool=window)
    spikes, _, *same = cpu.batch_norm_fire(*given, **options)
    apart = fused.finished(spikes, None, None, window)
    assert torch.equal(together, apart)
    assert all(map(torch.equal, statistics, same))
    upstream = torch.randn_like(apart)
    ours, theirs = (torch.autograd.grad(out, given[:3], upstream) for out in (together, apart))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        assert (mine.float() - other.float()).norm() <= tolerance * other.float().norm()


@shapes
@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_equal_to_the_reference(shape, v_reset, detach_reset):
    w = torch.tensor(0.25, requires_grad=True)  # of a PLIF neuron, so to say
    y = (torch.randint(-48, 64, shape) / 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    scale, shift = (
        (torch.randint(1, 5, (shape[1],)) / 4).requires_grad_(),
        (torch.randint(-4, 5, (shape[1],)) / 4).requires_grad_(),
    )
    found = []
    for backend in (cpu, reference):
        dynamics = Dynamics(1 - w, w, 0.0, v_reset=v_reset, detach_reset=detach_reset)
        out, v = backend.norm_fire(y, scale, shift, dynamics, repeat=4, keep_v=False, pool=(3, 2, 1))
        assert v is None
        weights = torch.arange(out.numel(), dtype=torch.float32).reshape(out.shape).remainder(7)
        found.append((out, torch.autograd.grad((out * weights).sum(), (y, scale, shift, w))))
    (ours, gradients), (theirs, expected) = found
    assert torch.equal(ours, theirs)
    for mine, other in zip(gradients, expected, strict=True):
        assert (mine - other).norm() <= 1e-5 * other.norm().clamp(min=1e-3)


def test_what_does_not_fit_takes_the_longer_way():
    given, options = case((2, 8, 6, 6))
    window = (3, 2, 1)
    for y in (given[0].detach().contiguous(), given[0].detach()[:, :, :2, :2].contiguous(memory_format=torch.channels_last)):
        assert not pooled.fits(y, window, {**options, "shortcut": None, "current": None, "v": None})
        together = cpu.batch_norm_fire(y, *given[1:], **options, pool=window)[0]
        assert torch.equal(together, fused.finished(cpu.batch_norm_fire(y, *given[1:], **options)[0], None, None, window))
    out, v, *_ = cpu.batch_norm_fire(*given, repeat=4, keep_v=True, pool=window)
    assert v is not None
    assert torch.equal(out, cpu.batch_norm_fire(*given, **options, pool=window)[0])


def test_the_same_for_any_number_of_threads():
    given, options = case((3, 32, 12, 12))
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            out = cpu.batch_norm_fire(*given, **options, pool=(3, 2, 1))[0]
            results.append((out, *torch.autograd.grad(out.sum(), given[:3])))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


def test_operators_keep_pytorchs_rules(monkeypatch):
    monkeypatch.undo()
    (y, weight, bias, eps, _), _ = case((1, 3, 5, 4), repeat=2)
    numbers = (-1, 2, 1.0, 0.0, "atan", 2.0, True)
    abc, window = torch.tensor([1.0, 1.0, 0.0], requires_grad=True), [3, 2, 1]
    torch.library.opcheck(torch.ops.spikewise.fire_pool.default, (y, weight, bias, abc, *numbers, window, 1))
    torch.library.opcheck(torch.ops.spikewise.batch_norm_fire_pool.default, (y, weight, bias, abc, *numbers, window, 1, eps))


def test_networks_take_it_and_compute_the_same(monkeypatch):
    taken = []
    real = pooled.pooled_call
    monkeypatch.setattr(pooled, "pooled_call", lambda *given: (taken.append(1), real(*given))[1])
    torch.manual_seed(0)
    net = build_model("sew_resnet18", num_classes=5, T=3).to(memory_format=torch.channels_last)
    x = torch.rand(2, 3, 48, 48).contiguous(memory_format=torch.channels_last)
    fused = net(x)
    assert len(taken) == 1
    seen = []
    net.stem.observe = seen.append
    assert isinstance(net.pool, MaxPool)
    observed = net(x)
    assert len(taken) == 1
    assert seen[0].shape == (3, 2, 64, 24, 24)
    assert torch.equal(fused, observed)
