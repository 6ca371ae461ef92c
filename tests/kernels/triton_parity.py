"""Triton's kernels against the reference, under Triton's interpreter or on a GPU: test_triton.py runs this file."""

import itertools
import os

import interpreter  # noqa: F401  mends the one of older versions
import numpy as np
import pytest
import torch
from given import (
    WINDOWS,
    assert_close_gradients,
    assert_pools_as_torch,
    assert_statistics_within_2_ulp,
    dyadic,
    given_norm,
    laid,
    relative,
)

from spikewise.kernels import CONNECT, SURROGATES, NeuronParams, NormParams, reference
from spikewise.kernels.spec import (
    SURROGATE_CODES,
    Connect,
    FireGrads,
    FireSpec,
    FireTensors,
    GradSpec,
    PoolWindow,
    Surrogate,
)
from spikewise.kernels.triton import launch, unavailable_reason
from spikewise.kernels.triton.max_pool import max_pool, max_pool_backward
from spikewise.kernels.triton.norm_fire import (
    batch_norm_affine,
    batch_norm_backward_,
    channel_grads,
    norm_fire,
    norm_fire_backward,
    norm_stats,
)
from spikewise.kernels.triton.packing import pack, unpack

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

RESETS = {"hard": 0.0, "below": -0.25, "soft": None}
SHAPES = [(1, 1, 1, 1, 1), (4, 2, 16, 3, 2), (3, 1, 70, 3, 5), (16, 1, 5, 3, 3), (17, 1, 3, 1, 5), (33, 1, 16, 1, 1)]
IMAGES = [(2, 16, 5, 7), (1, 3, 4, 3), (1, 35, 3, 6)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", launch.DTYPES, ids=str)


@pytest.fixture(autouse=True)
def _on_device(monkeypatch):
    """On the device under test; few programs share out rows, so that each has several tiles."""
    monkeypatch.setattr(launch, "MAX_PROGRAMS", 3)
    with torch.device(DEVICE):
        yield


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


def by_reference(tensors, spec):
    """Output and last membrane of what the kernels compute, in the precision of the tensors."""
    y, scale, shift, abc, shortcut, current, v = tensors
    surrogate = next(name for name, function in SURROGATES.items() if SURROGATE_CODES[function] == spec.surrogate)
    abc = (spec.a, spec.b, spec.c) if abc is None else abc.split(1)
    neuron = NeuronParams(*abc, spec.v_th, spec.v_reset, surrogate, spec.alpha, spec.detach_reset)
    options = {"shortcut": shortcut, "connect": CONNECT.get(spec.connect.name), "current": current, "v": v}
    return reference.norm_fire(y, given_norm(scale, shift), neuron, repeat_steps=spec.repeat_steps, **options)[:2]


@pytest.mark.parametrize("connect", Connect, ids=lambda connect: connect.name)
@shapes
@dtypes
def test_forward_is_the_reference_to_the_bit_on_dyadic_numbers(connect, shape, dtype):
    y, current = dyadic(*shape).to(dtype), dyadic(*shape).to(dtype)
    shortcut = torch.randint(0, 3, shape).to(dtype) if connect else None
    scale, shift = torch.randint(1, 8, shape[2:3]) / 4, dyadic(shape[2])
    y.view(-1)[0] = torch.nan  # does not fire
    a, b, c = abc = {Connect.NONE: (1.0, 1.0, 0.0), Connect.ADD: (0.5, 0.5, -0.125)}.get(connect, (0.75, 1.0, 0.25))
    cases = zip(
        RESETS.values(), (0, shape[0], 0), (None, None, current), (None, dyadic(*shape[1:]), None), (0, 2, 1), strict=True
    )
    for v_reset, repeat, more, v, planes in cases:
        spec = FireSpec(0.75, v_reset, connect=connect, repeat_steps=repeat, return_membrane=True, num_planes=planes)
        spec, learned = (spec._replace(a=a, b=b, c=c), None) if planes else (spec, torch.tensor(abc))
        tensors = FireTensors(y[0] if repeat else y, scale, shift, learned, shortcut, more, v)
        expected, v_expected = by_reference(tensors, spec)
        got = norm_fire(tensors, spec)
        assert torch.equal(got.out, expected)
        assert torch.equal(got.v_last.nan_to_num(9), v_expected.nan_to_num(9))
        assert channels_last(got.out, got.v_last)
        assert torch.equal(got.planes, planes_of(got.out, planes)) if planes else got.planes.numel() == 0
        assert got.pool_indices.numel() == 0


@pytest.mark.parametrize("v_th", [1.0, 0.3])
def test_forward_rounds_as_the_reference_whatever_the_numbers_and_the_layout(v_th):
    y, scale, shift = torch.randn(5, 2, 24, 4, 3), torch.rand(24) + 0.5, torch.randn(24)
    layouts = (y, laid(y, "last"), y.mT.contiguous().mT)
    for layout, v_reset in itertools.product(layouts, (0.0, -0.3, None)):
        tensors, spec = FireTensors(layout, scale, shift, torch.tensor([0.6, 0.9, 0.05])), FireSpec(v_th, v_reset)
        got = norm_fire(tensors, spec._replace(return_membrane=True))
        assert all(map(torch.equal, got[:2], by_reference(tensors, spec)))


def gradients(shape, spec, *, current=False, v=False, dtype=torch.float32):
    """Forward and backward: by Triton's kernels, by the reference in float32, and in float64: spikes, then gradients."""
    channels, spec = shape[2], spec._replace(alpha=1.7)
    with torch.device("cpu"):  # the same numbers on every device: a spike in some millions falls otherwise in float64
        numbers = FireTensors(
            y=(torch.randn(shape[1:] if spec.repeat_steps else shape) * 1.5).to(dtype),
            scale=torch.rand(channels) + 0.5,
            shift=torch.randn(channels) * 0.3,
            coefficients=torch.tensor([0.6, 0.9, 0.05]),
            shortcut=torch.randint(0, 3, shape).to(dtype) if spec.connect else None,
            current=torch.randn(shape).to(dtype) if current else None,
            v=torch.randn(shape[1:]) * 0.3 if v else None,
        )
        ends = torch.randn(shape).to(dtype), torch.randn(shape[1:]) if v else None
    tensors = FireTensors(*(None if x is None else x.to(DEVICE) for x in numbers))
    upstream, at_end = (None if x is None else x.to(DEVICE) for x in ends)
    spikes = norm_fire(tensors, spec).out
    grads, want = (
        FireGrads(upstream, at_end, torch.zeros(channels), torch.ones(channels)),
        GradSpec(spec.connect > Connect.ADD, current, v, True),
    )
    found = norm_fire_backward(grads, tensors, spec, want)
    assert channels_last(found[0], *(tensor for tensor, wanted in zip(found[1:4], want, strict=False) if wanted))
    assert all(tensor.numel() == 0 for tensor, wanted in zip(found[1:5], want, strict=True) if not wanted)
    assert all(map(torch.equal, found, norm_fire_backward(grads, tensors, spec, want))), "the same bits each time"
    by_shortcut = upstream if spec.connect == Connect.ADD else found.grad_shortcut  # ADD: passed on as it came
    by_shift, by_scale = found.channel_grads[:2]
    ours = FireTensors(found.grad_y, by_scale, by_shift, found.grad_coefficients, by_shortcut, found.grad_current, found.grad_v)
    results = [[spikes.double(), *(None if t is None else mine for t, mine in zip(tensors, ours, strict=True))]]
    for precision in (torch.float32, torch.float64):
        leaves = FireTensors(*(None if t is None else t.to(precision).requires_grad_() for t in tensors))
        outputs, ends = by_reference(leaves, spec), [x.to(precision) for x in (upstream, at_end) if x is not None]
        by_tensor = iter(torch.autograd.grad(outputs[: len(ends)], [t for t in leaves if t is not None], ends))
        results.append([outputs[0].detach().double(), *(None if t is None else next(by_tensor) for t in leaves)])
    return results


def assert_close(results, tolerance=1e-5):
    ours, rounded, exact = results
    assert torch.equal(ours[0], exact[0])
    assert_close_gradients(ours[1:], rounded[1:], exact[1:], tolerance)


@pytest.mark.parametrize("detach_reset", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("surrogate", Surrogate, ids=lambda surrogate: surrogate.name)
def test_backward_of_every_surrogate_and_reset(surrogate, v_reset, detach_reset):
    spec = FireSpec(v_reset=v_reset, surrogate=surrogate, detach_reset=detach_reset)
    assert_close(gradients((4, 1, 5, 3, 3), spec, v=True))


@pytest.mark.parametrize("connect", Connect, ids=lambda connect: connect.name)
@pytest.mark.parametrize("extra", ["repeat", "current"])
@shapes
def test_backward_of_every_connection_and_shape(shape, connect, extra):
    spec, more = FireSpec(v_reset=-0.25, detach_reset=False, connect=connect), {"current": True, "v": True}
    if extra == "repeat":  # or, with AND and ADD, a sequence with nothing more
        more = {}
        spec = spec if connect in (Connect.AND, Connect.ADD) else spec._replace(repeat_steps=shape[0])
    assert_close(gradients(shape, spec, **more))


@pytest.mark.parametrize("connect", [Connect.ADD, Connect.IAND], ids=["ADD", "IAND"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_backward_in_half_precision(connect, dtype):
    assert_close(gradients((4, 2, 16, 3, 2), FireSpec(connect=connect), dtype=dtype), tolerance=4 * torch.finfo(dtype).eps)


@dtypes
@pytest.mark.parametrize("shape", [(4, 2, 16, 5, 3), (3, 2, 7, 3, 5), (2, 2, 70, 9, 7)], ids=str)
def test_statistics_are_those_of_float64_within_2_ulp(shape, dtype):
    assert_statistics_within_2_ulp(norm_stats, shape, lambda y: y.to(dtype))


def test_statistics_of_any_shape_and_of_nothing():
    y = torch.randn(6, 7, 9)
    mean, variance = norm_stats(y, 1)
    assert relative(mean, y.double().mean((0, 2))) < 1e-6
    assert relative(variance, y.double().var((0, 2), correction=0)) < 1e-6
    assert all(stat.isnan().all() for stat in norm_stats(torch.randn(0, 3, 2, 2), 1))


def test_statistics_add_to_the_gradient_in_place_whatever_its_layout():
    y, per_channel = torch.randn(3, 2, 5, 4, 3), torch.randn(3, 5)
    mean, grad_mean, grad_variance = per_channel[:, :, None, None]
    for grad in (torch.randn(3, 2, 5, 4, 3), torch.randn(3, 2, 4, 3, 5).permute(0, 1, 4, 2, 3)):
        expected = grad + (grad_mean + 2 * grad_variance * (y - mean)) * torch.tensor(1 / 72)
        batch_norm_backward_(grad, y, *per_channel, 72)
        assert torch.equal(grad, expected)


@pytest.mark.parametrize("channels", [1, 5, 64, 70])
def test_batch_norm_as_a_product_and_a_sum_rounds_as_the_reference_does_on_a_cpu(channels):
    y, weight, bias = torch.randn(3, 2, channels, 4, 3) * 2 + 1, torch.rand(channels) + 0.5, torch.randn(channels)
    mean, variance, *affine = batch_norm_affine(y, weight, bias, 1e-5).cpu()
    expected = reference.scale_and_shift(NormParams(weight.cpu(), bias.cpu(), 1e-5, mean, variance))
    assert all(map(torch.equal, affine, expected))
    assert all(map(torch.equal, (mean, variance), (stat.cpu() for stat in norm_stats(y, 2))))


def test_gradients_per_channel_are_the_references_of_their_sums():
    partial, scale, inverse_std = torch.randn(300, 2, 11), torch.rand(11), torch.rand(11)
    expected = reference.channel_grads(partial.double().sum(0).float(), scale, inverse_std)
    torch.testing.assert_close(channel_grads(partial, scale, inverse_std), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(
        channel_grads(partial * 0 + 0.5, scale, inverse_std),
        reference.channel_grads(torch.full((2, 11), 150.0), scale, inverse_std),
    )


def test_a_gradient_that_only_half_precision_cannot_hold_before_it_is_scaled_is_finite():
    y, one = torch.full((1, 2, 3, 2, 2), 0.75, dtype=torch.float16), torch.ones(3)
    tensors, spec = FireTensors(y, one / 64, one), FireSpec(surrogate=Surrogate.RECTANGULAR, alpha=4.0)
    grads = FireGrads(torch.full_like(y, 2.0**15), None, one, one)
    found = norm_fire_backward(grads, tensors, spec, GradSpec())
    assert torch.equal(found.grad_y, torch.full_like(y, 4 * 2.0**15 / 64))


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("shape", [(3, 2, 5, 3, 7), (2, 1, 16, 5, 5), (1, 1, 1, 1, 1), (2, 7, 3, 5)], ids=str)
def test_packing_comes_back_and_lies_as_it_is_said_to(shape, planes):
    for dtype in launch.DTYPES:
        x = torch.randint(0, 2**planes, shape).to(dtype)
        packed = pack(x, planes)
        assert torch.equal(packed, planes_of(x, planes))
        for last in (True, False):
            back = unpack(packed, shape, dtype, last)
            assert back.dtype == dtype
            assert torch.equal(back, x)
            assert channels_last(back) if last else back.is_contiguous()


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@dtypes
def test_pooling_is_torchs(shape, window, dtype):
    def pool(x):
        out, indices = max_pool(x.detach(), *window)
        assert channels_last(out, indices)
        return out, lambda upstream: max_pool_backward(upstream, indices, list(shape), *window)

    assert_pools_as_torch(pool, shape, window, dtype)


@pytest.mark.parametrize(
    ("shape", "window", "steps"),
    [(IMAGES[0], WINDOWS[0], 3), *((IMAGES[1], window, 4) for window in WINDOWS), (IMAGES[1], WINDOWS[1], 18)],
    ids=str,
)
def test_pooling_behind_neurons_is_the_two_one_after_the_other(shape, window, steps):
    v_reset, dtype = RESETS[["hard", "below", "soft"][window[1] - 1]], torch.bfloat16 if steps == 3 else torch.float32
    scale, shift, abc = torch.randint(1, 8, shape[1:2]) / 4, dyadic(shape[1]), torch.tensor([0.75, 1.0, 0.25])
    tensors, stats = FireTensors(dyadic(*shape).to(dtype), scale, shift, abc), (torch.randn(shape[1]), torch.ones(shape[1]))
    apart = FireSpec(v_reset=v_reset, detach_reset=window[0] == 2, repeat_steps=steps)
    as_one = apart._replace(pool=list(window), num_planes=1)
    got, spikes = norm_fire(tensors, as_one), norm_fire(tensors, apart).out
    pooled, indices = max_pool(spikes.flatten(0, 1), *window)
    assert torch.equal(got.out.flatten(0, 1), pooled)
    assert torch.equal(got.pool_indices.flatten(0, 1), indices)
    assert torch.equal(got.planes, planes_of(got.out, 1))
    upstream, want = torch.randint(-8, 8, got.out.shape).to(dtype), GradSpec(want_coefficients=True)  # sums are exact
    grads = norm_fire_backward(FireGrads(upstream, None, *stats, got.pool_indices), tensors, as_one, want)
    at_spikes = max_pool_backward(upstream.flatten(0, 1), indices, [steps * shape[0], *shape[1:]], *window)
    expected = norm_fire_backward(FireGrads(at_spikes.unflatten(0, (steps, -1)), None, *stats), tensors, apart, want)
    assert all(map(torch.equal, grads, expected))


def test_pooling_behind_neurons_takes_still_images_only():
    one = torch.ones(3)
    with pytest.raises(ValueError, match="takes still images"):
        norm_fire(FireTensors(torch.randn(2, 1, 3, 4, 4), one, one, one), FireSpec(pool=PoolWindow(3, 2, 1)))


def test_nothing_to_compute_is_nothing_done():
    one = torch.ones(3)
    tensors, spec = FireTensors(torch.randn(2, 0, 3, 4, 4), one, one, one), FireSpec(return_membrane=True, num_planes=1)
    out, v_last, planes, _ = norm_fire(tensors, spec)
    assert (out.shape, v_last.shape, planes.shape) == ((2, 0, 3, 4, 4), (0, 3, 4, 4), (2, 1, 0))
    grads = norm_fire_backward(FireGrads(out, None, one, one), tensors, spec, GradSpec(want_v=True, want_coefficients=True))
    assert torch.equal(grads.grad_coefficients, torch.zeros(3))
    assert torch.equal(grads.channel_grads, torch.zeros(4, 3))


def test_what_does_not_fit_is_refused_and_never_read():
    one = torch.ones(3)
    tensors, spec, want = FireTensors(torch.randn(2, 1, 3, 4, 4), one, one, one), FireSpec(), GradSpec()
    for name, wrong in (("scale", torch.ones(1)), ("v", torch.ones(3, 4, 4)), ("current", torch.ones(1, 1, 3, 4, 4))):
        with pytest.raises(ValueError, match=rf"{name} is .* would fit"):
            norm_fire(tensors._replace(**{name: wrong}), spec)
    grads = FireGrads(torch.randn(2, 1, 3, 4, 4), None, one, one)
    for name, wrong in (("grad_out", one), ("mean", torch.ones(1)), ("grad_v_last", torch.ones(3, 4, 4))):
        with pytest.raises(ValueError, match=rf"{name} is .* would fit"):
            norm_fire_backward(grads._replace(**{name: wrong}), tensors, spec, want)
    with pytest.raises(ValueError, match=r"bit planes .* are not those of values"):
        unpack(torch.zeros(2, 1, 5, dtype=torch.uint8), (2, 1, 3, 4, 4), torch.float32, True)


def test_a_reason_is_given_in_words():
    assert unavailable_reason(torch.ones(1)) == ""
    assert "float64" in unavailable_reason(torch.ones(1, dtype=torch.float64))
    assert "meta" in unavailable_reason(torch.ones(1, device="meta"))
