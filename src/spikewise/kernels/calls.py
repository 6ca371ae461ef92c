"""Calls of the C library as Python makes them: its structures, memory in the right layout, and what is checked before."""

import ctypes
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..native import load as native
from .surrogate import SURROGATES

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Rules(NamedTuple):
    """The part of a call that is plain numbers, in the order of the operators' schemas."""

    connect: int
    repeat: int
    v_th: float
    v_reset: float | None
    surrogate: str
    alpha: float
    detach_reset: bool


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


class Planes(ctypes.Structure):
    """Of packing.h."""

    _fields_ = (("packed", ctypes.c_void_p), ("row", ctypes.c_int64), ("planes", ctypes.c_int64))


class PackingCall(ctypes.Structure):
    """Of packing.h."""

    _fields_ = (
        ("threads", Team),
        *((name, ctypes.c_int64) for name in ("steps", "elements")),
        ("to", Planes),
        ("values", ctypes.c_void_p),
    )


FORWARD = ("scale", "shift", "y", "shortcut", "current", "v", "out", "v_end")
BACKWARD = (
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
        *((name, ctypes.c_void_p) for name in FORWARD),
        ("planes", Planes),
        *((name, ctypes.c_void_p) for name in BACKWARD),
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


def outputs_inner(y: Tensor) -> bool:
    """Whether what is computed of y [T, N, C, H, W] or [N, C, H, W] has its channels inner: as y on the CPU, always on CUDA."""
    return y.device.type == "cuda" or channels_inner(y if y.dim() == 4 else y.flatten(0, 1))


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


def pool_call(x: Tensor, out: Tensor, place: Tensor, size: int, stride: int, padding: int) -> PoolCall:
    return PoolCall(team(), *x.shape, *out.shape[2:], size, stride, padding, *map(pointer, (x, out, place)))


def pooled_shape(shape: Sequence[int], size: int, stride: int, padding: int) -> tuple[int, ...]:
    return (*shape[:2], *((length + 2 * padding - size) // stride + 1 for length in shape[2:]))
