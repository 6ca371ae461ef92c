"""Max pooling on CUDA: of images, and of the spikes of a stem as they are made."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..layout import empty, pool_output_shape, to_layout
from ..ops import placeholder
from ..spec import FireOutput, FireSpec, FireTensors
from .launch import launch
from .packing import pack

BLOCK_SIZE = 512  # outputs, or inputs of backward, of a program


def max_pool(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    from .device.max_pool import max_pool_kernel

    window, x = (size, stride, padding), to_layout(x, channels_last=True)
    shape = pool_output_shape(x.shape, window)
    out, indices = (empty(shape, dtype, True, x.device) for dtype in (x.dtype, torch.uint8))
    each = -(-math.prod(shape[1:]) // BLOCK_SIZE)
    sizes = (*x.shape[2:], *shape[2:], x.shape[1], each)
    launch(max_pool_kernel, each * len(x), x.device, x, out, indices, *sizes, WINDOW=window, BLOCK_SIZE=BLOCK_SIZE)
    return out, indices


def max_pool_backward(grad: Tensor, indices: Tensor, shape: Sequence[int], size: int, stride: int, padding: int) -> Tensor:
    from .device.max_pool import max_pool_backward_kernel

    window, grad_in = (size, stride, padding), empty(shape, grad.dtype, True, grad.device)
    grad, indices = to_layout(grad, channels_last=True), to_layout(indices, channels_last=True)
    each = -(-math.prod(shape[1:]) // BLOCK_SIZE)
    args = (grad, indices, grad_in, *shape[2:], *grad.shape[2:], shape[1], each)
    launch(max_pool_backward_kernel, each * shape[0], grad.device, *args, WINDOW=window, BLOCK_SIZE=BLOCK_SIZE)
    return grad_in


def fire_pool(tensors: FireTensors, spec: FireSpec) -> FireOutput:
    """`norm_fire` of still images with max pooling behind it; tensors as `norm_fire.prepare_tensors` makes them."""
    from .device.max_pool import fire_pool_kernel

    y, steps = tensors.y, spec.repeat_steps
    assert spec.pool is not None
    shape = pool_output_shape(y.shape, spec.pool)
    out, indices = (empty((steps, *shape), dtype, True, y.device) for dtype in (y.dtype, torch.uint8))
    block = BLOCK_SIZE // 2  # a neuron's membrane for each place of the window
    each = -(-math.prod(shape[1:]) // block)
    launch(
        fire_pool_kernel,
        each * len(y),
        y.device,
        y,
        tensors.scale,
        tensors.shift,
        tensors.coefficients,
        out,
        indices,
        *y.shape[2:],
        *shape[2:],
        y.shape[1],
        each,
        steps,
        len(y),
        spec.a,
        spec.b,
        spec.c,
        spec.v_th,
        spec.v_rest,
        HARD_RESET=spec.hard_reset,
        WINDOW=tuple(spec.pool),
        BLOCK_SIZE=block,
    )
    planes = pack(out, spec.num_planes) if spec.num_planes else out.new_empty(0, dtype=torch.uint8)
    return FireOutput(out, placeholder(y), planes, indices)
