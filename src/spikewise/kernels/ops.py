"""The operators that torch sees: their schemas, what tracing must know of them, and their gradients.

Forward keeps the convolution's output, nothing else of full size (AND, IAND: the shortcut, too); backward computes membranes,
spikes and slopes again, bit for bit. Between `norm_stats` and `norm_fire`, and between `norm_fire_backward` and
`batch_norm_backward_`, there are only numbers per channel: statistics and their gradients, which may be over more than this
batch.
Sums over a channel are taken in blocks that depend on the shape alone, so that a result depends neither on timing nor on the
number of threads.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import reference
from .layout import empty, is_channels_last, output_is_channels_last, planes_shape, pool_output_shape
from .spec import (
    Connect,
    FireBackwardOutput,
    FireGrads,
    FireOutput,
    FireSpec,
    FireTensors,
    GradSpec,
    NormParams,
    numbers,
    schema,
    specs,
    split,
)

_lib = torch.library.Library("spikewise", "FRAGMENT")
ops = torch.ops.spikewise
SCHEMAS = {
    "norm_stats": "(Tensor y, int channel_axis) -> (Tensor mean, Tensor variance)",
    "batch_norm_affine": "(Tensor y, Tensor weight, Tensor bias, float eps) -> Tensor",
    "norm_fire": f"({schema(FireTensors)}, float[] spec) -> ({schema(FireOutput)})",
    "norm_fire_backward": f"({schema(FireGrads, FireTensors)}, float[] spec) -> ({schema(FireBackwardOutput)})",
    "batch_norm_backward_": "(Tensor(a!) grad, Tensor y, Tensor mean, Tensor grad_mean, Tensor grad_variance, int count) -> ()",
    "max_pool": "(Tensor x, int size, int stride, int padding) -> (Tensor out, Tensor indices)",
    "max_pool_backward": "(Tensor grad, Tensor indices, SymInt[] shape, int size, int stride, int padding) -> Tensor",
    "pack": "(Tensor x, int planes) -> Tensor",
    "unpack": "(Tensor planes, SymInt[] shape, ScalarType dtype, bool channels_last) -> Tensor",
}
for _name, _schema in SCHEMAS.items():
    _lib.define(_name + _schema)


def impl(device: str, **kernels: Callable) -> None:
    """Register what operators run on a device; those of the fused operation take the records of spec.py."""
    for name, kernel in kernels.items():
        records = RECORDS.get(name)
        _lib.impl(name, kernel if records is None else taking_records(kernel, records), device)


RECORDS: dict[str, tuple[type, ...]] = {"norm_fire": (FireTensors,), "norm_fire_backward": (FireGrads, FireTensors)}


def taking_records(kernel: Callable, records: tuple[type, ...]) -> Callable:
    return lambda *args: kernel(*split(args[:-1], *records), *specs(tuple(args[-1])))


def norm_fire_fake(tensors: FireTensors, spec: FireSpec) -> FireOutput:
    y = tensors.y
    channels_last = output_is_channels_last(y)
    frame, steps = y.shape[-4:], spec.repeat_steps or y.shape[0]
    shape = (steps, *(frame if spec.pool is None else pool_output_shape(frame, spec.pool)))
    return FireOutput(
        out=empty(shape, y.dtype, channels_last, y.device),
        v_last=empty(frame, torch.float32, channels_last, y.device) if spec.return_membrane else placeholder(y),
        planes=y.new_empty(planes_shape(shape, spec.num_planes) if spec.num_planes else 0, dtype=torch.uint8),
        pool_indices=placeholder(y, torch.uint8) if spec.pool is None else empty(shape, torch.uint8, channels_last, y.device),
    )


def norm_fire_backward_fake(grads: FireGrads, tensors: FireTensors, spec: FireSpec, want: GradSpec) -> FireBackwardOutput:
    y, frame, steps = tensors.y, tensors.y.shape[-4:], spec.repeat_steps or tensors.y.shape[0]
    channels_last = output_is_channels_last(y)

    def sequence(wanted: bool) -> Tensor:
        return empty((steps, *frame), y.dtype, channels_last, y.device) if wanted else placeholder(y, y.dtype)

    return FireBackwardOutput(
        grad_y=empty(y.shape, y.dtype, channels_last, y.device),
        grad_shortcut=sequence(want.want_shortcut),
        grad_current=sequence(want.want_current),
        grad_v=empty(frame, torch.float32, channels_last, y.device) if want.want_v else placeholder(y),
        grad_coefficients=y.new_empty(3 if want.want_coefficients else 0, dtype=torch.float32),
        channel_grads=y.new_empty(4, y.shape[-3], dtype=torch.float32),
    )


def placeholder(like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """For what is not wanted: operators return tensors, never None."""
    return like.new_empty(0, dtype=dtype)


def norm_stats_fake(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    mean = y.new_empty(y.shape[channel_axis], dtype=torch.float32)
    return mean, torch.empty_like(mean)


def max_pool_fake(x: Tensor, *window: int) -> tuple[Tensor, Tensor]:
    shape = pool_output_shape(x.shape, window)
    return empty(shape, x.dtype, True, x.device), empty(shape, torch.uint8, True, x.device)


def pack_fake(x: Tensor, planes: int) -> Tensor:
    return x.new_empty(planes_shape(x.shape, planes), dtype=torch.uint8)


FAKES: dict[str, Callable] = {
    "norm_stats": norm_stats_fake,
    "batch_norm_affine": lambda y, *_: y.new_empty(5, y.shape[-3], dtype=torch.float32),
    "norm_fire": norm_fire_fake,
    "norm_fire_backward": norm_fire_backward_fake,
    "batch_norm_backward_": lambda *_: None,
    "max_pool": max_pool_fake,
    "max_pool_backward": lambda grad, _indices, shape, *_: empty(shape, grad.dtype, True, grad.device),
    "pack": pack_fake,
    "unpack": lambda planes, shape, dtype, channels_last: empty(shape, dtype, channels_last, planes.device),
}
for _name, _fake in FAKES.items():
    _records = RECORDS.get(_name)
    torch.library.register_fake(f"spikewise::{_name}", _fake if _records is None else taking_records(_fake, _records), lib=_lib)


class _RefuseDouble(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, *_depends_on: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Tensor:
        raise NotImplementedError(
            "spikewise's fused kernels have no second derivative; build the network with backend='reference'"
        )


Backward = Callable[..., tuple[Tensor | None, ...]]


def once_differentiable(backward: Backward) -> Backward:
    """A backward whose gradients, where their graph is asked for (create_graph=True), refuse in words to be differentiated."""

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return backward(ctx, *grads)
        with torch.no_grad():
            found = backward(ctx, *grads)
        sources = [x for x in (*grads, *ctx.saved_tensors) if x is not None and x.requires_grad]
        return tuple(grad if grad is None else _RefuseDouble.apply(grad, *sources) for grad in found)

    return run


class NormStats(torch.autograd.Function):
    """Values as they are, their mean and their variance, for a `NormFire` that normalises these values with more than theirs.

    Backward adds what comes back along mean and variance to the gradient of the values, in its place: only `NormFire` may have
    them, which makes a gradient that nobody else sees.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> tuple[Tensor, ...]:
        mean, variance = ops.norm_stats(y, y.dim() - 3)
        ctx.save_for_backward(y, mean)
        return y.view_as(y), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_y, grad_mean, grad_variance = grads
        y, mean = ctx.saved_tensors
        ops.batch_norm_backward_(grad_y, y, mean, grad_mean, grad_variance, y.numel() // len(mean))
        return (grad_y,)


class NormFire(torch.autograd.Function):
    """Batch norm, neurons, connection and pooling as one node of autograd.

    spec:          what to compute
    norm:          as in `NormParams`, weight and bias in float32; without statistics, those of this batch are taken, with them
                   gradients flow to these
    input_planes:  bit planes of the shortcut, or of the current, to be kept for backward in its place
    Returns:       output, membrane after the last step, bit planes of the output, mean, variance
    """

    @staticmethod
    def forward(
        ctx: Any,
        spec: FireSpec,
        input_planes: Tensor | None,
        norm_eps: float,
        mean: Any,  # Tensor, or None
        variance: Any,
        y: Tensor,
        weight: Tensor,
        bias: Tensor,
        coefficients: Tensor | None,
        shortcut: Tensor | None,
        current: Tensor | None,
        v: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.batch_stats = mean is None
        if mean is None or variance is None:
            mean, variance, scale, shift, inverse_std = ops.batch_norm_affine(y, weight, bias, norm_eps).unbind()
        else:
            scale, shift, inverse_std = reference.scale_and_shift(NormParams(weight, bias, norm_eps, mean, variance))
        tensors = FireTensors(y, scale, shift, coefficients, shortcut, current, v)
        output = FireOutput(*ops.norm_fire(*tensors, numbers(spec)))
        save(ctx, tensors, spec, input_planes, output.pool_indices if spec.pool else None, mean, inverse_std)
        if not ctx.batch_stats:
            mean, variance = mean.detach(), variance.detach()
        ctx.mark_non_differentiable(output.planes, mean, variance)
        ctx.set_materialize_grads(False)
        return output.out, output.v_last, output.planes, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_out, grad_v_last = grads[:2]
        tensors, indices, mean, inverse_std = load(ctx)
        spec, y = ctx.spec, tensors.y
        if grad_out is None:  # only the membrane has a gradient
            grad_out = torch.zeros_like(norm_fire_fake(tensors, spec).out)
        needs = dict(zip(FireTensors._fields, ctx.needs_input_grad[-7:], strict=True))
        want = GradSpec(
            want_shortcut=needs["shortcut"] and spec.connect > Connect.ADD,
            want_current=needs["current"],
            want_v=needs["v"],
            want_coefficients=needs["coefficients"],
        )
        if grad_v_last is not None and not grad_v_last.numel():
            grad_v_last = None
        given = FireGrads(grad_out, grad_v_last, mean, inverse_std, indices)
        found = FireBackwardOutput(*ops.norm_fire_backward(*given, *tensors, numbers(spec, want)))
        grad_bias, grad_weight, grad_mean, grad_variance = found.channel_grads.unbind()
        if ctx.batch_stats:
            ops.batch_norm_backward_(found.grad_y, y, mean, grad_mean, grad_variance, y.numel() // mean.shape[0])
        by_name = {
            "y": found.grad_y,
            "scale": grad_weight,
            "shift": grad_bias,
            "coefficients": found.grad_coefficients,
            "shortcut": grad_out if spec.connect == Connect.ADD else found.grad_shortcut,
            "current": found.grad_current,
            "v": found.grad_v,
        }
        of_statistics = (grad_mean, grad_variance) if any(ctx.needs_input_grad[3:5]) else (None, None)
        return (None, None, None, *of_statistics, *(by_name[name] if need else None for name, need in needs.items()))


def save(
    ctx: Any,
    tensors: FireTensors,
    spec: FireSpec,
    input_planes: Tensor | None,
    pool_indices: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
) -> None:
    """Keep what backward needs; the shortcut, or the current, as its planes where it has them."""
    ctx.spec, ctx.packed = spec, None
    shortcut = tensors.shortcut if spec.connect > Connect.ADD else None  # the gradient passes ADD unchanged
    kept = replace(tensors, "shortcut", shortcut)
    if input_planes is not None:
        if shortcut is not None and tensors.current is not None:
            raise ValueError("input_planes are those of the shortcut or of the current, not of both")
        name = "shortcut" if shortcut is not None else "current" if tensors.current is not None else None
        if name is not None:
            values = getattr(tensors, name)
            ctx.packed = name, values.shape, values.dtype, is_channels_last(values)
            kept = replace(kept, name, input_planes)
    ctx.save_for_backward(*kept, pool_indices, mean, inverse_std)


def replace(tensors: FireTensors, name: str, value: Tensor | None) -> FireTensors:
    """`tensors._replace(name=value)`, which PyTorch 2.8's compiler does not follow."""
    values = (value if field == name else x for field, x in zip(FireTensors._fields, tensors, strict=True))
    return FireTensors(*values)  # type: ignore[arg-type]


def load(ctx: Any) -> tuple[FireTensors, Tensor | None, Tensor, Tensor]:
    """What was saved: forward's tensors, pool indices, mean and 1 / standard deviation."""
    *saved, indices, mean, inverse_std = ctx.saved_tensors
    tensors = FireTensors(*saved)
    if ctx.packed is not None:
        name, shape, dtype, channels_last = ctx.packed
        tensors = replace(tensors, name, ops.unpack(getattr(tensors, name), shape, dtype, channels_last))
    return tensors, indices, mean, inverse_std


class MaxPool(torch.autograd.Function):
    """Max pooling of channels-last images: backward keeps a byte per output, the place in its window that it came from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *window: int) -> Tensor:
        out, indices = ops.max_pool(x, *window)
        ctx.shape, ctx.window = x.shape, window
        ctx.save_for_backward(indices)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (indices,) = ctx.saved_tensors
        return ops.max_pool_backward(grads[0], indices, ctx.shape, *ctx.window), None, None, None
