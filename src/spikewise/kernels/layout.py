"""Layouts of activations: where the channels of [T, N, C, H, W] or [N, C, H, W] lie in memory, and tensors of such a layout."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .spec import FireGrads, FireSpec, FireTensors, PoolWindow


def dense_strides(shape: Sequence[int], channels_last: bool) -> tuple[int, ...]:
    """Strides of [T, N, C, H, W] or [N, C, H, W] in this layout."""
    *steps, N, C, H, W = shape
    frame = (C * H * W, 1, W * C, C) if channels_last else (C * H * W, H * W, W, 1)
    return (N * C * H * W, *frame) if steps else frame


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie beside each other."""
    if x.stride() == dense_strides(x.shape, channels_last=True):
        return True
    images = x.flatten(0, 1) if x.dim() == 5 else x  # of sizes 1, strides say nothing
    return images.is_contiguous(memory_format=torch.channels_last)


def output_is_channels_last(y: Tensor) -> bool:
    """The layout of what is computed from y: as y on the CPU, always channels last on CUDA."""
    return y.device.type == "cuda" or is_channels_last(y)


def to_layout(x: Tensor, channels_last: bool) -> Tensor:
    """The same values, dense, in this layout; no copy where they lie so already."""
    if x.stride() == dense_strides(x.shape, channels_last):
        return x
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    if x.dim() == 4:
        return x.contiguous(memory_format=memory_format)
    return x.flatten(0, 1).contiguous(memory_format=memory_format).unflatten(0, x.shape[:2])


def empty(shape: Sequence[int], dtype: torch.dtype, channels_last: bool, device: torch.device | str = "cpu") -> Tensor:
    """Memory for [T, N, C, H, W] or [N, C, H, W] in this layout."""
    if len(shape) == 4:
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=dtype, memory_format=memory_format, device=device)
    # no view: it may be changed in place
    return torch.empty_strided(tuple(shape), dense_strides(shape, channels_last), dtype=dtype, device=device)


def memory_order(x: Tensor) -> Tensor:
    """[T, N*C*H*W] in the order of memory; an image batch [N, C, H, W] is one time step."""
    steps = x.shape[0] if x.dim() == 5 else 1
    images = x.flatten(0, 1) if x.dim() == 5 else x
    return (images.permute(0, 2, 3, 1) if is_channels_last(images) else images).reshape(steps, -1)


def pool_output_shape(shape: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    """Of images [N, C, H, W]."""
    size, stride, padding = window
    return (*shape[:2], *((length + 2 * padding - size) // stride + 1 for length in shape[2:]))


def planes_shape(shape: Sequence[int], planes: int) -> tuple[int, int, int]:
    """Of bit planes (packing.py) of [T, N, C, H, W] or [N, C, H, W]: steps, planes, bytes."""
    steps = shape[0] if len(shape) == 5 else 1
    return steps, planes, (math.prod(shape[-4:]) + 7) // 8


def require_shape(name: str, tensor: Tensor | None, shape: Sequence[int]) -> None:
    """Refuse what a kernel would read beyond its end."""
    if tensor is not None and tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} is {list(tensor.shape)}, {list(shape)} would fit")


def require_shapes(tensors: FireTensors, spec: FireSpec, grads: FireGrads | None = None) -> None:
    """`require_shape` of all that the fused operation, or its backward, is given."""
    beside = (tensors.shortcut, tensors.current, tensors.v)
    if spec.pool is not None and (not spec.repeat_steps or spec.return_membrane or any(x is not None for x in beside)):
        raise ValueError("pooling within norm_fire takes still images and nothing beside them; use norm_fire and max_pool")
    frame, steps = tuple(tensors.y.shape[-4:]), spec.repeat_steps or tensors.y.shape[0]
    sequence, channels = (steps, *frame), frame[1:2]
    output = sequence if spec.pool is None else (steps, *pool_output_shape(frame, spec.pool))
    y = frame if spec.repeat_steps else sequence
    wanted = [*zip(FireTensors._fields, tensors, (y, channels, channels, (3,), sequence, sequence, frame), strict=True)]
    if grads is not None:
        wanted += zip(FireGrads._fields, grads, (output, frame, channels, channels, output), strict=True)
    for name, tensor, shape in wanted:
        require_shape(name, tensor, shape)


def supports_fused_pool(y: Tensor, window: PoolWindow) -> bool:
    """Whether neurons and the max pooling behind them are computed as one."""
    size, stride, padding = window
    small = size <= 4 if y.device.type == "cuda" else size * size <= 256  # on CUDA the places of a window are unrolled
    return y.dim() == 4 and is_channels_last(y) and small and stride >= 1 and 2 * padding <= size <= min(y.shape[2:])
