"""What torch.ops.spikewise.* runs on CUDA, in Triton.

What Triton compiles lies in device/, as the C sources lie in native/; Triton is imported when a kernel is first needed.
"""

from collections.abc import Callable

from ..ops import impl
from . import max_pool, norm_fire, packing
from .launch import unavailable_reason

__all__ = ["KERNELS", "unavailable_reason"]

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
impl("CUDA", **KERNELS)
