"""Max pooling of images with channels inner: backward keeps a byte per output, the place in its window that it came from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .calls import DTYPES, empty, pool_call, pooled_shape, run
from .operators import _lib, empty_like, ops, refuse_double, register

_lib.define("max_pool(Tensor x, int size, int stride, int padding) -> (Tensor out, Tensor place)")
_lib.define("max_pool_backward(Tensor grad, Tensor place, int[] shape, int size, int stride, int padding) -> Tensor")


def max_pool_cpu(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    x = x.contiguous(memory_format=torch.channels_last)
    out = empty(pooled_shape(x.shape, size, stride, padding), x.dtype, inner=True)
    place = torch.empty_like(out, dtype=torch.uint8)
    run(f"max_pool_{DTYPES[x.dtype]}", pool_call(x, out, place, size, stride, padding))
    return out, place


def max_pool_backward_cpu(grad: Tensor, place: Tensor, shape: Sequence[int], size: int, stride: int, padding: int) -> Tensor:
    grad = grad.contiguous(memory_format=torch.channels_last)
    grad_in = empty(shape, grad.dtype, inner=True)
    run(f"max_pool_backward_{DTYPES[grad.dtype]}", pool_call(grad_in, grad, place, size, stride, padding))
    return grad_in


def max_pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, *ctx.window = inputs
    ctx.shape = x.shape
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def max_pool_grads(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Any, ...]:
    if grad is None:
        return None, None, None, None
    return ops.max_pool_backward(grad, ctx.saved_tensors[0], list(ctx.shape), *ctx.window), None, None, None


def max_pool_fake(x: Tensor, size: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    shape = pooled_shape(x.shape, size, stride, padding)
    return empty_like(shape, x, x.dtype, inner=True), empty_like(shape, x, torch.uint8, inner=True)


def max_pool_backward_fake(grad: Tensor, place: Tensor, shape: Sequence[int], *_: int) -> Tensor:
    return empty_like(shape, grad, grad.dtype, inner=True)


register("max_pool", max_pool_cpu, max_pool_fake, max_pool_grads, max_pool_setup)
register("max_pool_backward", max_pool_backward_cpu, max_pool_backward_fake, refuse_double, None)
