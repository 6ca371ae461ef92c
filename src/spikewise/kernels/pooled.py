"""Neurons and the max pooling behind them as one operator on the CPU: the spikes of a stem are never written.

For still images, read again and again; forward keeps the convolution's output and a byte per pooled spike. The same bits as
`norm_fire` and `max_pool` one after the other; gradients the same but for the order of sums.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..native import load as native
from . import reference
from .calls import (
    DTYPES,
    Call,
    Planes,
    PoolCall,
    Rules,
    channels_inner,
    empty,
    nothing,
    pointer,
    pool_call,
    pooled_shape,
    prepare_call,
    require_shape,
    run,
    sums_of,
)
from .operators import RULES, _lib, norm_stats_cpu, ops, refuse_double, register
from .packing import packed_shape, require_planes

Window = tuple[int, int, int]  # size, stride, padding

_lib.define(
    f"fire_pool(Tensor y, Tensor scale, Tensor shift, Tensor abc, {RULES}, int[] window, int planes)"
    " -> (Tensor out, Tensor place, Tensor packed)"
)
_lib.define(
    f"batch_norm_fire_pool(Tensor y, Tensor weight, Tensor bias, Tensor abc, {RULES}, int[] window, int planes, float eps)"
    " -> (Tensor out, Tensor place, Tensor packed, Tensor mean, Tensor variance)"
)
_lib.define(
    f"fire_pool_backward(Tensor grad, Tensor place, Tensor y, Tensor scale, Tensor shift, Tensor abc, {RULES}, int[] window,"
    " Tensor centre, bool scaled, bool want_abc) -> (Tensor grad_y, Tensor grad_abc, Tensor sums)"
)


class PooledCall(ctypes.Structure):
    """Of kernels.c."""

    _fields_ = (("fire", Call), ("pool", PoolCall))


def pooled_call(
    y: Tensor, scale: Tensor, shift: Tensor, abc: Tensor, rules: Rules, window: Sequence[int], out: Tensor, place: Tensor
) -> tuple[PooledCall, list[Tensor]]:
    """A call, and what must stay alive until it is made. y [N, C, H, W] channels inner; out, place [T, N, C, H', W']"""
    call, inner, alive = prepare_call(y, scale, shift, abc, None, None, None, rules)
    if not inner or not rules.repeat:
        raise ValueError("fire_pool takes still images with their channels inner; use norm_fire and max_pool")
    return PooledCall(call, pool_call(y, out[0], place[0], *window)), alive


def fire_pool_cpu(y: Tensor, scale: Tensor, shift: Tensor, abc: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *numbers, window, planes = rest
    rules = Rules(*numbers)
    out = empty((rules.repeat, *pooled_shape(y.shape, *window)), y.dtype, inner=True)
    place = empty(out.shape, torch.uint8, inner=True)
    call, _alive = pooled_call(y, scale, shift, abc, rules, window, out, place)
    if planes:
        require_planes(planes)
    packed = torch.empty(packed_shape(out.shape, planes) if planes else 0, dtype=torch.uint8, device="cpu")
    emits = planes and y.shape[1] % 8 == 0  # no two tasks share a byte
    if emits:
        call.fire.planes = Planes(pointer(packed), packed.shape[2], planes)
    run(f"pooled_{DTYPES[y.dtype]}", call)
    return out, place, ops.pack(out, planes) if planes and not emits else packed


def batch_norm_fire_pool_cpu(
    y: Tensor, weight: Tensor, bias: Tensor, abc: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    *others, eps = rest
    mean, variance = norm_stats_cpu(y, 1)
    return *fire_pool_cpu(y, *reference.affine(weight, bias, mean, variance, eps), abc, *others), mean, variance


def fire_pool_backward_cpu(
    grad: Tensor, place: Tensor, y: Tensor, scale: Tensor, shift: Tensor, abc: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *numbers, window, centre, scaled, want_abc = rest
    rules = Rules(*numbers)
    shape = (rules.repeat, *pooled_shape(y.shape, *window))
    require_shape("grad", grad, shape)
    require_shape("place", place, shape)
    grad = grad.to(y.dtype).flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])
    call, alive = pooled_call(y, scale, shift, abc, rules, window, grad, place)
    alive.append(centre.contiguous())
    grad_y = empty(y.shape, y.dtype, inner=True)
    count_tasks = native.load(native.chosen_variant()).pooled_tasks
    count_tasks.restype = ctypes.c_int64
    tasks = count_tasks(ctypes.byref(call))
    partial = torch.empty(tasks, 2, y.shape[1], device="cpu")
    partial_abc = torch.empty(tasks, 3, device="cpu") if want_abc else nothing()
    call.fire.scaled, call.fire.centre = scaled, pointer(alive[-1])
    call.fire.grad_y, call.fire.partial, call.fire.partial_abc = map(pointer, (grad_y, partial, partial_abc))
    run(f"pooled_backward_{DTYPES[y.dtype]}", call)
    return grad_y, sums_of(partial_abc) if want_abc else nothing(), sums_of(partial)


def keep(ctx: Any, inputs: tuple[Any, ...], scale: Tensor, shift: Tensor, place: Tensor, *more: Tensor) -> None:
    y, _, _, abc, *numbers = inputs
    ctx.set_materialize_grads(False)
    ctx.rules, ctx.window = Rules(*numbers[:7]), list(numbers[7])
    ctx.save_for_backward(place, y, scale, shift, abc, *more)


def fire_pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    keep(ctx, inputs, inputs[1], inputs[2], output[1])


def batch_norm_fire_pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, place, _, mean, variance = output
    ctx.mark_non_differentiable(*output[1:])
    ctx.eps = inputs[-1]
    scale, shift = reference.affine(inputs[1], inputs[2], mean, variance, ctx.eps)
    keep(ctx, inputs, scale, shift, place, mean, variance)


def fire_pool_grads(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 13
    place, y, scale, shift, abc = ctx.saved_tensors
    grad_y, grad_abc, (grad_shift, grad_scale) = ops.fire_pool_backward(
        grad, place, y, scale, shift, abc, *ctx.rules, ctx.window, torch.zeros_like(scale), True, ctx.needs_input_grad[3]
    )
    return (*asked_for(ctx, grad_y, grad_scale, grad_shift, grad_abc), *[None] * 9)


def batch_norm_fire_pool_grads(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 14
    place, y, scale, shift, abc, mean, variance = ctx.saved_tensors
    grad_y, grad_abc, (grad_bias, centred) = ops.fire_pool_backward(
        grad, place, y, scale, shift, abc, *ctx.rules, ctx.window, mean, False, ctx.needs_input_grad[3]
    )
    inverse, count = torch.rsqrt(variance + ctx.eps), y.numel() // len(mean)
    grad_weight = inverse * centred
    coefficients = torch.stack([scale, -scale * inverse * grad_weight / count, -scale * grad_bias / count])
    ops.through_statistics_(grad_y, y, mean, coefficients)
    return (*asked_for(ctx, grad_y, grad_weight, grad_bias, grad_abc), *[None] * 10)


def asked_for(ctx: Any, *grads: Tensor) -> list[Tensor | None]:
    return [grad if need else None for grad, need in zip(grads, ctx.needs_input_grad, strict=False)]


def fire_pool_fake(y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    repeat, window, planes = rest[4], rest[10], rest[11]
    shape = (repeat, *pooled_shape(y.shape, *window))
    packed = y.new_empty(packed_shape(shape, planes) if planes else 0, dtype=torch.uint8)
    return empty(shape, y.dtype, True, y.device), empty(shape, torch.uint8, True, y.device), packed


def batch_norm_fire_pool_fake(y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    mean = y.new_empty(y.shape[1], dtype=torch.float32)
    return *fire_pool_fake(y, *rest[:-1]), mean, torch.empty_like(mean)


def fire_pool_backward_fake(grad: Tensor, place: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    numbers = y.new_empty(3 if rest[-1] else 0, dtype=torch.float32)
    return empty(y.shape, y.dtype, True, y.device), numbers, y.new_empty((2, y.shape[1]), dtype=torch.float32)


register("fire_pool", fire_pool_cpu, fire_pool_fake, fire_pool_grads, fire_pool_setup)
register(
    "batch_norm_fire_pool",
    batch_norm_fire_pool_cpu,
    batch_norm_fire_pool_fake,
    batch_norm_fire_pool_grads,
    batch_norm_fire_pool_setup,
)
register("fire_pool_backward", fire_pool_backward_cpu, fire_pool_backward_fake, refuse_double, None)


def fits(y: Tensor, window: Window, others: dict[str, Any]) -> bool:
    """Whether the fused operator computes this: a still image, channels inner, with nothing but neurons and pooling behind."""
    size, stride, padding = window
    plain = all(others[name] is None for name in ("shortcut", "current", "v")) and others["repeat"] and not others["keep_v"]
    small = size <= 4 if y.device.type == "cuda" else size * size <= 256  # on CUDA a window's places are unrolled
    return plain and channels_inner(y) and small and stride >= 1 and 2 * padding <= size <= min(y.shape[2:])
