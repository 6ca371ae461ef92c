"""Bit planes on CUDA."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layout import empty, planes_shape, to_layout
from ..packing import require_planes, require_planes_shape
from .launch import divisibility, empty_planes, groups_per_program, launch


def pack(x: Tensor, planes: int) -> Tensor:
    from .device.packing import pack_kernel

    require_planes(planes)
    steps, n = planes_shape(x.shape, planes)[0], x.shape[-4:].numel()
    packed, groups = empty_planes(steps, planes, n, x.device), groups_per_program(x.dtype)
    grid = (-(-n // (groups * 8)), steps)
    x = to_layout(x, channels_last=True)
    launch(pack_kernel, grid, x.device, x, packed, n, PLANES=planes, UNIT=divisibility(n), GROUPS=groups)
    return packed


def unpack(planes: Tensor, shape: Sequence[int], dtype: torch.dtype, channels_last: bool) -> Tensor:
    from .device.packing import unpack_kernel

    require_planes_shape(planes, shape)
    steps, count, _ = planes.shape
    x = empty(shape, dtype, channels_last=True, device=planes.device)
    n, groups = x.numel() // max(steps, 1), groups_per_program(dtype)
    grid = (-(-n // (groups * 8)), steps)
    launch(unpack_kernel, grid, x.device, planes.contiguous(), x, n, PLANES=count, UNIT=divisibility(n), GROUPS=groups)
    return to_layout(x, channels_last)
