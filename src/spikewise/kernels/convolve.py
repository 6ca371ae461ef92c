"""Convolution of spikes by PyTorch's own kernels; for the gradient of the weights, bit planes are kept in place of the spikes.

That gradient is one matrix product where that is faster: oneDNN's in bfloat16 gets a quarter of what a matrix product gets
where a layer has many channels and few pixels (the last stage of a ResNet), and less than all of it where the kernel is 1 x 1
(docs/decisions.md).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .calls import channels_inner, empty
from .packing import Spikes, unpack, values_of

_lib = torch.library.Library("spikewise", "FRAGMENT")
_lib.define("conv(Tensor x, Tensor? packed, Tensor weight, int stride, int padding, ScalarType dtype) -> Tensor")
_lib.define(
    "conv_backward(Tensor grad, Tensor kept, Tensor weight, SymInt[] shape, bool inner, int stride, int padding, bool[2] wants)"
    " -> (Tensor grad_x, Tensor grad_weight)"
)


def spike_conv(x: Tensor | Spikes, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """`F.conv2d`, under autocast in its dtype; for the gradient of the weights it keeps the planes of `Spikes`.

    Output and gradients are those of F.conv2d, bit for bit, but for the rounding of the weights' gradient where it is one
    matrix product; with planes and without they are the same.

    Shapes:  x [N, C, H, W], weight [C', C, k, k] -> [N, C', H', W']
    """
    x = x.checked() if isinstance(x, Spikes) else x
    values = values_of(x)
    kind = values.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype
    own = isinstance(x, Spikes) or product_is_faster(values.to(dtype), weight.to(dtype), stride, padding)
    needed = weight.requires_grad or (isinstance(x, Spikes) and values.requires_grad)  # PyTorch keeps x for frozen weights, too
    if not own or not needed or not torch.is_grad_enabled():
        return F.conv2d(values.to(dtype), weight.to(dtype), None, stride, padding)
    return torch.ops.spikewise.conv(values, x.packed if isinstance(x, Spikes) else None, weight, stride, padding, dtype)


def conv(x: Tensor, packed: Tensor | None, weight: Tensor, stride: int, padding: int, dtype: torch.dtype) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x.to(dtype), weight.to(dtype), None, stride, padding)


def conv_backward(
    grad: Tensor,
    kept: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    inner: bool,
    stride: int,
    padding: int,
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    want_x, want_weight = wants
    w = weight.to(grad.dtype)
    x = unpack(kept, shape, grad.dtype, inner=inner) if kept.dtype == torch.uint8 else kept.to(grad.dtype)
    by_product = want_weight and product_is_faster(x, w, stride, padding)
    if by_product:
        grad = grad.contiguous(memory_format=torch.channels_last)
    window = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
    wanted = [want_x, want_weight and not by_product, False]
    with torch.autocast(grad.device.type, enabled=False):
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(grad, x, w, None, *window, wanted)
        if by_product:
            grad_weight = weight_gradient(grad, x, weight.shape, stride, padding)
    layout = torch.channels_last if inner else torch.contiguous_format
    return (
        grad_x.contiguous(memory_format=layout) if want_x else grad.new_empty(0),
        like(weight, grad_weight) if want_weight else grad.new_empty(0),
    )


def like(weight: Tensor, grad: Tensor) -> Tensor:
    """In the type and layout of the weight, as autograd would have it in the end."""
    grad = grad.to(weight.dtype)
    return grad if grad.stride() == weight.stride() else torch.empty_like(weight).copy_(grad)


def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, packed, weight, ctx.stride, ctx.padding, _ = inputs
    ctx.shape, ctx.inner, ctx.dtype = x.shape, channels_inner(x), x.dtype
    ctx.save_for_backward(x if packed is None else packed, weight)


def gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    kept, weight = ctx.saved_tensors
    wants = [bool(ctx.needs_input_grad[0]), bool(ctx.needs_input_grad[2])]
    grad_x, grad_weight = torch.ops.spikewise.conv_backward(
        grad, kept, weight, ctx.shape, ctx.inner, ctx.stride, ctx.padding, wants
    )
    return grad_x.to(ctx.dtype) if wants[0] else None, None, grad_weight if wants[1] else None, None, None, None


def conv_backward_fake(
    grad: Tensor,
    kept: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    inner: bool,
    stride: int,
    padding: int,
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    grad_x = empty(shape, grad.dtype, inner, grad.device) if wants[0] else grad.new_empty(0)
    return grad_x, torch.empty_like(weight) if wants[1] else grad.new_empty(0)


def product_is_faster(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether the weight gradient is better taken as a matrix product: measured with AMX and channels last only."""
    out_channels, channels, size, _ = weight.shape
    height, width = ((length + 2 * padding - size) // stride + 1 for length in x.shape[2:])
    return (
        x.dtype == weight.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.is_contiguous(memory_format=torch.channels_last)
        and has_amx()
        and (min(channels, out_channels) >= 64 if size == 1 and padding == 0 else channels >= 4 * height * width)
    )


@torch.compiler.assume_constant_result
def has_amx() -> bool:
    return torch.cpu._is_amx_tile_supported()


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


def refuse_double(ctx: Any, *_: Any) -> None:
    raise NotImplementedError("spikewise's convolution has no second derivative; build the network with backend='reference'")


_lib.impl("conv", conv, "CompositeExplicitAutograd")
_lib.impl("conv_backward", conv_backward, "CompositeExplicitAutograd")
torch.library.register_fake("spikewise::conv", conv, lib=_lib)
torch.library.register_fake("spikewise::conv_backward", conv_backward_fake, lib=_lib)
torch.library.register_autograd("spikewise::conv", gradients, setup_context=setup, lib=_lib)
torch.library.register_autograd("spikewise::conv_backward", refuse_double, lib=_lib)
