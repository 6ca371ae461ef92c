"""Triton's kernels, as the launchers start them, compiled for GPUs that need not be there: test_triton.py runs this file.

Prints one line of JSON per kernel: its name, the target, and what was found in its machine code.
"""

import json
import re
import sys
from typing import Any

import torch
from spikewise.kernels.cuda import launch as triton_launch
from spikewise.kernels.cuda import operators as triton_gpu
from spikewise.kernels.cuda import pooled as triton_pool_gpu
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from spikewise.kernels import SURROGATES

compiled: dict[int, tuple[str, Any, int]] = {}


class Absent:
    """As much of a GPU's driver as Triton asks before it compiles."""

    def __init__(self, capability):
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return self.target


def compile_only(capability):
    """From here on kernels are compiled, as Triton finds fit for the arguments, where they would be run."""
    driver.set_active(Absent(capability))
    run = JITFunction.run

    def warm_up(kernel, *args, grid, warmup, **options):
        made = run(kernel, *args, grid=grid, warmup=True, **options)
        channels = next((a.shape[-3] for a in args if isinstance(a, torch.Tensor) and a.dim() in (4, 5)), 0)
        compiled[id(made)] = kernel.__name__, made, channels
        return made

    JITFunction.run = warm_up


def start_all():
    """Networks of few and of many steps, images and single numbers, every connection, surrogate and storage type."""
    wants = ([False] * 4, [True] * 4)
    surrogates = iter([*SURROGATES] * 2)
    cases = [(4, torch.float32, 64, 0), (4, torch.bfloat16, 64, 2), (6, torch.float16, 3, 1), (2, torch.float32, 1, 0)]
    for connect, (steps, dtype, channels, planes) in enumerate(cases, start=-1):
        y, one, abc = torch.zeros(steps, 1, channels, 8, 8, dtype=dtype), torch.ones(channels), torch.ones(3)
        shortcut = y if connect >= 0 else None
        for v_reset, repeat in ((0.0, 0), (None, steps)):
            rules = (connect, repeat, 1.0, v_reset, next(surrogates), 2.0, bool(repeat))
            more = (None, None) if repeat else (y, torch.zeros(y.shape[1:]))
            given = (y[0] if repeat else y, one, one, abc, shortcut, *more)
            triton_gpu.norm_fire(*given, *rules, not repeat, planes)
            triton_gpu.norm_fire_backward(y, more[1], *given, *rules, one, False, [connect > 0, *wants[not repeat][1:]])
        if connect > 0:
            continue
        triton_gpu.norm_stats(y, 2)
        triton_gpu.through_statistics_(y, y, one, torch.ones(3, channels))
        rules, window = (-1, 4, 1.0, 0.0, "atan", 2.0, True), (3, 2, 1)
        out, place = triton_pool_gpu.fire_pool(y[0], one, one, abc, *rules, window)
        triton_pool_gpu.fire_pool_backward(out, place, y[0], one, one, abc, *rules, window, one, False, False)
        out, place = triton_pool_gpu.max_pool(y[0], *window)
        triton_pool_gpu.max_pool_backward(out, place, y[0].shape, *window)
        triton_pool_gpu.unpack(triton_pool_gpu.pack(y, 2), y.shape, 2, dtype)


def start_one(batch, size):
    """A layer's kernels, for one batch and image size."""
    y, one, abc = torch.zeros(4, batch, 64, size, size, dtype=torch.bfloat16), torch.ones(64), torch.ones(3)
    rules, window = (0, 0, 1.0, 0.0, "atan", 2.0, True), (3, 2, 1)
    triton_gpu.norm_stats(y, 2)
    triton_gpu.norm_fire(y, one, one, abc, y, None, None, *rules, False, 2)
    triton_gpu.norm_fire_backward(y, None, y, one, one, abc, None, None, None, *rules, one, False, [False] * 4)
    triton_gpu.through_statistics_(y, y, one, torch.ones(3, 64))
    out, place = triton_pool_gpu.fire_pool(y[0], one, one, abc, -1, 4, *rules[2:], window)
    triton_pool_gpu.fire_pool_backward(out, place, y[0], one, one, abc, -1, 4, *rules[2:], window, one, False, False)
    out, place = triton_pool_gpu.max_pool(y[0], *window)
    triton_pool_gpu.max_pool_backward(out, place, y[0].shape, *window)
    triton_pool_gpu.unpack(triton_pool_gpu.pack(y, 2), y.shape, 2, y.dtype)


def compare_sizes():
    """Prints how many kernels a layer needs, then how many more the same one does with other batches and image sizes."""
    compile_only(90)
    for batch, size in ((2, 8), (1, 4), (3, 7), (5, 33), (32, 14)):
        before = len(compiled)
        start_one(batch, size)
        print(len(compiled) - before, flush=True)


def main(capability):
    compile_only(capability)
    triton_launch.CHUNK = triton_gpu.CHUNK = 4  # as for more than 16 steps, in a quarter of the time
    start_all()
    for name, kernel, channels in compiled.values():
        ptx = kernel.asm["ptx"]
        found = {
            "kernel": name,
            "target": re.search(r"\.target (\w+)", ptx)[1],
            "cubin": len(kernel.asm["cubin"]),
            "fused": re.findall(r"\bfma\.\S+", ptx),
            "flushed": re.findall(r"\b\S+\.ftz\S*", ptx),
            "approximate": re.findall(r"\b\S+\.(?:approx|full)\S*", ptx),
            "atomic": re.findall(r"\b(?:atom|red)\.\S+", ptx),
            "wide": len(re.findall(r"\b(?:ld|st)\.global\.v[24]\S*", ptx)),
            "channels": channels,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    compare_sizes() if sys.argv[1] == "sizes" else main(int(sys.argv[1]))
