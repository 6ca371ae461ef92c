"""The fused operation on CUDA: statistics, forward and backward, with the max pooling of a stem where one follows.

Whatever layout a tensor comes in, it is read channels last, and outputs are channels last. Nothing waits for the device: the
coefficients of E1 are read there.
"""

import torch
from torch import Tensor

from ..layout import empty, require_shapes, to_layout
from ..ops import placeholder
from ..spec import Connect, FireBackwardOutput, FireGrads, FireOutput, FireSpec, FireTensors, GradSpec
from .launch import (
    FORWARD_STEPS,
    FP32_STEPS,
    STEPS_PER_CHUNK,
    backward_tile,
    divisibility,
    empty_planes,
    groups_per_program,
    launch,
    split_chunks,
    split_tiles,
    sum_rows,
    tiling,
    to_float32_contiguous,
)
from .max_pool import fire_pool


def prepare_tensors(tensors: FireTensors, spec: FireSpec, grads: FireGrads | None = None) -> FireTensors:
    """As kernels read them: channels last, numbers per channel in float32."""
    require_shapes(tensors, spec, grads)
    dense = {
        name: None if x is None else to_layout(x, channels_last=True)
        for name, x in (
            ("y", tensors.y),
            ("shortcut", tensors.shortcut if spec.connect else None),
            ("current", tensors.current),
            ("v", None if tensors.v is None else tensors.v.float()),
        )
    }
    numbers = {name: getattr(tensors, name) for name in ("scale", "shift", "coefficients")}
    return FireTensors(**dense, **{name: None if x is None else to_float32_contiguous(x) for name, x in numbers.items()})  # type: ignore[arg-type]


def norm_fire(tensors: FireTensors, spec: FireSpec) -> FireOutput:
    y, frame, steps = tensors.y, tensors.y.shape[-4:], spec.repeat_steps or len(tensors.y)
    if spec.pool is not None:
        return fire_pool(prepare_tensors(tensors, spec), spec)
    from .device.norm_fire import norm_fire_kernel

    prepared = prepare_tensors(tensors, spec)
    out = empty((steps, *frame), y.dtype, channels_last=True, device=y.device)
    v_last = empty(frame, torch.float32, channels_last=True, device=y.device) if spec.return_membrane else placeholder(y)
    n = frame.numel()
    planes = empty_planes(steps, spec.num_planes, n, y.device)
    chunks, last = split_chunks(steps, FORWARD_STEPS)
    groups = groups_per_program(y.dtype)
    launch(
        norm_fire_kernel,
        -(-n // (groups * 8)),
        y.device,
        *prepared,
        out,
        v_last if spec.return_membrane else None,
        planes if spec.num_planes else None,
        n,
        frame[1],
        chunks,
        spec.a,
        spec.b,
        spec.c,
        spec.v_th,
        spec.v_rest,
        STEPS_PER_CHUNK=FORWARD_STEPS,
        STEPS=last,
        LONG=chunks > 0,
        REPEAT=bool(spec.repeat_steps),
        CONNECT=int(spec.connect),
        HARD_RESET=spec.hard_reset,
        PLANES=spec.num_planes,
        ALIGN=divisibility(frame[1]),
        UNIT=divisibility(n),
        GROUPS=groups,
    )
    return FireOutput(out, v_last, planes, placeholder(y, torch.uint8))


def norm_fire_backward(grads: FireGrads, tensors: FireTensors, spec: FireSpec, want: GradSpec) -> FireBackwardOutput:
    from .device.norm_fire_backward import norm_fire_backward_kernel

    y, frame, device, steps = tensors.y, tensors.y.shape[-4:], tensors.y.device, spec.repeat_steps or len(tensors.y)
    sequence, channels, n = (steps, *frame), frame[1], frame.numel()
    if spec.connect == Connect.ADD:
        spec, tensors = spec._replace(connect=Connect.NONE), tensors._replace(shortcut=None)  # the gradient passes unchanged

    def wanted(yes: bool, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        return empty(shape, dtype, True, device) if yes else None

    grad_y = empty(y.shape, y.dtype, True, device)
    grad_shortcut = wanted(want.want_shortcut, sequence, y.dtype)
    grad_current = wanted(want.want_current, sequence, y.dtype)
    grad_v = wanted(want.want_v, frame, torch.float32)
    chunks, last = split_chunks(steps, STEPS_PER_CHUNK)
    size, registers = backward_tile(steps, y.dtype, spec.connect, spec.pool is not None or want.want_coefficients)
    rows, columns, blocks = tiling(channels, size)
    parts, tiles = split_tiles(-(-n // max(1, channels) // rows), blocks)
    partial = torch.empty(parts, 2, channels, dtype=torch.float32, device=device)
    partial_coefficients = None
    if want.want_coefficients:
        partial_coefficients = torch.empty(parts * blocks, 3, dtype=torch.float32, device=device)
    launch(
        norm_fire_backward_kernel,
        parts * blocks,
        device,
        *prepare_tensors(tensors, spec, grads),
        to_layout(grads.grad_out.to(y.dtype), channels_last=True),
        None if grads.grad_v_last is None else to_layout(grads.grad_v_last.float(), channels_last=True),
        to_float32_contiguous(grads.mean),
        grad_y,
        grad_shortcut,
        grad_current,
        grad_v,
        torch.empty(chunks, n, dtype=torch.float32, device=device) if chunks else None,
        partial,
        partial_coefficients,
        None if grads.pool_indices is None else to_layout(grads.pool_indices, channels_last=True),
        n,
        channels,
        *frame[2:],
        *grads.grad_out.shape[-2:],
        blocks,
        chunks,
        tiles,
        spec.a,
        spec.b,
        spec.c,
        spec.v_th,
        spec.v_rest,
        spec.alpha,
        STEPS_PER_CHUNK=STEPS_PER_CHUNK,
        STEPS=last,
        LONG=chunks > 0,
        REPEAT=bool(spec.repeat_steps),
        CONNECT=int(spec.connect),
        HARD_RESET=spec.hard_reset,
        DETACH=spec.detach_reset,
        SURROGATE=int(spec.surrogate),
        WANT_COEFFICIENTS=want.want_coefficients,
        WINDOW=None if spec.pool is None else tuple(spec.pool),
        UNIT=divisibility(n),
        ROWS=rows,
        COLUMNS=columns,
        maxnreg=registers,
    )
    return FireBackwardOutput(
        grad_y,
        placeholder(y, y.dtype) if grad_shortcut is None else grad_shortcut,
        placeholder(y, y.dtype) if grad_current is None else grad_current,
        placeholder(y) if grad_v is None else grad_v,
        placeholder(y) if partial_coefficients is None else sum_rows(partial_coefficients),
        channel_grads(partial, tensors.scale, grads.inverse_std),
    )


def channel_grads(partial: Tensor, scale: Tensor, inverse_std: Tensor) -> Tensor:
    """As `reference.channel_grads`, of partial sums [parts, 2, C]."""
    from .device.batch_norm import combine_grads_kernel

    parts, _, channels = partial.shape
    grads, columns = torch.empty(4, channels, dtype=torch.float32, device=partial.device), 8
    given = (partial, to_float32_contiguous(scale), to_float32_contiguous(inverse_std), grads)
    launch(combine_grads_kernel, -(-channels // columns), partial.device, *given, parts, channels, ROWS=128, COLUMNS=columns)
    return grads


def norm_stats(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """As `reference.norm_stats`."""
    if y.dim() not in (4, 5) or channel_axis != y.dim() - 3:  # any shape: as rows of channels
        axes = [axis for axis in range(y.dim()) if axis != channel_axis]
        y = y.permute(*axes, channel_axis).reshape(-1, y.shape[channel_axis], 1, 1)
    mean, variance = take_stats(y)
    return mean, variance.clone()  # no two outputs of an operator share memory


def batch_norm_affine(y: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """As on the CPU."""
    return take_stats(y, to_float32_contiguous(weight), to_float32_contiguous(bias), eps)


def take_stats(y: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0.0) -> Tensor:
    """Mean and variance of y [..., C, H, W], and with a weight the batch norm with these: [2, C] or [5, C]."""
    from .device.batch_norm import combine_stats_kernel, norm_stats_kernel

    channels = y.shape[-3]
    stats = torch.empty(2 if weight is None else 5, channels, dtype=torch.float32, device=y.device)
    if not y.numel():
        return stats.fill_(torch.nan)
    y = to_layout(y, channels_last=True)
    rows, columns, blocks = tiling(channels, 512 if y.dtype == torch.float32 else 1024)
    total = y.numel() // channels
    parts, groups = split_tiles(-(-total // (rows * FP32_STEPS)), blocks)
    partial = torch.empty(parts, 2, channels, dtype=torch.float64, device=y.device)
    sizes, tile = (total, channels, blocks, groups), {"ROWS": rows, "COLUMNS": columns}
    launch(norm_stats_kernel, parts * blocks, y.device, y, partial, *sizes, FP32_STEPS=FP32_STEPS, **tile)
    given = (partial, weight, bias, stats, total, channels, parts, groups * FP32_STEPS * rows, eps)
    launch(combine_stats_kernel, -(-channels // 4), y.device, *given, ROWS=256, COLUMNS=4)
    return stats


def batch_norm_backward_(grad: Tensor, y: Tensor, mean: Tensor, grad_mean: Tensor, grad_variance: Tensor, count: int) -> None:
    """As on the CPU."""
    from .device.batch_norm import batch_norm_backward_kernel

    n, dense, groups = y.numel(), to_layout(grad, channels_last=True), groups_per_program(y.dtype)
    launch(
        batch_norm_backward_kernel,
        -(-n // (groups * 8)),
        y.device,
        dense,
        to_layout(y, channels_last=True),
        *map(to_float32_contiguous, (mean, grad_mean, grad_variance)),
        n,
        y.shape[-3],
        1 / max(count, 1),
        ALIGN=divisibility(y.shape[-3]),
        UNIT=divisibility(n),
        GROUPS=groups,
    )
    if dense.data_ptr() != grad.data_ptr():
        grad.copy_(dense)
