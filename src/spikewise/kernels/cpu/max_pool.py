"""Max pooling of channels-last images on the CPU."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..layout import empty, pool_output_shape
from .launch import PoolArgs, call_native, pointer, thread_team


def max_pool(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    x = x.contiguous(memory_format=torch.channels_last)
    out = empty(pool_output_shape(x.shape, (size, stride, padding)), x.dtype, channels_last=True)
    indices = torch.empty_like(out, dtype=torch.uint8)
    call_native("max_pool", pool_args(x, out, indices, (size, stride, padding)), x.dtype)
    return out, indices


def max_pool_backward(grad: Tensor, indices: Tensor, shape: Sequence[int], size: int, stride: int, padding: int) -> Tensor:
    grad = grad.contiguous(memory_format=torch.channels_last)
    grad_in = empty(shape, grad.dtype, channels_last=True)
    call_native("max_pool_backward", pool_args(grad_in, grad, indices, (size, stride, padding)), grad.dtype)
    return grad_in


def pool_args(x: Tensor, out: Tensor, indices: Tensor, window: Sequence[int]) -> ctypes.Structure:
    return PoolArgs(thread_team(), *x.shape, *out.shape[2:], *window, *map(pointer, (x, out, indices)))
