"""The fused kernels on CUDA, in Triton: a backend, and what torch.ops.spikewise.* runs there.

Files that end in _kernels hold what Triton compiles; they alone import it, when they are first needed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ..calls import laid_out
from ..fused import PACKS, batch_norm_fire, fire, max_pool, norm_fire, norm_stats
from ..operators import _lib
from . import operators, pooled
from .operators import reason_against

__all__ = ["PACKS", "batch_norm_fire", "fire", "max_pool", "norm_fire", "norm_stats", "reason_against"]


def norm_fire_cuda(*given: Any) -> tuple[Tensor, ...]:
    *needed, _packed_in = given
    return operators.norm_fire(*needed)


def batch_norm_fire_cuda(y: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *others, eps = rest
    mean, variance = operators.norm_stats(y, y.dim() - 3)
    return *norm_fire_cuda(y, *reference.affine(weight, bias, mean, variance, eps), *others), mean, variance


def fire_pool_cuda(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    *needed, planes = given
    out, place = pooled.fire_pool(*needed)
    return out, place, pooled.pack(out, planes) if planes else out.new_empty(0, dtype=torch.uint8)


def batch_norm_fire_pool_cuda(y: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *others, eps = rest
    mean, variance = operators.norm_stats(y, 1)
    return *fire_pool_cuda(y, *reference.affine(weight, bias, mean, variance, eps), *others), mean, variance


def unpack_cuda(packed: Tensor, shape: Sequence[int], dtype: torch.dtype, inner: bool) -> Tensor:
    steps, planes, _ = packed.shape
    sequence = (steps, shape[0] // steps, *shape[1:]) if len(shape) == 4 else tuple(shape)
    out = pooled.unpack(packed, sequence, planes, dtype)
    return laid_out(out.flatten(0, 1) if len(shape) == 4 else out, inner)


KERNELS = {
    "norm_stats": operators.norm_stats,
    "norm_fire": norm_fire_cuda,
    "batch_norm_fire": batch_norm_fire_cuda,
    "norm_fire_backward": operators.norm_fire_backward,
    "through_statistics_": operators.through_statistics_,
    "max_pool": pooled.max_pool,
    "max_pool_backward": pooled.max_pool_backward,
    "fire_pool": fire_pool_cuda,
    "batch_norm_fire_pool": batch_norm_fire_pool_cuda,
    "fire_pool_backward": pooled.fire_pool_backward,
    "pack": pooled.pack,
    "unpack": unpack_cuda,
}
for name, kernel in KERNELS.items():
    _lib.impl(name, kernel, "CUDA")
