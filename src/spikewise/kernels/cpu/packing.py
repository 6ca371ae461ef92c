"""Bit planes on the CPU, in C for float32 and bfloat16 where the library is there."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ...native import load as native
from ..layout import empty, is_channels_last, planes_shape, to_layout
from ..packing import pack_reference, require_planes, require_planes_shape, unpack_reference
from .launch import DTYPES, PackingArgs, PlanesStruct, call_native, pointer, thread_team


def pack(x: Tensor, planes: int) -> Tensor:
    require_planes(planes)
    if not has_native_kernel(x.dtype) or not x.numel():
        return pack_reference(x, planes)
    out = torch.empty(planes_shape(x.shape, planes), dtype=torch.uint8, device="cpu")
    values = to_layout(x, is_channels_last(x))  # a copy must live until the call is done
    call_native("pack", packing_args(values, out), x.dtype)
    return out


def unpack(planes: Tensor, shape: Sequence[int], dtype: torch.dtype, channels_last: bool) -> Tensor:
    require_planes_shape(planes, shape)
    if not has_native_kernel(dtype) or not planes.numel():
        return unpack_reference(planes, shape, dtype, channels_last)
    out, planes = empty(shape, dtype, channels_last), planes.contiguous()
    call_native("unpack", packing_args(out, planes), dtype)
    return out


def has_native_kernel(dtype: torch.dtype) -> bool:
    return dtype in DTYPES and not native.unavailable_reason()


def packing_args(values: Tensor, planes: Tensor) -> ctypes.Structure:
    steps, count, row = planes.shape
    return PackingArgs(
        thread_team(), steps, values.numel() // steps, PlanesStruct(pointer(planes), row, count), pointer(values)
    )
