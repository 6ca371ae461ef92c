"""Packing and max pooling on CUDA: what torch.ops.spikewise.* runs there, as in operators.py."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..calls import Rules, empty, laid_out, pooled_shape, require_shape
from .launch import bits, groups, launch, unit
from .operators import backward, prepared

BLOCK = 512


def frames_of(shape: Sequence[int]) -> tuple[int, int]:
    """Time steps of [T, N, C, H, W], or one of [N, C, H, W]; values of each."""
    return (1 if len(shape) == 4 else shape[0]), math.prod(shape[-4:])


def pack(x: Tensor, planes: int) -> Tensor:
    """Integers below 2^planes as bits [T, planes, ceil(N C H W / 8)]: bit j of byte i of plane p is bit p of value 8i + j.

    Shapes:  x [T, N, C, H, W], or [N, C, H, W] with T = 1; values count in memory's order, channels last
    """
    from .packing_kernels import pack_kernel

    steps, n = frames_of(x.shape)
    packed = bits(steps, planes, n, x.device)
    size = groups(1, x.dtype)
    grid = (-(-n // (size * 8)), steps)
    launch(pack_kernel, grid, x.device, laid_out(x, inner=True), packed, n, PLANES=planes, UNIT=unit(n), GROUPS=size)
    return packed


def unpack(packed: Tensor, shape: Sequence[int], planes: int, dtype: torch.dtype) -> Tensor:
    """What `pack` was given, channels last."""
    from .packing_kernels import unpack_kernel

    steps, n = frames_of(shape)
    require_shape("packed", packed, (steps, planes, -(-n // 8)))
    x = empty(shape, dtype, inner=True, device=packed.device)
    size = groups(1, dtype)
    grid = (-(-n // (size * 8)), steps)
    launch(unpack_kernel, grid, packed.device, packed.contiguous(), x, n, PLANES=planes, UNIT=unit(n), GROUPS=size)
    return x


def max_pool(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """As `operators.max_pool`."""
    from .pooling_kernels import max_pool_kernel

    x = laid_out(x, inner=True)
    shape = pooled_shape(x.shape, size, stride, padding)
    out, place = (empty(shape, dtype, True, x.device) for dtype in (x.dtype, torch.uint8))
    each = -(-math.prod(shape[1:]) // BLOCK)
    sizes = (*x.shape[2:], *shape[2:], x.shape[1], each)
    launch(max_pool_kernel, each * len(x), x.device, x, out, place, *sizes, WINDOW=(size, stride, padding), BLOCK=BLOCK)
    return out, place


def max_pool_backward(grad: Tensor, place: Tensor, shape: Sequence[int], size: int, stride: int, padding: int) -> Tensor:
    """As `operators.max_pool_backward`."""
    from .pooling_kernels import max_pool_backward_kernel

    grad_in = empty(shape, grad.dtype, True, grad.device)
    grad, place = laid_out(grad, inner=True), laid_out(place, inner=True)
    each = -(-math.prod(shape[1:]) // BLOCK)
    sizes = (*shape[2:], *grad.shape[2:], shape[1], each)
    launch(
        max_pool_backward_kernel,
        each * shape[0],
        grad.device,
        grad,
        place,
        grad_in,
        *sizes,
        WINDOW=(size, stride, padding),
        BLOCK=BLOCK,
    )
    return grad_in


def fire_pool(y: Tensor, scale: Tensor, shift: Tensor, abc: Tensor, *rules_and_window: Any) -> tuple[Tensor, Tensor]:
    """As `pooled.fire_pool`: rules, window -> pooled spikes, and which place of its window each came from."""
    from .pooling_kernels import fire_pool_kernel

    *numbers, (size, stride, padding) = rules_and_window
    rules = Rules(*numbers)
    steps, (frames, scale, shift, abc, *_) = still(y, scale, shift, abc, rules)
    shape = pooled_shape(y.shape, size, stride, padding)
    out, place = (empty((steps, *shape), dtype, True, y.device) for dtype in (y.dtype, torch.uint8))
    block = BLOCK // 2  # a neuron's membrane for each place of the window
    each = -(-math.prod(shape[1:]) // block)
    launch(
        fire_pool_kernel,
        each * len(y),
        y.device,
        frames,
        scale,
        shift,
        abc,
        out,
        place,
        *y.shape[2:],
        *shape[2:],
        y.shape[1],
        each,
        steps,
        len(y),
        rules.v_th,
        rules.v_reset or 0.0,
        HARD=rules.v_reset is not None,
        WINDOW=(size, stride, padding),
        BLOCK=block,
    )
    return out, place


def fire_pool_backward(
    grad: Tensor, place: Tensor, y: Tensor, scale: Tensor, shift: Tensor, abc: Tensor, *rules_and_rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """As `pooled.fire_pool_backward`: rules, window, centre, scaled, want_abc -> gradients of y and abc, sums [2, C]."""
    *numbers, window, centre, scaled, want_abc = rules_and_rest
    rules = Rules(*numbers)
    shape = (rules.repeat, *pooled_shape(y.shape, *window))
    require_shape("grad", grad, shape)
    require_shape("place", place, shape)
    wants = (False, False, False, want_abc)
    grad_y, *_, grad_abc, sums = backward(
        grad, None, y, scale, shift, abc, None, None, None, rules, centre, scaled, wants, place, tuple(window)
    )
    return grad_y, grad_abc, sums


def still(y: Tensor, scale: Tensor, shift: Tensor, abc: Tensor, rules: Rules) -> tuple[int, list[Any]]:
    if not rules.repeat:
        raise ValueError("fire_pool takes still images; use norm_fire and max_pool")
    return prepared(y, scale, shift, abc, None, None, None, rules)
