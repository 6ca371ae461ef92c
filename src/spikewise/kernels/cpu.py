"""The fused kernels on the CPU, in C (native/)."""

from torch import Tensor

from ..native import load as native
from .calls import DTYPES
from .fused import PACKS, batch_norm_fire, fire, max_pool, norm_fire, norm_stats

__all__ = ["PACKS", "batch_norm_fire", "fire", "max_pool", "norm_fire", "norm_stats", "reason_against"]


def reason_against(like: Tensor | None = None) -> str:
    """Why these kernels cannot run here, or on such a tensor; empty if they can."""
    if like is not None and like.device.type not in ("cpu", "meta"):
        return f"they compute on the CPU, given a tensor on {like.device}"
    if like is not None and like.dtype not in DTYPES:
        return f"they take float32 and bfloat16, given {like.dtype}; use backend='reference' or 'auto'"
    return native.reason_against()
