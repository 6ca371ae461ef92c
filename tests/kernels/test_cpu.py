"""The fused CPU kernels against the reference."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from given import (
    LAYOUTS,
    WINDOWS,
    assert_close_gradients,
    assert_pools_as_torch,
    assert_statistics_within_2_ulp,
    dyadic,
    given_norm,
    laid,
    leaves,
    relative,
)

from spikewise import build_model
from spikewise.kernels import BACKENDS, CONNECT, SURROGATES, NeuronParams, NormParams
from spikewise.kernels.reference import scale_and_shift

cpu, reference = BACKENDS["cpu"], BACKENDS["reference"]

pytestmark = pytest.mark.skipif(
    bool(cpu.unavailable_reason(None)), reason=f"no CPU kernels here: {cpu.unavailable_reason(None)}"
)

NEURONS = {"IF": (1.0, 1.0, 0.0), "LIF": (0.5, 0.5, -0.125), "no_decay": (0.75, 1.0, 0.25)}
IF = NeuronParams(1.0, 1.0, 0.0)
RESETS = {"hard": 0.0, "below": -0.25, "soft": None}
SHAPES = [
    *[(4, 2, 16, 5, 3), (1, 1, 1, 1, 1), (3, 2, 7, 3, 5), (17, 1, 24, 2, 3), (2, 1, 100, 1, 1), (35, 3, 3, 9, 7)],
    *[(16, 1, 40, 3, 7), (8, 1, 3, 17, 17)],  # the published neuron's own path, for many steps
]
PRECISIONS = [(cpu, torch.float32), (reference, torch.float32), (reference, torch.float64)]
everything = pytest.mark.parametrize("shape", SHAPES, ids=str)
neurons = pytest.mark.parametrize("neuron", NEURONS)
resets = pytest.mark.parametrize("reset", RESETS)
layouts = pytest.mark.parametrize("layout", LAYOUTS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def assert_same(compute):
    """To the bit, whatever the kernels return."""
    got, expected = map(compute, (cpu, reference))
    assert all(map(torch.equal, got, expected))
    return got


def assert_close(got, rounded, exact):
    """Spikes first, then gradients."""
    if torch.equal(got[0].double(), exact[0].double()):  # else a spike lay at the threshold, and its gradients are others
        assert_close_gradients(got[1:], rounded[1:], exact[1:])


@everything
@neurons
@resets
@dtypes
def test_fire_is_the_reference_to_the_bit_on_dyadic_numbers(shape, neuron, reset, dtype):
    x, v, params = dyadic(*shape).to(dtype), dyadic(*shape[1:]), NeuronParams(*NEURONS[neuron], v_reset=RESETS[reset])
    for start, (current, repeat) in itertools.product((None, v), ((x, 0), (x[0], 21))):
        assert_same(lambda k, x=current, v=start, n=repeat: k.fire(x, params, v=v, repeat_steps=n))


@pytest.mark.parametrize("shape", [(5, 3), (4, 63), (2, 3, 4, 5)], ids=str)
def test_fire_takes_any_shape_and_layout(shape):
    x = dyadic(*shape).transpose(1, -1)
    assert_same(lambda kernels: kernels.fire(x, IF))


@pytest.mark.parametrize("connect", [None, *CONNECT])
@everything
@layouts
@dtypes
def test_norm_fire_is_the_reference_to_the_bit_given_scale_and_shift(connect, shape, layout, dtype):
    y, shortcut, current = (laid(torch.randn(shape), layout).to(dtype) for _ in range(3))
    scale, shift = torch.rand(shape[2]) + 0.5, torch.randn(shape[2])
    options = {"shortcut": shortcut, "connect": CONNECT[connect]} if connect else {}
    for more, neuron in itertools.product(({}, {"current": current}, {"v": torch.randn(shape[1:])}), NEURONS.values()):
        given = y, given_norm(scale, shift), NeuronParams(*neuron, v_reset=-0.25)
        got = assert_same(lambda kernels, given=given, more=more: kernels.norm_fire(*given, **options, **more))
        assert got[0].stride() == y.stride() or min(shape) == 1


@pytest.mark.parametrize("detach_reset", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("surrogate", SURROGATES)
@resets
@everything
def test_gradients_of_fire_are_the_references(surrogate, reset, detach_reset, shape):
    x, v = torch.randn(shape) * 1.5, torch.randn(shape[1:]) * 0.3
    abc = torch.tensor([0.6, 0.9, 0.05])
    for repeat in (0, 3):
        found = []
        upstream, at_end = torch.randn(repeat or shape[0], *shape[1:]), torch.randn(shape[1:])
        for kernels, dtype in PRECISIONS:
            current, start, coefficients = tensors = leaves(dtype, x[0] if repeat else x, v, abc)
            dynamics = NeuronParams(*coefficients.split(1), 1.0, RESETS[reset], surrogate, 1.7, detach_reset)
            outputs = kernels.fire(current, dynamics, v=start, repeat_steps=repeat)
            gradients = torch.autograd.grad(outputs, tensors, [upstream.to(dtype), at_end.to(dtype)])
            found.append([outputs[0].detach(), *gradients])
        assert torch.equal(found[0][0], found[1][0])
        assert_close(*found)


@pytest.mark.parametrize("connect", [None, *CONNECT, "own"])
@pytest.mark.parametrize("extra", ["nothing", "current", "repeat", "v"])
@pytest.mark.parametrize("training", [True, False], ids=["batch", "running"])
@everything
@layouts
def test_gradients_of_norm_fire_are_the_references(connect, extra, training, shape, layout):
    """Weight, bias, y, shortcut, current, first membrane: through the batch's statistics, and through given ones."""
    if training and shape[0] * shape[1] * shape[3] * shape[4] < 2:
        pytest.skip("batch norm needs two values")
    y, shortcut, current = (laid(torch.randn(shape), layout) for _ in range(3))
    repeat = shape[0] if extra == "repeat" else 0
    y = laid(y[0], layout) if repeat else y
    # through the statistics of a few values, gradients are small differences of large numbers: compared in float64
    weight, bias, upstream = torch.rand(shape[2]) + 0.5, torch.randn(shape[2]) * 0.5 + 0.5, laid(torch.randn(shape), layout)
    g = (lambda a, s: a * 0.5 + s) if connect == "own" else CONNECT.get(connect or "")
    beside = {"shortcut": shortcut} if g else {}
    beside |= {"current": {"current": current}, "v": {"v": torch.zeros(shape[1:])}}.get(extra, {})
    found = []
    for kernels, dtype in PRECISIONS:
        x, *norm = tensors = leaves(dtype, y, weight, bias, *beside.values())
        options = dict(zip(beside, tensors[3:], strict=True)) | {"connect": g, "repeat_steps": repeat}
        params = NormParams(*norm[:2]) if training else given_norm(*norm[:2])
        out, _, mean, variance = kernels.norm_fire(x, params, NeuronParams(0.75, 1.0, 0.0), **options)
        if training:
            params = NormParams(*norm[:2], 1e-5, mean, variance)
            assert torch.equal(out, kernels.norm_fire(x, params, NeuronParams(0.75, 1.0, 0.0), **options)[0])
        found.append([out.detach(), *torch.autograd.grad(out, tensors, upstream.to(dtype))])
    if not training:
        assert torch.equal(found[0][0], found[1][0])
    assert_close(*found)


@layouts
@dtypes
@pytest.mark.parametrize("shape", [*SHAPES[:1], *SHAPES[2:], (4, 8, 64, 28, 28), (2, 3, 5, 31, 33)], ids=str)
def test_statistics_are_those_of_float64_within_2_ulp(shape, layout, dtype):
    assert_statistics_within_2_ulp(cpu.norm_stats, shape, lambda y: laid(y, layout).to(dtype))


def test_flipped_spikes_lie_within_4_ulp_of_the_threshold():
    y, weight, bias = laid(torch.randn(4, 8, 64, 28, 28), "last"), torch.rand(64) + 0.5, torch.randn(64)
    got, *_, mean, variance = cpu.norm_fire(y, NormParams(weight, bias), IF)
    expected, *_ = reference.norm_fire(y, NormParams(weight, bias), IF)
    first = (got != expected).int().cumsum(0).eq(1) & (got != expected)  # later flips of a neuron follow from its first
    scale, shift, _ = scale_and_shift(NormParams(weight, bias, 1e-5, mean, variance))
    x = y * scale[:, None, None] + shift[:, None, None]
    v, h = torch.zeros_like(x[0]), []
    for x_t, s_t in zip(x, got, strict=True):
        h.append(v + x_t)
        v = (1 - s_t) * h[-1]
    # the sum h carries the rounding of its largest term
    size = torch.stack(h).abs().clamp(min=1) + (y * scale[:, None, None]).abs() + shift.abs()[:, None, None]
    distance = (torch.stack(h) - 1).abs() / (torch.finfo(torch.float32).eps * size)
    assert first.float().mean() < 1e-5
    assert (distance[first] <= 4).all()


@dtypes
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", [(2, 16, 9, 7), (1, 3, 8, 8), (2, 35, 5, 6)], ids=str)
def test_max_pool_is_torchs(shape, window, dtype):
    def pool(x):
        out = cpu.max_pool(x, *window)
        return out, lambda upstream: torch.autograd.grad(out, x, upstream)[0]

    assert_pools_as_torch(pool, shape, window, dtype)


def test_twenty_steps_of_learning_are_those_of_the_reference():
    """Each from the same weights: two runs part where a last digit flips a first spike (benchmarks/same_learning.py)."""
    torch.manual_seed(0)
    ours, reference_net = (
        build_model("sew_resnet20", num_classes=10, in_channels=1, T=4, backend=name) for name in ("cpu", "reference")
    )
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9) for net in (ours, reference_net)]
    for _ in range(20):
        ours.load_state_dict(reference_net.state_dict())
        images, labels = torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,))
        losses = []
        for net, optimizer in zip((ours, reference_net), optimizers, strict=True):
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert abs(losses[0] - losses[1]) < 1e-5
        for weight, expected in zip(ours.parameters(), reference_net.parameters(), strict=True):
            assert float((weight - expected).detach().norm()) < 1e-4 * float(expected.detach().norm())


@pytest.mark.parametrize("connect", CONNECT)
@pytest.mark.parametrize("T", [1, 4, 9, 16, 20])
@pytest.mark.parametrize("training", [True, False], ids=["batch", "running"])
@layouts
def test_gradients_in_bfloat16_are_as_good_as_the_references(connect, T, training, layout):
    """Against float64 on the same bfloat16 numbers: rounding to 8 bits is all that may differ."""
    shape, upstream = (T, 4, 40, 9, 8), torch.randn(T, 4, 40, 9, 8).bfloat16()
    y, s = laid(torch.randn(shape), layout).bfloat16(), laid((torch.rand(shape) < 0.5).float(), layout).bfloat16()
    weight, bias, leak = torch.rand(40) + 0.5, torch.randn(40) * 0.5 + 0.5, torch.tensor([0.5])
    found = []
    for kernels, dtype in ((cpu, torch.bfloat16), (reference, torch.bfloat16), (reference, torch.float64)):
        wide = torch.promote_types(dtype, torch.float32)
        (x, shortcut), (*norm, k) = leaves(dtype, y, s), leaves(wide, weight, bias, leak)
        params = NormParams(*norm) if training else given_norm(*norm)
        options = {"shortcut": shortcut, "connect": CONNECT[connect]}
        out = kernels.norm_fire(x, params, NeuronParams(1 - k, k, k * 0), **options)[0]
        found.append([out.detach().double(), *torch.autograd.grad(out, [x, *norm, shortcut, k], upstream.to(dtype))])
    got, rounded, exact = found
    assert (got[0] != exact[0]).double().mean() < 1e-3
    errors = [(relative(a, c), relative(b, c)) for a, b, c in zip(got[1:], rounded[1:], exact[1:], strict=True)]
    assert all(ours < max(2e-2, 2 * theirs) for ours, theirs in errors), errors


def test_a_shortcut_is_spread_over_what_it_lacks():
    y, norm = torch.randn(4, 2, 8, 5, 5), given_norm(torch.ones(8), torch.zeros(8))
    for shortcut in (torch.ones(4, 2, 8, 1, 1), torch.ones(8, 5, 5)):
        assert_same(lambda kernels, s=shortcut: kernels.norm_fire(y, norm, IF, shortcut=s, connect=CONNECT["ADD"]))


def test_currents_in_another_precision_are_added_in_the_wider_one():
    y, current, norm = torch.randn(4, 2, 8, 5, 5).bfloat16(), torch.randn(4, 2, 8, 5, 5), given_norm(*torch.rand(2, 8))
    assert_same(lambda kernels: kernels.norm_fire(y, norm, IF, current=current))


def test_the_time_constant_learns_from_slices_of_larger_tensors():
    big, upstream = torch.randn(4, 6, 16, 1, 2), torch.randn(4, 6, 16, 1, 1)
    found = []
    for kernels in (cpu, reference):
        abc = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
        norm = given_norm(torch.ones(16), torch.ones(16) / 2)
        out, *_ = kernels.norm_fire(big[..., ::2], norm, NeuronParams(*abc.split(1)))
        found.append(torch.autograd.grad(out, abc, upstream)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
