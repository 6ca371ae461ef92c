"""Convolution by PyTorch's own kernels, with the gradient of the weights as one matrix product where that is faster.

oneDNN's weight gradient in bfloat16 gets a quarter of what a matrix product gets where a layer has many channels and few pixels
(the last stage of a ResNet), and less than all of it where the kernel is 1 x 1 (docs/decisions.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """`F.conv2d`, under autocast in its dtype; equal to it but for the rounding of the weights' gradient.

    Shapes:  x [N, C, H, W], weight [C', C, k, k] -> [N, C', H', W']
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    if weight.requires_grad and torch.is_grad_enabled() and product_is_faster(x, weight, stride, padding):
        return Convolve.apply(x, weight, stride, padding)
    return F.conv2d(x, weight, None, stride, padding)


def product_is_faster(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether the weight gradient is better taken as a matrix product: measured with AMX and channels last only."""
    out_channels, channels, size, _ = weight.shape
    height, width = ((length + 2 * padding - size) // stride + 1 for length in x.shape[2:])
    return (
        x.dtype == weight.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and torch.cpu._is_amx_tile_supported()
        and x.is_contiguous(memory_format=torch.channels_last)
        and (min(channels, out_channels) >= 64 if size == 1 and padding == 0 else channels >= 4 * height * width)
    )


class Convolve(torch.autograd.Function):
    """A convolution whose weight gradient is a matrix product."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            window = ([ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0], 1)
            grad_x = torch.ops.aten.convolution_backward(grad, x, weight, None, *window, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(grad, x, weight.shape, ctx.stride, ctx.padding)
        return grad_x, grad_weight, None, None


def weight_gradient(grad: Tensor, x: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """Gradient of weight [C', C, k, k]: grad [N, C', H', W'] times what each place of the kernel has seen."""
    out_channels, channels, size, _ = shape
    pixels = F.pad(x, [padding] * 4).permute(0, 2, 3, 1) if padding else x.permute(0, 2, 3, 1)
    height, width = grad.shape[2:]
    rows, columns = (length * stride - stride + 1 for length in (height, width))
    seen = [pixels[:, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)]
    patches = (seen[0] if size == 1 else torch.cat(seen, 3)).reshape(-1, size * size * channels)
    product = grad.permute(0, 2, 3, 1).reshape(-1, out_channels).t() @ patches
    return product.view(out_channels, size, size, channels).permute(0, 3, 1, 2)
