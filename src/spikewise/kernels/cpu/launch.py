"""Calls of the C library: its structures as Python makes them, one thread team, and sums of what tasks left behind."""

import ctypes
import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...native import load as native

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def struct(name: str, **fields: type) -> type[ctypes.Structure]:
    """A structure of the C sources; its fields in their order there."""
    return type(name, (ctypes.Structure,), {"_fields_": tuple(fields.items())})


POINTER, INT, INT32, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float

ThreadTeam = struct("ThreadTeam", run=POINTER, threads=INT32)  # parallel.h
ChannelLayout = struct("ChannelLayout", elements=INT, channels=INT, inner=INT)  # blocks.h
NeuronStruct = struct(  # neuron.h
    "NeuronStruct",
    **dict.fromkeys(("a", "b", "c", "v_th", "v_reset", "v_rest", "alpha"), FLOAT),
    **dict.fromkeys(("surrogate", "hard_reset", "detach_reset", "plain"), INT32),
)
PlanesStruct = struct("PlanesStruct", packed=POINTER, row=INT, planes=INT)  # packing.h
PackingArgs = struct(  # packing.h
    "PackingArgs", threads=ThreadTeam, steps=INT, elements=INT, planes=PlanesStruct, values=POINTER
)
NormFireArgs = struct(  # norm_fire.h
    "NormFireArgs",
    threads=ThreadTeam,
    space=ChannelLayout,
    neurons=NeuronStruct,
    **dict.fromkeys(("steps", "repeat", "connect"), INT32),
    **dict.fromkeys(("scale", "shift", "y", "shortcut", "current", "v", "out", "v_last"), POINTER),
    planes=PlanesStruct,
    **dict.fromkeys(("grad_out", "grad_v_last", "center", "partial", "partial_coefficients"), POINTER),
    **dict.fromkeys(("grad_y", "grad_shortcut", "grad_current", "grad_v"), POINTER),
)
BatchNormBackwardArgs = struct(  # norm_fire.h
    "BatchNormBackwardArgs",
    threads=ThreadTeam,
    space=ChannelLayout,
    count=INT,
    **dict.fromkeys(("y", "grad", "mean", "grad_mean", "grad_variance"), POINTER),
)
NormStatsArgs = struct(  # kernels.c
    "NormStatsArgs",
    threads=ThreadTeam,
    space=ChannelLayout,
    **dict.fromkeys(("y", "partial", "mean", "variance"), POINTER),
)
PoolArgs = struct(  # kernels.c
    "PoolArgs",
    threads=ThreadTeam,
    **dict.fromkeys(("images", "channels", "height", "width", "out_height", "out_width", "size", "stride", "padding"), INT),
    **dict.fromkeys(("in_", "out", "indices"), POINTER),
)
FirePoolArgs = struct("FirePoolArgs", fire=NormFireArgs, pool=PoolArgs)  # kernels.c


@functools.cache
def native_function(name: str, result: type | None = None) -> Callable:
    """A function of the library for this CPU, of one structure; Python's lock is free while it runs."""
    function = getattr(native.load(native.selected_variant()), name)
    function.restype = result
    return function


def call_native(function: str, args: ctypes.Structure, dtype: torch.dtype | None = None) -> None:
    """Run a function of the library, the one for this storage type."""
    native_function(function if dtype is None else f"{function}_{DTYPES[dtype]}")(ctypes.byref(args))


def thread_team() -> ctypes.Structure:
    return ThreadTeam(native.gomp_parallel_address(), native.num_threads())


def pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr() or None


def channel_layout(shape: Sequence[int], channels_last: bool) -> ctypes.Structure:
    """Of images [N, C, H, W]."""
    return ChannelLayout(math.prod(shape), shape[1], 1 if channels_last else math.prod(shape[2:]))


def num_partial_rows(space: ctypes.Structure) -> int:
    return native_function("partial_rows", INT)(ctypes.byref(space))


def sum_rows(partial: Tensor) -> Tensor:
    """Sums over the first axis, in its order, in double precision."""
    sums = torch.empty(partial.shape[1:], device="cpu")
    add_rows = native_function("add_rows")
    add_rows(POINTER(partial.data_ptr()), INT(len(partial)), INT(sums.numel()), POINTER(sums.data_ptr()))
    return sums
