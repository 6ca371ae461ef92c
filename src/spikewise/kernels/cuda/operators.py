"""The fused operators on CUDA, as Triton compiles them: what torch.ops.spikewise.* runs there.

Functions take what the operators' schemas list, in that order. Whatever layout a tensor comes in, it is read channels last, and
outputs are channels last. Nothing waits for the device: the coefficients of E1 are read there.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..calls import Rules, empty, laid_out, require_shape
from .launch import (
    CHUNK,
    DEPTH,
    bits,
    chunks_of,
    groups,
    launch,
    nothing,
    per_channel,
    shared_out,
    sums_of,
    tile_of_backward,
    tiling,
    unit,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@torch.compiler.assume_constant_result
def found() -> bool:
    return importlib.util.find_spec("triton") is not None


@torch.compiler.assume_constant_result
def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def reason_against(like: Tensor | None = None) -> str:
    """Why these kernels cannot run here, or on such a tensor; empty if they can."""
    if like is None or not found():
        return machine_reason()
    if like.device.type != "cuda" and not (interpreted() and like.device.type == "cpu"):
        return f"they compute on CUDA, given a tensor on {like.device}"
    if like.dtype not in DTYPES:
        return f"they take float32, float16 and bfloat16, given {like.dtype}; use backend='reference' or 'auto'"
    return machine_reason() if like.device.type == "cuda" else ""


@torch.compiler.assume_constant_result  # what compiles networks need not look into this
def machine_reason() -> str:
    """Why this machine cannot run these kernels."""
    if not found():
        return "Triton is not installed (PyTorch for CUDA brings it along)"
    if not torch.cuda.is_available():
        return "" if interpreted() else "PyTorch sees no CUDA device"
    able = torch.cuda.get_device_capability()
    if able < (8, 0):
        return f"Triton compiles for NVIDIA GPUs of compute capability 8.0 or more, this one has {able[0]}.{able[1]}"
    return ""


def prepared(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    rules: Rules,
) -> tuple[int, list[Tensor | None]]:
    """The number of steps, and the tensors as kernels read them: channels last, numbers per channel in float32."""
    frame, channels = y.shape[-4:], y.shape[-3:-2]
    steps = rules.repeat or len(y)
    sequence = (steps, *frame)
    given = (
        ("y", y, frame if rules.repeat else sequence),
        ("scale", scale, channels),
        ("shift", shift, channels),
        ("abc", abc, (3,)),
        ("shortcut", shortcut, sequence),
        ("current", current, sequence),
        ("v", v, frame),
    )
    for name, tensor, shape in given:
        require_shape(name, tensor, shape)
    maybe = [None if x is None else laid_out(x, inner=True) for x in (shortcut, current, None if v is None else v.float())]
    if rules.connect < 0:
        maybe[0] = None
    return steps, [laid_out(y, inner=True), *map(per_channel, (scale, shift, abc)), *maybe]


def norm_fire(
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    *rules_and_rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `operators.norm_fire`: rules, keep_v, planes -> output, membrane after the last step, packed output."""
    from .forward_kernels import norm_fire_kernel

    *numbers, keep_v, planes = rules_and_rest
    rules = Rules(*numbers)
    steps, tensors = prepared(y, scale, shift, abc, shortcut, current, v, rules)
    frame = y.shape[-4:]
    out = empty((steps, *frame), y.dtype, inner=True, device=y.device)
    v_end = empty(frame, torch.float32, inner=True, device=y.device) if keep_v else nothing(y)
    n = frame.numel()
    packed = bits(steps, planes, n, y.device)
    chunks, last = chunks_of(steps)
    size = groups(steps, y.dtype)
    launch(
        norm_fire_kernel,
        -(-n // (size * 8)),
        y.device,
        *tensors,
        out,
        v_end if keep_v else None,
        packed if planes else None,
        n,
        frame[1],
        chunks,
        rules.v_th,
        rules.v_reset or 0.0,
        CHUNK=CHUNK,
        STEPS=last,
        LONG=chunks > 0,
        REPEAT=bool(rules.repeat),
        CONNECT=rules.connect,
        HARD=rules.v_reset is not None,
        PLANES=planes,
        ALIGN=unit(frame[1]),
        UNIT=unit(n),
        GROUPS=size,
    )
    return out, v_end, packed


def norm_fire_backward(
    grad_out: Tensor,
    grad_v_end: Tensor | None,
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    *rules_and_rest: Any,
) -> tuple[Tensor, ...]:
    """As `operators.norm_fire_backward`: rules, centre, scaled, wants -> gradients and sums [2, C]."""
    *numbers, centre, scaled, wants = rules_and_rest
    rules = Rules(*numbers)
    require_shape("grad_out", grad_out, (rules.repeat or len(y), *y.shape[-4:]))
    return backward(grad_out, grad_v_end, y, scale, shift, abc, shortcut, current, v, rules, centre, scaled, wants)


def backward(
    grad_out: Tensor,
    grad_v_end: Tensor | None,
    y: Tensor,
    scale: Tensor,
    shift: Tensor,
    abc: Tensor,
    shortcut: Tensor | None,
    current: Tensor | None,
    v: Tensor | None,
    rules: Rules,
    centre: Tensor,
    scaled: bool,
    wants: Sequence[bool],
    place: Tensor | None = None,
    window: tuple[int, ...] | None = None,
) -> tuple[Tensor, ...]:
    """`norm_fire_backward`; or, with the `place` of a max pooling behind the spikes, from the gradient of what was pooled."""
    from .backward_kernels import norm_fire_backward_kernel

    if rules.connect <= 0:
        shortcut = None  # the gradient passes ADD unchanged
    steps, tensors = prepared(y, scale, shift, abc, shortcut, current, v, rules)
    frame, device = y.shape[-4:], y.device
    sequence, channels, n = (steps, *frame), frame[1], frame.numel()
    require_shape("grad_v", grad_v_end, frame)
    require_shape("centre", centre, (channels,))
    want_shortcut, want_current, want_v, want_abc = wants
    grad_y = empty(y.shape, y.dtype, True, device)
    grad_shortcut = empty(sequence, y.dtype, True, device) if want_shortcut else None
    grad_current = empty(sequence, y.dtype, True, device) if want_current else None
    grad_v = empty(frame, torch.float32, True, device) if want_v else None
    chunks, last = chunks_of(steps)
    rows, columns, blocks = tiling(channels, tile_of_backward(steps, y.dtype))
    parts, tiles = shared_out(-(-n // max(1, channels) // rows), blocks)
    partial = torch.empty(parts, 2, channels, dtype=torch.float32, device=device)
    partial_abc = torch.empty(parts * blocks, 3, dtype=torch.float32, device=device) if want_abc else None
    launch(
        norm_fire_backward_kernel,
        parts * blocks,
        device,
        *tensors,
        laid_out(grad_out.to(y.dtype), inner=True),
        None if grad_v_end is None else laid_out(grad_v_end.float(), inner=True),
        per_channel(centre),
        grad_y,
        grad_shortcut,
        grad_current,
        grad_v,
        torch.empty(chunks, n, dtype=torch.float32, device=device) if chunks else None,
        partial,
        partial_abc,
        None if place is None else laid_out(place, inner=True),
        n,
        channels,
        *frame[2:],
        *grad_out.shape[-2:],
        blocks,
        chunks,
        tiles,
        rules.v_th,
        rules.v_reset or 0.0,
        rules.alpha,
        CHUNK=CHUNK,
        STEPS=last,
        LONG=chunks > 0,
        REPEAT=bool(rules.repeat),
        CONNECT=rules.connect,
        HARD=rules.v_reset is not None,
        DETACH=rules.detach_reset,
        SURROGATE=rules.surrogate,
        SCALED=scaled,
        WANT_ABC=want_abc,
        WINDOW=window,
        UNIT=unit(n),
        ROWS=rows,
        COLUMNS=columns,
    )
    found = [nothing(y) if x is None else x for x in (grad_shortcut, grad_current, grad_v)]
    return grad_y, *found, nothing(y) if partial_abc is None else sums_of(partial_abc), sums_of(partial)


def norm_stats(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """As `operators.norm_stats`."""
    from .statistics_kernels import combine_stats_kernel, norm_stats_kernel

    channels = y.shape[channel_axis]
    mean, variance = (torch.empty(channels, dtype=torch.float32, device=y.device) for _ in range(2))
    if not y.numel():
        return mean.fill_(torch.nan), variance.fill_(torch.nan)
    if y.dim() not in (4, 5) or channel_axis != y.dim() - 3:  # any shape: as rows of channels
        axes = [axis for axis in range(y.dim()) if axis != channel_axis]
        y = y.permute(*axes, channel_axis).reshape(-1, channels, 1, 1)
    y = laid_out(y, inner=True)
    rows, columns, blocks = tiling(channels, 512 if y.dtype == torch.float32 else 1024)
    tiles = -(-y.numel() // channels // (rows * DEPTH))
    parts, groups_each = shared_out(tiles, blocks)
    partial = torch.empty(parts, 2, channels, dtype=torch.float64, device=y.device)
    size, total = {"ROWS": rows, "COLUMNS": columns}, y.numel() // channels
    launch(norm_stats_kernel, parts * blocks, y.device, y, partial, total, channels, blocks, groups_each, DEPTH=DEPTH, **size)
    size = {"ROWS": 64, "COLUMNS": 8}
    each = groups_each * DEPTH * rows
    launch(combine_stats_kernel, -(-channels // 8), y.device, partial, mean, variance, total, channels, parts, each, **size)
    return mean, variance


def through_statistics_(grad: Tensor, y: Tensor, centre: Tensor, coefficients: Tensor) -> None:
    """As `operators.through_statistics_`."""
    from .statistics_kernels import through_statistics_kernel

    n, size = y.numel(), groups(1, y.dtype)
    dense = laid_out(grad, inner=True)
    launch(
        through_statistics_kernel,
        -(-n // (size * 8)),
        y.device,
        dense,
        laid_out(y, inner=True),
        per_channel(centre),
        per_channel(coefficients),
        n,
        y.shape[-3],
        ALIGN=unit(y.shape[-3]),
        UNIT=unit(n),
        GROUPS=size,
    )
    if dense.data_ptr() != grad.data_ptr():
        grad.copy_(dense)
