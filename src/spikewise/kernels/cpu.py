"""The kernels on the CPU: batch norm, recurrence and connection in one pass over memory, in C (native/).

Forward keeps the convolution's output, nothing else of full size (AND, IAND: the shortcut, too); backward computes membranes,
spikes and slopes again, bit for bit. Sums over a channel are taken in blocks that depend on the shape alone, so that a result
depends neither on timing nor on the number of threads.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..native import load as native
from . import reference
from .connect import CONNECT, Connect
from .dynamics import Dynamics
from .surrogate import SURROGATES

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}
CONNECTS = list(CONNECT.values())
PLAIN = -1  # no connection

_lib = torch.library.Library("spikewise", "DEF")


def reason_against(like: Tensor | None = None) -> str:
    """Why these kernels cannot run here, or on such a tensor; empty if they can."""
    if like is not None and like.device.type not in ("cpu", "meta"):
        return f"they compute on the CPU, given a tensor on {like.device}"
    if like is not None and like.dtype not in DTYPES:
        return f"they take float32 and bfloat16, given {like.dtype}; use backend='reference' or 'auto'"
    return native.reason_against()


# What torch sees: operators without state --------------------------------------------------------------------------------


class Rules(NamedTuple):
    """The part of a call that is plain numbers, in the order of the operators' schemas."""

    connect: int
    repeat: int
    v_th: float
    v_reset: float | None
    surrogate: str
    alpha: float
    detach_reset: bool


RULES = "int connect, int repeat, float v_th, float? v_reset, str surrogate, float alpha, bool detach_reset"
OPTIONAL = "Tensor? shortcut, Tensor? current, Tensor? v"
_lib.define("norm_stats(Tensor y, int channel_axis) -> (Tensor mean, Tensor variance)")
_lib.define(
    f"norm_fire(Tensor y, Tensor scale, Tensor shift, Tensor abc, {OPTIONAL}, {RULES}, bool keep_v) -> (Tensor out, Tensor v)"
)
_lib.define(
    f"batch_norm_fire(Tensor y, Tensor weight, Tensor bias, Tensor abc, {OPTIONAL}, {RULES}, bool keep_v, float eps)"
    " -> (Tensor out, Tensor v, Tensor mean, Tensor variance)"
)
_lib.define(
    "norm_fire_backward(Tensor grad_out, Tensor? grad_v_end, Tensor y, Tensor scale, Tensor shift, Tensor abc,"
    f" {OPTIONAL}, {RULES}, Tensor centre, bool scaled, bool[4] wants)"
    " -> (Tensor grad_y, Tensor grad_shortcut, Tensor grad_current, Tensor grad_v, Tensor grad_abc, Tensor sums)"
)
_lib.define("through_statistics_(Tensor(a!) grad, Tensor y, Tensor centre, Tensor coefficients) -> ()")
_lib.define("max_pool(Tensor x, int size, int stride, int padding) -> (Tensor out, Tensor place)")
_lib.define("max_pool_backward(Tensor grad, Tensor place, int[] shape, int size, int stride, int padding) -> Tensor")
ops = torch.ops.spikewise


def fire(
    x: Tensor, dynamics: Dynamics, *, v: Tensor | None = None, repeat: int = 0, keep_v: bool = True
) -> tuple[Tensor, Tensor | None]:
    """As `reference.fire`."""
    shape = x.shape if repeat else x.shape[1:]
    if v is not None and v.shape != shape:
        raise ValueError(f"a membrane of {list(v.shape)} does not fit currents of {list(shape)} per time step")
    flat = x.reshape(math.prod(shape)) if repeat else x.reshape(len(x), math.prod(shape))
    one, zero = x.new_ones(1, dtype=torch.float32), x.new_zeros(1, dtype=torch.float32)
    frames = flat[..., None, None, None]  # [T, n, 1, 1, 1]: one channel
    membrane = None if v is None else v.reshape(math.prod(shape))[:, None, None, None]
    out, v_end = norm_fire(frames, one, zero, dynamics, v=membrane, repeat=repeat, keep_v=keep_v)
    return out.reshape(len(out), *shape), None if v_end is None else v_end.reshape(shape)


def norm_stats(y: Tensor, *, channel_axis: int) -> tuple[Tensor, Tensor]:
    """As `reference.norm_stats`."""
    return ops.norm_stats(y, channel_axis)


def norm_fire(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    dynamics: Dynamics,
    *,
    shortcut: Tensor | None = None,
    connect: Connect | None = None,
    current: Tensor | None = None,
    v: Tensor | None = None,
    repeat: int = 0,
    keep_v: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """As `reference.norm_fire`."""
    if current is not None and current.dtype != y.dtype:  # added in the wider of the two
        return reference.norm_fire(
            y, scale, shift, dynamics, shortcut=shortcut, connect=connect, current=current, v=v, repeat=repeat, keep_v=keep_v
        )
    inside, tensors, rules = prepared(y, dynamics, shortcut, connect, current, v, repeat)
    out, v_end = ops.norm_fire(y, scale.float(), shift.float(), coefficients(dynamics, y.device), *tensors, *rules, keep_v)
    out = out if inside or connect is None or shortcut is None else connect(out, shortcut)
    return out, v_end if keep_v else None


def batch_norm_fire(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dynamics: Dynamics,
    *,
    shortcut: Tensor | None = None,
    connect: Connect | None = None,
    current: Tensor | None = None,
    v: Tensor | None = None,
    repeat: int = 0,
    keep_v: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """As `reference.batch_norm_fire`."""
    if current is not None and current.dtype != y.dtype:  # added in the wider of the two
        options = {"shortcut": shortcut, "connect": connect, "current": current, "v": v, "repeat": repeat, "keep_v": keep_v}
        return reference.batch_norm_fire(y, weight, bias, eps, dynamics, **options)
    inside, tensors, rules = prepared(y, dynamics, shortcut, connect, current, v, repeat)
    out, v_end, mean, variance = ops.batch_norm_fire(
        y, weight.float(), bias.float(), coefficients(dynamics, y.device), *tensors, *rules, keep_v, eps
    )
    out = out if inside or connect is None or shortcut is None else connect(out, shortcut)
    return out, v_end if keep_v else None, mean, variance


def prepared(
    y: Tensor,
    dynamics: Dynamics,
    shortcut: Tensor | None,
    connect: Connect | None,
    current: Tensor | None,
    v: Tensor | None,
    repeat: int,
) -> tuple[bool, tuple[Tensor | None, Tensor | None, Tensor | None], Rules]:
    """Whether the connection is made inside, and what the operators take. A g of the user's own is applied outside."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        raise NotImplementedError(
            "spikewise's fused kernels do not run under vmap, forward-mode or other transforms of torch.func; "
            "build the network with backend='reference'"
        )
    if repeat and current is not None:
        raise ValueError(reference.SEQUENCE_OR_REPEAT)
    sequence = (repeat or len(y), *y.shape[-4:])
    fits = shortcut is not None and shortcut.dtype == y.dtype and shortcut.shape == sequence
    inside = connect in CONNECTS and fits
    rules = Rules(CONNECTS.index(connect) if inside else PLAIN, repeat, *dynamics[3:])  # type: ignore[arg-type]
    return inside, (shortcut if inside else None, current, None if v is None else v.float()), rules


def coefficients(dynamics: Dynamics, device: torch.device) -> Tensor:
    """a, b, c of E1 as one tensor [3], float32."""
    numbers = dynamics[:3]
    if not any(isinstance(number, Tensor) for number in numbers):
        return torch.tensor(numbers, dtype=torch.float32, device=device)
    tensors = [number if isinstance(number, Tensor) else torch.tensor([number], device=device) for number in numbers]
    return torch.cat([tensor.float().reshape(1) for tensor in tensors])


def max_pool(x: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """As `reference.max_pool`; backward keeps a byte per output."""
    if not channels_inner(x) or size * size > 256 or stride < 1 or 2 * padding > size:
        return reference.max_pool(x, size, stride, padding)
    return ops.max_pool(x, size, stride, padding)[0]


# What the library sees ---------------------------------------------------------------------------------------------------


class Team(ctypes.Structure):
    """Of parallel.h."""

    _fields_ = (("run", ctypes.c_void_p), ("threads", ctypes.c_int32))


class Extent(ctypes.Structure):
    """Of blocks.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("elements", "channels", "inner"))


class Neuron(ctypes.Structure):
    """Of neuron.h."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("a", "b", "c", "v_th", "v_reset", "rest", "alpha")),
        *((name, ctypes.c_int32) for name in ("surrogate", "hard", "detach_reset", "plain")),
    )


POINTERS = (
    *("scale", "shift", "y", "shortcut", "current", "v", "out", "v_end"),
    *("grad_out", "grad_v_end", "centre", "partial", "partial_abc"),
    *("grad_y", "grad_shortcut", "grad_current", "grad_v"),
)


class Call(ctypes.Structure):
    """Of norm_fire.h."""

    _fields_ = (
        ("threads", Team),
        ("space", Extent),
        ("neurons", Neuron),
        *((name, ctypes.c_int32) for name in ("steps", "repeat", "connect", "scaled")),
        *((name, ctypes.c_void_p) for name in POINTERS),
    )


class StatsCall(ctypes.Structure):
    """Of kernels.c."""

    _fields_ = (
        ("threads", Team),
        ("space", Extent),
        *((name, ctypes.c_void_p) for name in ("y", "partial", "mean", "variance")),
    )


class StatisticsCall(ctypes.Structure):
    """Of norm_fire.h."""

    _fields_ = (
        ("threads", Team),
        ("space", Extent),
        *((name, ctypes.c_void_p) for name in ("y", "grad", "centre", "direct", "linear", "constant")),
    )


class PoolCall(ctypes.Structure):
    """Of kernels.c."""

    _fields_ = (
        ("threads", Team),
        *((name, ctypes.c_int64) for name in ("images", "channels", "height", "width", "out_height", "out_width")),
        *((name, ctypes.c_int64) for name in ("size", "stride", "padding")),
        *((name, ctypes.c_void_p) for name in ("in_", "out", "place")),
    )


def run(function: str, call: ctypes.Structure) -> None:
    """Run a function of the library; Python's lock is free meanwhile."""
    getattr(native.load(native.chosen_variant()), function)(ctypes.byref(call))


def team() -> Team:
    return Team(native.gomp_parallel(), native.threads())


def channels_inner(image: Tensor) -> bool:
    """Whether [N, C, H, W] lies in memory with its channels beside each other."""
    return image.is_contiguous(memory_format=torch.channels_last)


def laid_out(x: Tensor, inner: bool) -> Tensor:
    """The same values, dense, channels inner or outer; no copy where they lie so already. [T, N, C, H, W] or [N, C, H, W]"""
    layout = torch.channels_last if inner else torch.contiguous_format
    if x.dim() == 4:
        return x.contiguous(memory_format=layout)
    return x.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, x.shape[:2])


def empty(shape: Sequence[int], dtype: torch.dtype, inner: bool, device: torch.device | str = "cpu") -> Tensor:
    """Memory for [T, N, C, H, W] or [N, C, H, W] in this layout."""
    layout = torch.channels_last if inner else torch.contiguous_format
    if len(shape) == 4:
        return torch.empty(shape, dtype=dtype, memory_format=layout, device=device)
    _, N, C, H, W = shape
    strides = (N * C * H * W, C * H * W, *((1, W * C, C) if inner else (H * W, W, 1)))
    return torch.empty_strided(tuple(shape), strides, dtype=dtype, device=device)  # no view: it may be changed in place


def nothing() -> Tensor:
    return torch.empty(0, device="cpu")


def pointer(x: Tensor | None) -> int | None:
    return None if x is None or x.numel() == 0 else x.data_ptr()


def extent(shape: Sequence[int], inner: bool) -> Extent:
    """Of images [N, C, H, W]."""
    return Extent(math.prod(shape), shape[1], 1 if inner else math.prod(shape[2:]))


def prepare_call(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    rules: Rules,
) -> tuple[Call, bool, list[Tensor]]:
    """A call with all that forward and backward share; whether channels are inner; what must stay alive until it is made."""
    steps = rules.repeat or len(y)
    frame, channels = y.shape[-4:], y.shape[-3:-2]
    require_shape("y", y, frame if rules.repeat else (steps, *frame))
    for name, tensor, shape in (
        ("scale", scale, channels),
        ("shift", shift, channels),
        ("shortcut", shortcut, (steps, *frame)),
        ("current", current, (steps, *frame)),
        ("v", v, frame),
    ):
        require_shape(name, tensor, shape)
    inner = channels_inner(y if y.dim() == 4 else y.flatten(0, 1))
    call = Call(team(), extent(y.shape[-4:], inner))
    a, b, c = abc.tolist()
    call.neurons = Neuron(
        a,
        b,
        c,
        rules.v_th,
        rules.v_reset or 0.0,
        rules.v_reset or 0.0,
        rules.alpha,
        list(SURROGATES).index(rules.surrogate),
        rules.v_reset is not None,
        rules.detach_reset,
        (a, b, c) == (1.0, 1.0, 0.0),
    )
    call.steps, call.repeat, call.connect = steps, bool(rules.repeat), rules.connect + 1
    alive = [scale.contiguous(), shift.contiguous()]
    call.scale, call.shift = map(pointer, alive)
    for name, tensor in (("y", y), ("shortcut", shortcut), ("current", current), ("v", v)):
        if tensor is not None:
            alive.append(laid_out(tensor, inner))
            setattr(call, name, pointer(alive[-1]))
    return call, inner, alive


def require_shape(name: str, tensor: Tensor | None, shape: Sequence[int]) -> None:
    """Refuse what C would read beyond its end."""
    if tensor is not None and tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} is {list(tensor.shape)}, {list(shape)} would fit")


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


def partial_rows(space: Extent) -> int:
    function = native.load(native.chosen_variant()).partial_rows
    function.restype = ctypes.c_int64
    return function(ctypes.byref(space))


def sums_of(partial: Tensor) -> Tensor:
    """Sums over the first axis, in its order, in double precision."""
    sums = torch.empty(partial.shape[1:], device="cpu")
    add_rows = native.load(native.chosen_variant()).add_rows
    add_rows.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    add_rows(partial.data_ptr(), len(partial), sums.numel(), sums.data_ptr())
    return sums


def norm_fire_cpu(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    *rules_and_keep: Any,
) -> tuple[Tensor, Tensor]:
    *numbers, keep_v = rules_and_keep
    rules = Rules(*numbers)
    call, inner, _alive = prepare_call(y, scale, shift, abc, shortcut, current, v, rules)
    out = empty((call.steps, *y.shape[-4:]), y.dtype, inner)
    v_end = empty(y.shape[-4:], torch.float32, inner) if keep_v else nothing()
    call.out, call.v_end = pointer(out), pointer(v_end)
    run(f"norm_fire_{DTYPES[y.dtype]}", call)
    return out, v_end


def batch_norm_fire_cpu(
    y: Tensor, weight: Tensor, bias: Tensor, abc: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *others, eps = rest
    mean, variance = norm_stats_cpu(y, y.dim() - 3)
    scale, shift = reference.affine(weight, bias, mean, variance, eps)
    out, v_end = norm_fire_cpu(y, scale, shift, abc, *others)
    return out, v_end, mean, variance


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


def max_pool_cpu(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    x = x.contiguous(memory_format=torch.channels_last)
    out = empty(pooled_shape(x.shape, size, stride, padding), x.dtype, inner=True)
    place = torch.empty_like(out, dtype=torch.uint8)
    run(f"max_pool_{DTYPES[x.dtype]}", pool_call(x, out, place, size, stride, padding))
    return out, place


def max_pool_backward_cpu(grad: Tensor, place: Tensor, shape: Sequence[int], size: int, stride: int, padding: int) -> Tensor:
    grad = grad.contiguous(memory_format=torch.channels_last)
    grad_in = empty(shape, grad.dtype, inner=True)
    run(f"max_pool_backward_{DTYPES[grad.dtype]}", pool_call(grad_in, grad, place, size, stride, padding))
    return grad_in


def pool_call(x: Tensor, out: Tensor, place: Tensor, size: int, stride: int, padding: int) -> PoolCall:
    return PoolCall(team(), *x.shape, *out.shape[2:], size, stride, padding, *map(pointer, (x, out, place)))


def pooled_shape(shape: Sequence[int], size: int, stride: int, padding: int) -> tuple[int, ...]:
    return (*shape[:2], *((length + 2 * padding - size) // stride + 1 for length in shape[2:]))


# What autograd and the tracing of graphs see -----------------------------------------------------------------------------


def saved(ctx: Any, inputs: tuple[Any, ...], scale: Tensor, shift: Tensor, *more: Tensor) -> None:
    """Keep for backward what both operators keep."""
    y, _, _, abc, shortcut, current, v, *numbers = inputs
    ctx.set_materialize_grads(False)
    ctx.rules = Rules(*numbers[:7])
    # the gradient passes ADD unchanged, whatever the shortcut was
    kept = shortcut if ctx.rules.connect > 0 else None
    ctx.save_for_backward(y, scale, shift, abc, kept, current, v, *more)


def norm_fire_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    saved(ctx, inputs, inputs[1], inputs[2])


def batch_norm_fire_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, mean, variance = output
    ctx.mark_non_differentiable(mean, variance)
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
    inner = channels_inner(y if y.dim() == 4 else y.flatten(0, 1))
    return empty((rules.repeat or len(y), *y.shape[-4:]), y.dtype, inner).zero_()


def norm_fire_grads(ctx: Any, grad_out: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
    y, scale, shift, *tensors = ctx.saved_tensors
    grad_out = complete(grad_out, y, ctx.rules)
    grad_y, *found, (grad_shift, grad_scale) = ops.norm_fire_backward(
        grad_out, of_membrane(grad_v), y, scale, shift, *tensors, *ctx.rules, torch.zeros_like(scale), True, wanted(ctx)
    )
    return (*gradients(ctx, grad_out, grad_y, (grad_scale, grad_shift), found), *[None] * 8)


def batch_norm_fire_grads(ctx: Any, grad_out: Tensor | None, grad_v: Tensor | None, *_: Any) -> tuple[Any, ...]:
    y, scale, shift, abc, shortcut, current, v, mean, variance = ctx.saved_tensors
    grad_out = complete(grad_out, y, ctx.rules)
    # first the gradient at the normalised y, and its sums over each channel; then, from those, what the statistics add
    grad_y, *found, (grad_bias, centred) = ops.norm_fire_backward(
        grad_out, of_membrane(grad_v), y, scale, shift, abc, shortcut, current, v, *ctx.rules, mean, False, wanted(ctx)
    )
    inverse, count = torch.rsqrt(variance + ctx.eps), y.numel() // len(mean)
    grad_weight = inverse * centred
    coefficients = torch.stack([scale, -scale * inverse * grad_weight / count, -scale * grad_bias / count])
    ops.through_statistics_(grad_y, y, mean, coefficients)
    return (*gradients(ctx, grad_out, grad_y, (grad_weight, grad_bias), found), *[None] * 9)


def norm_stats_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0], output[0])
    ctx.channel_axis = inputs[1]


def norm_stats_grads(ctx: Any, grad_mean: Tensor, grad_variance: Tensor) -> tuple[Any, ...]:
    y, mean = ctx.saved_tensors
    shape = [-1 if axis == ctx.channel_axis else 1 for axis in range(y.dim())]
    count = y.numel() // len(mean)
    grad = (grad_mean.reshape(shape) + 2 * grad_variance.reshape(shape) * (y.float() - mean.reshape(shape))) / count
    return grad.to(y.dtype), None


def max_pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, *ctx.window = inputs
    ctx.shape = x.shape
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def max_pool_grads(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Any, ...]:
    if grad is None:
        return None, None, None, None
    return ops.max_pool_backward(grad, ctx.saved_tensors[0], list(ctx.shape), *ctx.window), None, None, None


def norm_stats_fake(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    mean = y.new_empty(y.shape[channel_axis], dtype=torch.float32)
    return mean, torch.empty_like(mean)


def norm_fire_fake(y: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    rules, keep_v = Rules(*rest[6:13]), rest[13]
    inner = channels_inner(y if y.dim() == 4 else y.flatten(0, 1))
    out = empty_like((rules.repeat or len(y), *y.shape[-4:]), y, y.dtype, inner)
    return out, empty_like(y.shape[-4:], y, torch.float32, inner) if keep_v else y.new_empty(0, dtype=torch.float32)


def empty_like(shape: Sequence[int], y: Tensor, dtype: torch.dtype, inner: bool) -> Tensor:
    return empty(shape, dtype, inner, y.device)


def batch_norm_fire_fake(y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return *norm_fire_fake(y, *rest[:-1]), *norm_stats_fake(y, y.dim() - 3)


def norm_fire_backward_fake(grad_out: Tensor, grad_v: Tensor | None, y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    rules, (_, _, wants) = Rules(*rest[6:13]), rest[13:]
    inner = channels_inner(y if y.dim() == 4 else y.flatten(0, 1))
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


def max_pool_fake(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    shape = pooled_shape(x.shape, size, stride, padding)
    return empty_like(shape, x, x.dtype, inner=True), empty_like(shape, x, torch.uint8, inner=True)


def max_pool_backward_fake(grad: Tensor, place: Tensor, shape: Sequence[int], *_: int) -> Tensor:
    return empty_like(shape, grad, grad.dtype, inner=True)


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
register("max_pool", max_pool_cpu, max_pool_fake, max_pool_grads, max_pool_setup)
register("max_pool_backward", max_pool_backward_cpu, max_pool_backward_fake, refuse_double, None)
