"""Convolution of spikes by PyTorch's own kernels; for the gradient of the weights, bit planes are kept in place of the spikes.

That gradient is one matrix product where that is faster: oneDNN's in bfloat16 gets a quarter of what a matrix product gets
where a layer has many channels and few pixels (the last stage of a ResNet), and less than all of it where the kernel is 1 x 1
(docs/decisions.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .layout import is_channels_last
from .ops import once_differentiable
from .packing import planes_to_keep, unpack


def spike_conv(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """`F.conv2d`, under autocast in its dtype; for the gradient of the weights it keeps the planes of x, where x has any.

    Output and gradients are those of F.conv2d, bit for bit, but for the rounding of the weights' gradient where it is one
    matrix product; with planes and without they are the same.

    Shapes:  x [N, C, H, W], weight [C', C, k, k] -> [N, C', H', W']
    """
    device = x.device.type
    autocasts = device != "meta" and torch.is_autocast_enabled(device)  # there is no autocast without values
    dtype = torch.get_autocast_dtype(device) if autocasts else x.dtype
    if torch.is_grad_enabled():
        planes = planes_to_keep(x)
        if planes is not None:
            own = weight.requires_grad or x.requires_grad  # PyTorch keeps x for frozen weights, too
        else:
            own = weight.requires_grad and prefer_matmul_weight_grad(x, weight, dtype, stride, padding)
        if own:
            return _SpikeConv.apply(x, weight, planes, stride, padding, dtype)
    return F.conv2d(x.to(dtype), weight.to(dtype), None, stride, padding)


class _SpikeConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, planes: Tensor | None, stride: int, padding: int, dtype: torch.dtype
    ) -> Tensor:
        ctx.window = stride, padding
        ctx.packed = None if planes is None else (x.shape, x.dtype, is_channels_last(x))
        ctx.save_for_backward(x if planes is None else planes, weight)
        return F.conv2d(x.to(dtype), weight.to(dtype), None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (grad,), (stride, padding) = grads, ctx.window
        assert grad is not None, "there is one output"
        x, weight = ctx.saved_tensors
        if ctx.packed is not None:
            shape, input_dtype, channels_last = ctx.packed
            x = unpack(x, shape, grad.dtype, channels_last=channels_last)
        else:
            input_dtype, channels_last = x.dtype, is_channels_last(x)
            x = x.to(grad.dtype)
        want_x, want_weight = ctx.needs_input_grad[:2]
        by_matmul = want_weight and prefer_matmul_weight_grad(x, weight, grad.dtype, stride, padding)
        if by_matmul:
            grad = grad.contiguous(memory_format=torch.channels_last)
        window = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        mask = [want_x, want_weight and not by_matmul, False]
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(grad, x, weight.to(grad.dtype), None, *window, mask)
        if by_matmul:
            grad_weight = matmul_weight_grad(grad, x, weight.shape, stride, padding)
        if want_x:
            memory_format = torch.channels_last if channels_last else torch.contiguous_format
            grad_x = grad_x.contiguous(memory_format=memory_format).to(input_dtype)
        return grad_x if want_x else None, cast_like(weight, grad_weight) if want_weight else None, None, None, None, None


def cast_like(weight: Tensor, grad: Tensor) -> Tensor:
    """In the type and layout of the weight, as autograd would have it in the end."""
    grad = grad.to(weight.dtype)
    return grad if grad.stride() == weight.stride() else torch.empty_like(weight).copy_(grad)


def prefer_matmul_weight_grad(x: Tensor, weight: Tensor, dtype: torch.dtype, stride: int, padding: int) -> bool:
    """Whether the weight gradient is better taken as a matrix product: measured with AMX and channels last only."""
    if dtype != torch.bfloat16 or x.device.type != "cpu" or not has_amx() or not is_channels_last(x):
        return False
    out_channels, channels, size, _ = weight.shape
    height, width = ((length + 2 * padding - size) // stride + 1 for length in x.shape[2:])
    return min(channels, out_channels) >= 64 if size == 1 and padding == 0 else channels >= 4 * height * width


@torch.compiler.assume_constant_result
def has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


def matmul_weight_grad(grad: Tensor, x: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """Gradient of weight [C', C, k, k]: grad [N, C', H', W'] times what each place of the kernel has seen."""
    out_channels, channels, size, _ = shape
    pixels = F.pad(x, [padding] * 4).permute(0, 2, 3, 1) if padding else x.permute(0, 2, 3, 1)
    height, width = grad.shape[2:]
    rows, columns = (length * stride - stride + 1 for length in (height, width))
    seen = [pixels[:, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)]
    patches = (seen[0] if size == 1 else torch.cat(seen, 3)).reshape(-1, size * size * channels)
    product = grad.permute(0, 2, 3, 1).reshape(-1, out_channels).t() @ patches
    return product.view(out_channels, size, size, channels).permute(0, 3, 1, 2)
