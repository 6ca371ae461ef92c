"""Triton's kernels against the reference, under Triton's interpreter or on a GPU: test_triton.py runs this file."""

import itertools
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spikewise.kernels.cuda import launch as triton_launch
from spikewise.kernels.cuda import operators as triton_gpu
from spikewise.kernels.cuda import pooled as triton_pool_gpu

from spikewise.kernels import CONNECT, SURROGATES, Dynamics, reference

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

RESETS = {"hard": 0.0, "below": -0.25, "soft": None}
SHAPES = [(1, 1, 1, 1, 1), (4, 2, 16, 3, 2), (3, 1, 70, 3, 5), (16, 1, 5, 3, 3), (17, 1, 3, 1, 5), (33, 1, 16, 1, 1)]
WINDOWS = [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1)]
IMAGES = [(2, 16, 5, 7), (1, 3, 4, 3), (1, 35, 3, 6)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", triton_gpu.DTYPES, ids=str)


@pytest.fixture(autouse=True)
def _on_device():
    with torch.device(DEVICE):
        yield


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Memory that a kernel is to fill holds NaN or 255 before; few programs share out rows, so that each has several tiles."""
    plain, strided = torch.empty, torch.empty_strided

    def poisoned(make):
        def made(*args, **options):
            tensor = make(*args, **options)
            return tensor.fill_(torch.nan if tensor.is_floating_point() else 255)

        return made

    monkeypatch.setattr(torch, "empty", poisoned(plain))
    monkeypatch.setattr(torch, "empty_strided", poisoned(strided))
    monkeypatch.setattr(triton_launch, "PROGRAMS", 3)


def dyadic(*shape):
    return torch.randint(-48, 64, shape) / 16


def relative(got, expected):
    return float((got.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


def channels_last(*tensors):
    return all((t if t.dim() == 4 else t.flatten(0, 1)).is_contiguous(memory_format=torch.channels_last) for t in tensors)


def in_memory(x):
    """[T, N, C, H, W] or [N, C, H, W] -> [T, n], in the order of memory."""
    x = x if x.dim() == 5 else x[None]
    return x.permute(0, 1, 3, 4, 2).flatten(1)


def planes_of(x, planes):
    """As `pack`, in NumPy."""
    values = in_memory(x).int().cpu().numpy()
    parts = [np.packbits((values >> p & 1).astype(bool), axis=1, bitorder="little") for p in range(planes)]
    return torch.from_numpy(np.stack(parts, 1)).to(x.device)


@pytest.mark.parametrize("connect", [None, *CONNECT])
@shapes
@dtypes
def test_forward_is_the_reference_to_the_bit_on_dyadic_numbers(connect, shape, dtype):
    y, current = dyadic(*shape).to(dtype), dyadic(*shape).to(dtype)
    shortcut = torch.randint(0, 3, shape).to(dtype)
    scale, shift = torch.randint(1, 8, shape[2:3]) / 4, dyadic(shape[2])
    y.view(-1)[0] = torch.nan  # does not fire
    abc = {"none": (1.0, 1.0, 0.0), "ADD": (0.5, 0.5, -0.125)}.get(connect or "none", (0.75, 1.0, 0.25))
    cases = zip(
        RESETS.values(), (0, shape[0], 0), (None, None, current), (None, dyadic(*shape[1:]), None), (0, 2, 1), strict=True
    )
    for v_reset, repeat, more, v, planes in cases:
        dynamics = Dynamics(*abc, 0.75, v_reset)
        frames = y[0] if repeat else y
        g = CONNECT[connect] if connect else None
        expected, v_expected = reference.norm_fire(
            frames, scale, shift, dynamics, shortcut=shortcut if g else None, connect=g, current=more, v=v, repeat=repeat
        )
        number = list(CONNECT).index(connect) if connect else -1
        rules = (number, repeat, 0.75, v_reset, "atan", 2.0, True)
        given = (frames, scale, shift, torch.tensor(abc), shortcut if g else None, more, v)
        out, v_end, packed = triton_gpu.norm_fire(*given, *rules, True, planes)
        assert torch.equal(out, expected)
        assert torch.equal(v_end.nan_to_num(9), v_expected.nan_to_num(9))
        assert channels_last(out, v_end)
        assert torch.equal(packed, planes_of(out, planes)) if planes else packed.numel() == 0


@pytest.mark.parametrize("v_th", [1.0, 0.3])
def test_forward_rounds_as_the_reference_whatever_the_numbers_and_the_layout(v_th):
    y, scale, shift = torch.randn(5, 2, 24, 4, 3), torch.rand(24) + 0.5, torch.randn(24)
    layouts = (y, y.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 2)), y.mT.contiguous().mT)
    for layout, v_reset in itertools.product(layouts, (0.0, -0.3, None)):
        expected = reference.norm_fire(y, scale, shift, Dynamics(0.6, 0.9, 0.05, v_th, v_reset))
        given = (layout, scale, shift, torch.tensor([0.6, 0.9, 0.05]), None, None, None)
        got = triton_gpu.norm_fire(*given, -1, 0, v_th, v_reset, "atan", 2.0, True, True, 0)
        assert all(map(torch.equal, got, expected))


def gradients(shape, connect, surrogate, v_reset, detach_reset, *, repeat=False, current=False, v=False, dtype=torch.float32):
    """Forward and backward: by Triton's kernels, by the reference in float32, and in float64: spikes, then gradients."""
    steps, channels = (shape[0] if repeat else 0), shape[2]
    g = CONNECT[connect] if connect else None
    tensors = [
        (torch.randn(shape[1:] if repeat else shape) * 1.5).to(dtype),
        torch.rand(channels) + 0.5,
        torch.randn(channels) * 0.3,
        torch.tensor([0.6, 0.9, 0.05]),
        torch.randint(0, 3, shape).to(dtype) if g else None,
        torch.randn(shape).to(dtype) if current else None,
        torch.randn(shape[1:]) * 0.3 if v else None,
    ]
    upstream, at_end = torch.randn(shape).to(dtype), torch.randn(shape[1:]) if v else None
    number = list(CONNECT).index(connect) if connect else -1
    rules = (number, steps, 1.0, v_reset, surrogate, 1.7, detach_reset)
    spikes = triton_gpu.norm_fire(*tensors, *rules, True, 0)[0]
    wants = [number > 0, current, v, True]
    found = triton_gpu.norm_fire_backward(upstream, at_end, *tensors, *rules, torch.zeros(channels), True, wants)
    assert channels_last(found[0], *(tensor for tensor, want in zip(found[1:4], wants, strict=False) if want))
    assert all(tensor.numel() == 0 for tensor, want in zip(found[1:5], wants, strict=True) if not want)
    again = triton_gpu.norm_fire_backward(upstream, at_end, *tensors, *rules, torch.zeros(channels), True, wants)
    assert all(map(torch.equal, found, again)), "the same bits each time"
    grad_y, grad_shortcut, grad_current, grad_v, grad_abc, (grad_shift, grad_scale) = found
    ours = [grad_y, grad_scale, grad_shift, grad_abc, grad_shortcut, grad_current, grad_v]
    results = [[spikes.double(), *ours]]
    for precision in (torch.float32, torch.float64):
        leaves = [None if t is None else t.to(precision).requires_grad_() for t in tensors]
        dynamics = Dynamics(*leaves[3].split(1), 1.0, v_reset, surrogate, 1.7, detach_reset)
        options = {"shortcut": leaves[4], "connect": g, "current": leaves[5], "v": leaves[6], "repeat": steps}
        outputs = reference.norm_fire(*leaves[:3], dynamics, **options)
        wanted, given = [t for t in leaves if t is not None], [upstream.to(precision)]
        ends = [*outputs[:1]] if at_end is None else [*outputs]
        given += [] if at_end is None else [at_end.to(precision)]
        by_tensor = iter(torch.autograd.grad(ends, wanted, given))
        results.append([outputs[0].detach().double(), *(None if t is None else next(by_tensor) for t in leaves)])
    if number == 0:  # ADD: passed on as it came
        results[0][5] = upstream
    return results


def assert_close(results, tolerance=1e-5):
    """Each within the tolerance of the exact one's norm, or four times as far off as the reference in float32."""
    ours, rounded, exact = results
    assert torch.equal(ours[0], exact[0])
    for one, by_reference, true in zip(ours[1:], rounded[1:], exact[1:], strict=True):
        if true is not None:
            assert relative(one, true) <= max(tolerance, 4 * relative(by_reference, true))


@pytest.mark.parametrize("detach_reset", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_backward_of_every_surrogate_and_reset(surrogate, v_reset, detach_reset):
    assert_close(gradients((4, 1, 5, 3, 3), None, surrogate, v_reset, detach_reset, v=True))


@pytest.mark.parametrize("connect", [None, *CONNECT])
@pytest.mark.parametrize("extra", [{"repeat": True}, {"current": True, "v": True}], ids=["repeat", "current"])
@shapes
def test_backward_of_every_connection_and_shape(shape, connect, extra):
    if extra.get("repeat") and connect in ("AND", "ADD"):
        extra = {}  # a sequence with nothing more
    assert_close(gradients(shape, connect, "atan", -0.25, False, **extra))


@pytest.mark.parametrize("connect", ["ADD", "IAND"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_backward_in_half_precision(connect, dtype):
    y_and_more = gradients((4, 2, 16, 3, 2), connect, "atan", 0.0, True, dtype=dtype)
    assert_close(y_and_more, tolerance=4 * torch.finfo(dtype).eps)


@dtypes
@pytest.mark.parametrize("shape", [(4, 2, 16, 5, 3), (3, 2, 7, 3, 5), (2, 2, 70, 9, 7)], ids=str)
def test_statistics_are_those_of_float64_within_2_ulp(shape, dtype):
    for offset, spread in ((0.0, 1.0), (100.0, 1.0), (-3.0, 0.01)):
        y = (torch.randn(shape) * spread + offset).to(dtype)
        mean, variance = triton_gpu.norm_stats(y, 2)
        exact_variance, exact_mean = torch.var_mean(y.double(), (0, 1, 3, 4), correction=0)
        ulp = torch.finfo(torch.float32).eps
        assert ((mean - exact_mean).abs() <= 2 * ulp * exact_mean.abs().clamp(min=spread)).all()
        assert ((variance - exact_variance).abs() <= 2 * ulp * exact_variance.clamp(min=1e-30)).all()


def test_statistics_of_any_shape_and_of_nothing():
    y = torch.randn(6, 7, 9)
    mean, variance = triton_gpu.norm_stats(y, 1)
    assert relative(mean, y.double().mean((0, 2))) < 1e-6
    assert relative(variance, y.double().var((0, 2), correction=0)) < 1e-6
    assert all(stat.isnan().all() for stat in triton_gpu.norm_stats(torch.randn(0, 3, 2, 2), 1))


def test_statistics_add_to_the_gradient_in_place_whatever_its_layout():
    y, centre, coefficients = torch.randn(3, 2, 5, 4, 3), torch.randn(5), torch.randn(3, 5)
    of_channel = [t[:, None, None] for t in (centre, *coefficients)]
    for grad in (torch.randn(3, 2, 5, 4, 3), torch.randn(3, 2, 4, 3, 5).permute(0, 1, 4, 2, 3)):
        expected = of_channel[1] * grad + (of_channel[2] * (y - of_channel[0]) + of_channel[3])
        triton_gpu.through_statistics_(grad, y, centre, coefficients)
        assert torch.equal(grad, expected)


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("shape", [(3, 2, 5, 3, 7), (2, 1, 16, 5, 5), (1, 1, 1, 1, 1), (2, 7, 3, 5)], ids=str)
def test_packing_comes_back_and_lies_as_it_is_said_to(shape, planes):
    for dtype in triton_gpu.DTYPES:
        x = torch.randint(0, 2**planes, shape).to(dtype)
        packed = triton_pool_gpu.pack(x, planes)
        assert torch.equal(packed, planes_of(x, planes))
        back = triton_pool_gpu.unpack(packed, shape, planes, dtype)
        assert back.dtype == dtype
        assert torch.equal(back, x)
        assert channels_last(back)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@dtypes
def test_pooling_is_torchs(shape, window, dtype):
    for values in ((torch.rand(shape) < 0.3).to(dtype), torch.randn(shape).to(dtype)):
        values[0, 0, 0, 0] = torch.nan
        x = values.contiguous(memory_format=torch.channels_last).requires_grad_()
        expected = F.max_pool2d(x, *window)
        out, place = triton_pool_gpu.max_pool(x.detach(), *window)
        assert torch.equal(out.nan_to_num(9), expected.nan_to_num(9))
        upstream = torch.randint(-8, 8, out.shape).to(dtype)
        grad = triton_pool_gpu.max_pool_backward(upstream, place, list(shape), *window)
        assert torch.equal(grad, torch.autograd.grad(expected, x, upstream)[0])
        assert channels_last(out, place, grad)


@pytest.mark.parametrize(
    ("shape", "window", "steps"),
    [(IMAGES[0], WINDOWS[0], 3), *((IMAGES[1], window, 4) for window in WINDOWS), (IMAGES[1], WINDOWS[1], 18)],
    ids=str,
)
def test_pooling_behind_neurons_is_the_two_one_after_the_other(shape, window, steps):
    y, scale, shift, abc = (
        dyadic(*shape),
        torch.randint(1, 8, shape[1:2]) / 4,
        dyadic(shape[1]),
        torch.tensor([0.75, 1.0, 0.25]),
    )
    v_reset, dtype = RESETS[["hard", "below", "soft"][window[1] - 1]], torch.bfloat16 if steps == 3 else torch.float32
    rules, centre = (-1, steps, 1.0, v_reset, "atan", 2.0, window[0] == 2), torch.randn(shape[1])
    given = (y.to(dtype), scale, shift, abc)
    out, place = triton_pool_gpu.fire_pool(*given, *rules, list(window))
    spikes = triton_gpu.norm_fire(*given, None, None, None, *rules, False, 0)[0]
    pooled, places = triton_pool_gpu.max_pool(spikes.flatten(0, 1), *window)
    assert torch.equal(out.flatten(0, 1), pooled)
    assert torch.equal(place.flatten(0, 1), places)
    upstream = torch.randint(-8, 8, out.shape).to(dtype)  # sums of windows are exact
    got = triton_pool_gpu.fire_pool_backward(upstream, place, *given, *rules, list(window), centre, True, True)
    at_spikes = triton_pool_gpu.max_pool_backward(upstream.flatten(0, 1), places, [steps * shape[0], *shape[1:]], *window)
    apart = triton_gpu.norm_fire_backward(
        at_spikes.unflatten(0, (steps, -1)), None, *given, None, None, None, *rules, centre, True, [False, False, False, True]
    )
    assert all(map(torch.equal, got, (apart[0], *apart[-2:])))


def test_nothing_to_compute_is_nothing_done():
    y, one = torch.randn(2, 0, 3, 4, 4), torch.ones(3)
    rules = (-1, 0, 1.0, 0.0, "atan", 2.0, True)
    out, v_end, packed = triton_gpu.norm_fire(y, one, one, one, None, None, None, *rules, True, 1)
    assert (out.shape, v_end.shape, packed.shape) == ((2, 0, 3, 4, 4), (0, 3, 4, 4), (2, 1, 0))
    grads = triton_gpu.norm_fire_backward(
        out, None, y, one, one, one, None, None, None, *rules, one, True, [False, False, True, True]
    )
    assert torch.equal(grads[4], torch.zeros(3))
    assert torch.equal(grads[5], torch.zeros(2, 3))


def test_a_reason_is_given_in_words():
    assert triton_gpu.reason_against(torch.ones(1)) == ""
    assert "float64" in triton_gpu.reason_against(torch.ones(1, dtype=torch.float64))
    assert "meta" in triton_gpu.reason_against(torch.ones(1, device="meta"))
