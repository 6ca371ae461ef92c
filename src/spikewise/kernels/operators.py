"""The operators that torch sees: without state, with their gradients and what tracing needs to know of them.

Forward keeps the convolution's output, nothing else of full size (AND, IAND: the shortcut, too); backward computes membranes,
spikes and slopes again, bit for bit. Sums over a channel are taken in blocks that depend on the shape alone, so that a result
depends neither on timing nor on the number of threads.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import reference
from .calls import (
    DTYPES,
    Planes,
    Rules,
    StatisticsCall,
    StatsCall,
    channels_inner,
    empty,
    extent,
    laid_out,
    nothing,
    outputs_inner,
    partial_rows,
    pointer,
    prepare_call,
    require_shape,
    run,
    sums_of,
    team,
)
from .packing import packed_shape, require_planes

_lib = torch.library.Library("spikewise", "FRAGMENT")
RULES = "int connect, int repeat, float v_th, float? v_reset, str surrogate, float alpha, bool detach_reset"
OPTIONAL = "Tensor? shortcut, Tensor? current, Tensor? v"
# whether the membrane is wanted; how many bit planes of the output; those of shortcut or current, to be kept in its place
KEPT = "bool keep_v, int planes, Tensor? packed_in"
_lib.define("norm_stats(Tensor y, int channel_axis) -> (Tensor mean, Tensor variance)")
_lib.define(
    f"norm_fire(Tensor y, Tensor scale, Tensor shift, Tensor abc, {OPTIONAL}, {RULES}, {KEPT})"
    " -> (Tensor out, Tensor v, Tensor packed)"
)
_lib.define(
    f"batch_norm_fire(Tensor y, Tensor weight, Tensor bias, Tensor abc, {OPTIONAL}, {RULES}, {KEPT}, float eps)"
    " -> (Tensor out, Tensor v, Tensor packed, Tensor mean, Tensor variance)"
)
_lib.define(
    "norm_fire_backward(Tensor grad_out, Tensor? grad_v_end, Tensor y, Tensor scale, Tensor shift, Tensor abc,"
    f" {OPTIONAL}, {RULES}, Tensor centre, bool scaled, bool[4] wants)"
    " -> (Tensor grad_y, Tensor grad_shortcut, Tensor grad_current, Tensor grad_v, Tensor grad_abc, Tensor sums)"
)
_lib.define("through_statistics_(Tensor(a!) grad, Tensor y, Tensor centre, Tensor coefficients) -> ()")
ops = torch.ops.spikewise


def norm_stats_cpu(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    axes = [axis for axis in range(y.dim()) if axis != channel_axis]
    if not y.numel():
        return torch.full((2, y.shape[channel_axis]), math.nan, device="cpu").unbind()  # type: ignore[return-value]
    if y.dim() in (4, 5) and channel_axis == y.dim() - 3:
        images = y if y.dim() == 4 else y.flatten(0, 1)
    else:  # any shape: as rows of channels
        images = y.permute(*axes, channel_axis).reshape(-1, y.shape[channel_axis], 1, 1)
    inner = channels_inner(images)
    images = laid_out(images, inner)
    space = extent(images.shape, inner)
    channels = images.shape[1]
    partial = torch.empty(partial_rows(space), 2, channels, dtype=torch.float64, device="cpu")
    mean, variance = torch.empty(channels, device="cpu"), torch.empty(channels, device="cpu")
    run(f"norm_stats_{DTYPES[y.dtype]}", StatsCall(team(), space, *map(pointer, (images, partial, mean, variance))))
    return mean, variance


def norm_fire_cpu(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    *rules_and_kept: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    *numbers, keep_v, planes, _ = rules_and_kept
    rules = Rules(*numbers)
    call, inner, _alive = prepare_call(y, scale, shift, abc, shortcut, current, v, rules)
    out = empty((call.steps, *y.shape[-4:]), y.dtype, inner)
    v_end = empty(y.shape[-4:], torch.float32, inner) if keep_v else nothing()
    call.out, call.v_end = pointer(out), pointer(v_end)
    if planes:
        require_planes(planes)
    packed = torch.empty(packed_shape(out.shape, planes) if planes else 0, dtype=torch.uint8, device="cpu")
    if planes and inner:
        call.planes = Planes(pointer(packed), packed.shape[2], planes)
    run(f"norm_fire_{DTYPES[y.dtype]}", call)
    return out, v_end, ops.pack(out, planes) if planes and not inner else packed


def batch_norm_fire_cpu(
    y: Tensor, weight: Tensor, bias: Tensor, abc: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    *others, eps = rest
    mean, variance = norm_stats_cpu(y, y.dim() - 3)
    scale, shift = reference.affine(weight, bias, mean, variance, eps)
    return *norm_fire_cpu(y, scale, shift, abc, *others), mean, variance


def norm_fire_backward_cpu(
    grad_out: Tensor,
    grad_v: Tensor | None,
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    *rules_and_rest: Any,
) -> tuple[Tensor, ...]:
    *numbers, centre, scaled, wants = rules_and_rest
    rules = Rules(*numbers)
    call, inner, alive = prepare_call(y, scale, shift, abc, shortcut, current, v, rules)
    require_shape("grad_out", grad_out, (call.steps, *y.shape[-4:]))
    require_shape("grad_v", grad_v, y.shape[-4:])
    require_shape("centre", centre, y.shape[-3:-2])
    alive += [laid_out(grad_out.to(y.dtype), inner), centre.contiguous()]
    call.grad_out, call.centre = map(pointer, alive[-2:])
    if grad_v is not None:
        alive.append(laid_out(grad_v.float(), inner))
        call.grad_v_end = pointer(alive[-1])
    want_shortcut, want_current, want_v, want_abc = wants
    images, channels, sequence = y.shape[-4:], y.shape[-3], (call.steps, *y.shape[-4:])
    grad_y = empty(y.shape, y.dtype, inner)
    grad_shortcut = empty(sequence, y.dtype, inner) if want_shortcut else nothing()
    grad_current = empty(sequence, y.dtype, inner) if want_current else nothing()
    grad_v0 = empty(images, torch.float32, inner) if want_v else nothing()
    rows = partial_rows(call.space)
    partial = torch.empty(rows, 2, channels, device="cpu")
    partial_abc = torch.empty(rows if call.space.inner == 1 else rows * channels, 3, device="cpu") if want_abc else nothing()
    call.scaled = scaled
    call.grad_y, call.grad_shortcut, call.grad_current = map(pointer, (grad_y, grad_shortcut, grad_current))
    call.grad_v, call.partial, call.partial_abc = map(pointer, (grad_v0, partial, partial_abc))
    run(f"norm_fire_backward_{DTYPES[y.dtype]}", call)
    grad_abc = sums_of(partial_abc) if want_abc else nothing()
    return grad_y, grad_shortcut, grad_current, grad_v0, grad_abc, sums_of(partial)


def through_statistics_cpu(grad: Tensor, y: Tensor, centre: Tensor, coefficients: Tensor) -> None:
    images = y if y.dim() == 4 else y.flatten(0, 1)
    inner = channels_inner(images)
    rows = [centre.contiguous(), *coefficients.contiguous()]
    y = laid_out(y, inner)
    call = StatisticsCall(team(), extent(images.shape, inner), *map(pointer, (y, grad, *rows)))
    run(f"through_statistics_{DTYPES[y.dtype]}", call)


# Gradients, and shapes for tracing ---------------------------------------------------------------------------------------


def saved(ctx: Any, inputs: tuple[Any, ...], scale: Tensor, shift: Tensor, *more: Tensor) -> None:
    """Keep for backward what both operators keep."""
    y, _, _, abc, shortcut, current, v, *numbers = inputs
    packed_in = numbers[9]
    if packed_in is not None and shortcut is not None and current is not None:
        raise ValueError("packed_in is of the shortcut or of the current; with both of them there, give None")
    ctx.set_materialize_grads(False)
    ctx.rules = Rules(*numbers[:7])
    # the gradient passes ADD unchanged, whatever the shortcut was
    kept = shortcut if ctx.rules.connect > 0 else None
    ctx.packs = None
    if packed_in is not None and (kept is not None or current is not None):
        of = current if kept is None else kept
        ctx.packs = of.shape, of.dtype, channels_inner(of.flatten(0, 1))
        kept, current = (packed_in, current) if current is None else (kept, packed_in)
    ctx.save_for_backward(y, scale, shift, abc, kept, current, v, *more)


def kept_for_backward(ctx: Any) -> list[Tensor]:
    """What `saved` kept, unpacked."""
    tensors = list(ctx.saved_tensors)
    if ctx.packs is not None:
        shape, dtype, inner = ctx.packs
        which = 4 if tensors[5] is None else 5
        tensors[which] = ops.unpack(tensors[which], shape, dtype, inner)
    return tensors


def norm_fire_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(output[2])
    saved(ctx, inputs, inputs[1], inputs[2])


def batch_norm_fire_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, packed, mean, variance = output
    ctx.mark_non_differentiable(packed, mean, variance)
    ctx.eps = inputs[-1]
    scale, shift = reference.affine(inputs[1], inputs[2], mean, variance, ctx.eps)
    saved(ctx, inputs, scale, shift, mean, variance)


def wanted(ctx: Any) -> list[bool]:
    """Which gradients are needed of shortcut, current, v and abc; ADD's for the shortcut is the incoming one."""
    needs = ctx.needs_input_grad
    return [bool(needs[4]) and ctx.rules.connect > 0, bool(needs[5]), bool(needs[6]), bool(needs[3])]


def gradients(ctx: Any, grad_out: Tensor, grad_y: Tensor, per_channel: Sequence[Tensor], found: Sequence[Tensor]) -> list[Any]:
    """In the order of the operators' tensors: y, two numbers per channel, abc, shortcut, current, v; None where not needed."""
    grad_shortcut, grad_current, grad_v, grad_abc = found
    if ctx.rules.connect == 0:
        grad_shortcut = grad_out
    tensors = (grad_y, *per_channel, grad_abc, grad_shortcut, grad_current, grad_v)
    return [tensor if need else None for tensor, need in zip(tensors, ctx.needs_input_grad, strict=False)]


def of_membrane(grad_v: Tensor | None) -> Tensor | None:
    """The gradient of the membrane after the last step, where one was asked for."""
    return None if grad_v is None or grad_v.numel() == 0 else grad_v


def complete(grad_out: Tensor | None, y: Tensor, rules: Rules) -> Tensor:
    """The incoming gradient; zeros where only the membrane has one."""
    if grad_out is not None:
        return grad_out
    return empty((rules.repeat or len(y), *y.shape[-4:]), y.dtype, outputs_inner(y), y.device).zero_()


def norm_fire_grads(ctx: Any, grad_out: Tensor | None, grad_v: Tensor | None, *_: Any) -> tuple[Any, ...]:
    y, scale, shift, *tensors = kept_for_backward(ctx)
    grad_out = complete(grad_out, y, ctx.rules)
    grad_y, *found, (grad_shift, grad_scale) = ops.norm_fire_backward(
        grad_out, of_membrane(grad_v), y, scale, shift, *tensors, *ctx.rules, torch.zeros_like(scale), True, wanted(ctx)
    )
    return (*gradients(ctx, grad_out, grad_y, (grad_scale, grad_shift), found), *[None] * 10)


def batch_norm_fire_grads(ctx: Any, grad_out: Tensor | None, grad_v: Tensor | None, *_: Any) -> tuple[Any, ...]:
    y, scale, shift, abc, shortcut, current, v, mean, variance = kept_for_backward(ctx)
    grad_out = complete(grad_out, y, ctx.rules)
    # first the gradient at the normalised y, and its sums over each channel; then, from those, what the statistics add
    grad_y, *found, (grad_bias, centred) = ops.norm_fire_backward(
        grad_out, of_membrane(grad_v), y, scale, shift, abc, shortcut, current, v, *ctx.rules, mean, False, wanted(ctx)
    )
    inverse, count = torch.rsqrt(variance + ctx.eps), y.numel() // len(mean)
    grad_weight = inverse * centred
    coefficients = torch.stack([scale, -scale * inverse * grad_weight / count, -scale * grad_bias / count])
    ops.through_statistics_(grad_y, y, mean, coefficients)
    return (*gradients(ctx, grad_out, grad_y, (grad_weight, grad_bias), found), *[None] * 11)


def norm_stats_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], output[0])
    ctx.channel_axis = inputs[1]


def norm_stats_grads(ctx: Any, grad_mean: Tensor, grad_variance: Tensor) -> tuple[Any, ...]:
    y, mean = ctx.saved_tensors
    shape = [-1 if axis == ctx.channel_axis else 1 for axis in range(y.dim())]
    count = y.numel() // len(mean)
    grad = (grad_mean.reshape(shape) + 2 * grad_variance.reshape(shape) * (y.float() - mean.reshape(shape))) / count
    return grad.to(y.dtype), None


def norm_stats_fake(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    mean = y.new_empty(y.shape[channel_axis], dtype=torch.float32)
    return mean, torch.empty_like(mean)


def norm_fire_fake(y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    rules, (keep_v, planes) = Rules(*rest[6:13]), rest[13:15]
    inner = outputs_inner(y)
    out = empty_like((rules.repeat or len(y), *y.shape[-4:]), y, y.dtype, inner)
    v_end = empty_like(y.shape[-4:], y, torch.float32, inner) if keep_v else y.new_empty(0, dtype=torch.float32)
    return out, v_end, y.new_empty(packed_shape(out.shape, planes) if planes else 0, dtype=torch.uint8)


def empty_like(shape: Sequence[int], y: Tensor, dtype: torch.dtype, inner: bool) -> Tensor:
    return empty(shape, dtype, inner, y.device)


def batch_norm_fire_fake(y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return *norm_fire_fake(y, *rest[:-1]), *norm_stats_fake(y, y.dim() - 3)


def norm_fire_backward_fake(grad_out: Tensor, grad_v: Tensor | None, y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    rules, (_, _, wants) = Rules(*rest[6:13]), rest[13:]
    inner = outputs_inner(y)
    none = y.new_empty(0, dtype=torch.float32)
    sequence = (rules.repeat or len(y), *y.shape[-4:])
    return (
        empty_like(y.shape, y, y.dtype, inner),
        empty_like(sequence, y, y.dtype, inner) if wants[0] else none,
        empty_like(sequence, y, y.dtype, inner) if wants[1] else none,
        empty_like(y.shape[-4:], y, torch.float32, inner) if wants[2] else none,
        y.new_empty(3, dtype=torch.float32) if wants[3] else none,
        y.new_empty(2, y.shape[-3], dtype=torch.float32),
    )


def refuse_double(ctx: Any, *_: Any) -> None:
    raise NotImplementedError(
        "spikewise's fused kernels have no second derivative; build the network with backend='reference' for double backward"
    )


def register(name: str, kernel: Any, fake: Any, backward: Any, setup: Any) -> None:
    _lib.impl(name, kernel, "CPU")
    torch.library.register_fake(f"spikewise::{name}", fake, lib=_lib)
    torch.library.register_autograd(f"spikewise::{name}", backward, setup_context=setup, lib=_lib)


register("norm_stats", norm_stats_cpu, norm_stats_fake, norm_stats_grads, norm_stats_setup)
register("norm_fire", norm_fire_cpu, norm_fire_fake, norm_fire_grads, norm_fire_setup)
register("batch_norm_fire", batch_norm_fire_cpu, batch_norm_fire_fake, batch_norm_fire_grads, batch_norm_fire_setup)
register("norm_fire_backward", norm_fire_backward_cpu, norm_fire_backward_fake, refuse_double, None)
_lib.impl("through_statistics_", through_statistics_cpu, "CPU")
torch.library.register_fake("spikewise::through_statistics_", lambda *_: None, lib=_lib)
