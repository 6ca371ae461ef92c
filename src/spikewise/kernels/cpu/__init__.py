"""What torch.ops.spikewise.* runs on the CPU, in C (native/)."""

from collections.abc import Callable

from torch import Tensor

from ...native import load as native
from ..ops import impl
from . import max_pool, norm_fire, packing
from .launch import DTYPES

KERNELS: dict[str, Callable] = {
    "norm_stats": norm_fire.norm_stats,
    "batch_norm_affine": norm_fire.batch_norm_affine,
    "norm_fire": norm_fire.norm_fire,
    "norm_fire_backward": norm_fire.norm_fire_backward,
    "batch_norm_backward_": norm_fire.batch_norm_backward_,
    "max_pool": max_pool.max_pool,
    "max_pool_backward": max_pool.max_pool_backward,
    "pack": packing.pack,
    "unpack": packing.unpack,
}
impl("CPU", **KERNELS)


def unavailable_reason(like: Tensor | None = None) -> str:
    """Why these kernels cannot run here, or on such a tensor; empty if they can."""
    if like is not None and like.device.type not in ("cpu", "meta"):
        return f"they compute on the CPU, given a tensor on {like.device}"
    if like is not None and like.dtype not in DTYPES:
        return f"they take float32 and bfloat16, given {like.dtype}; use backend='reference' or 'auto'"
    return native.unavailable_reason()
