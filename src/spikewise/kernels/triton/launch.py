"""Starting Triton's kernels: how work is cut into programs, and memory for it. All of it depends on shapes alone."""

import contextlib
import functools
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from ..spec import Connect

FORWARD_STEPS = 4  # time steps that forward unrolls at most: so many loads are on their way at once
STEPS_PER_CHUNK = 16  # backward holds the membranes of so many steps in registers
FP32_STEPS = 8  # values of statistics that are added in single precision before they go into double precision
MAX_PROGRAMS = 1056  # at most so many share out the rows of a sum: eight for each of an H100's 132 multiprocessors
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NOT_INSTALLED = "Triton is not installed (PyTorch for CUDA brings it along)"


@torch.compiler.assume_constant_result
def is_triton_installed() -> bool:
    return find_triton()


@functools.cache  # asked by every layer in every step; within a function, as torch.compile does not look into that one
def find_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@torch.compiler.assume_constant_result
def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def unavailable_reason(like: Tensor | None = None) -> str:
    """Why these kernels cannot run here, or on such a tensor; empty if they can."""
    if like is None:
        return machine_unavailable_reason()
    if not is_triton_installed():
        return NOT_INSTALLED
    if like.device.type != "cuda" and not (is_interpreted() and like.device.type == "cpu"):
        return f"they compute on CUDA, given a tensor on {like.device}"
    if like.dtype not in DTYPES:
        return f"they take float32, float16 and bfloat16, given {like.dtype}; use backend='reference' or 'auto'"
    return gpu_unavailable_reason(like.device.index) if like.device.type == "cuda" else ""


@torch.compiler.assume_constant_result  # what compiles networks need not look into this
def machine_unavailable_reason() -> str:
    """Why this machine cannot run these kernels, on its current GPU if it has several."""
    if not is_triton_installed():
        return NOT_INSTALLED
    return "" if is_interpreted() and not torch.cuda.is_available() else gpu_unavailable_reason(None)


@torch.compiler.assume_constant_result
def gpu_unavailable_reason(index: int | None) -> str:
    """Why this GPU, None: the current one, cannot run these kernels."""
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    able = gpu_capability(torch.cuda.current_device() if index is None else index)
    if able < (8, 0):
        return f"Triton compiles for NVIDIA GPUs of compute capability 8.0 or more, this one has {able[0]}.{able[1]}"
    return ""


@functools.cache
def gpu_capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


def launch(kernel: Any, programs: int | tuple[int, int], device: torch.device, *args: Any, **constants: Any) -> None:
    """Run so many programs of a kernel. Products and sums are not fused: a spike must not depend on where it is computed."""
    grid = (programs,) if isinstance(programs, int) else programs
    if all(grid):
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            kernel[grid](*args, **constants, num_warps=4, enable_fp_fusion=False)


def divisibility(n: int) -> int:
    """What is known to divide n when a kernel is compiled: 16 lets it move vectors, and most numbers of channels have it."""
    return 16 if n % 16 == 0 else 1


def groups_per_program(dtype: torch.dtype) -> int:
    """Groups of 8 values per program of 128 threads: 16 bytes per thread. In half precision a thread then holds all that
    becomes a byte of a bit plane, and need not wait for others.
    """
    return 64 if dtype == torch.float32 else 128


def backward_tile(steps: int, dtype: torch.dtype, connect: Connect, wants_more: bool) -> tuple[int, int | None]:
    """Values per program of 128 threads, and how many registers a thread may have, where ptxas would take more than it needs.

    wants_more:  whether there is pooling, or a gradient of the coefficients, which take registers
    """
    if steps > 8:
        return 128, None
    if steps <= 4 and dtype != torch.float32 and connect == Connect.NONE and not wants_more:
        return 512, 80  # not 93: six programs share a multiprocessor, not five
    return 256, None


def split_chunks(steps: int, size: int) -> tuple[int, int]:
    """Full chunks of `size` steps before the last one, and the last one's steps."""
    before = (steps - 1) // size if steps else 0
    return before, steps - before * size


def empty_planes(steps: int, planes: int, n: int, device: torch.device) -> Tensor:
    """Memory for bit planes [steps, planes, bytes] of n values per step; for none, an empty tensor."""
    return torch.empty((steps, planes, -(-n // 8)) if planes else 0, dtype=torch.uint8, device=device)


def to_float32_contiguous(x: Tensor) -> Tensor:
    return x.to(torch.float32).contiguous()


def tiling(channels: int, elements: int) -> tuple[int, int, int]:
    """Rows and columns of a tile of so many elements, and blocks of columns that all channels make."""
    columns = min(64, 1 << (channels - 1).bit_length()) if channels else 1
    return elements // columns, columns, -(-channels // columns)


def split_tiles(tiles: int, blocks: int) -> tuple[int, int]:
    """Programs for each block of columns, and tiles of each program: a function of the shape alone, as the order of sums is."""
    each = max(1, -(-tiles * blocks // MAX_PROGRAMS))
    return -(-tiles // each), each


def sum_rows(partial: Tensor) -> Tensor:
    """Sums over the first axis in double precision, as float32."""
    from .device.batch_norm import sum_rows_kernel

    sums = torch.empty(partial.shape[1:], dtype=torch.float32, device=partial.device)
    columns, wide = sums.numel(), 16
    launch(sum_rows_kernel, -(-columns // wide), partial.device, partial, sums, len(partial), columns, ROWS=64, COLUMNS=wide)
    return sums
