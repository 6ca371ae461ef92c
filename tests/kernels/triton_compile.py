"""Triton's kernels, as the launchers start them, compiled for GPUs that need not be there: test_triton.py runs this file.

Prints one line of JSON per kernel: its name, the target, and what was found in its machine code.
"""

import json
import re
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

from spikewise.kernels import SURROGATES, triton_gpu, triton_launch, triton_pool_gpu

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64", torch.uint8: "u8"}
OPTIONS = ("num_warps", "enable_fp_fusion")
started: list[tuple[JITFunction, tuple, dict]] = []


def note(kernel, *args, grid, warmup, **options):
    """In place of running a kernel."""
    started.append((kernel, args, options))


def source(kernel, args, options):
    """What Triton would compile for these arguments: a value known at compile time where it says so, the type otherwise."""
    signature, constants, known = {}, {}, {}
    for number, parameter in enumerate(kernel.params):
        value = args[number] if number < len(args) else options[parameter.name]
        if (
            parameter.is_constexpr
            or value is None
            or (isinstance(value, int) and value == 1 and not parameter.do_not_specialize)
        ):
            signature[parameter.name], constants[(number,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name], known[(number,)] = f"*{TYPES[value.dtype]}", [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
            if isinstance(value, int) and value % 16 == 0 and not parameter.do_not_specialize:
                known[(number,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, known)


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
    """Prints how many kernels a layer needs, and how many more the same one with other batches and image sizes."""
    JITFunction.run = note
    known = set()
    for batch, size in ((2, 8), (1, 4), (3, 7), (5, 33), (32, 14)):
        started.clear()
        start_one(batch, size)
        found = {source(*each).hash() for each in started}
        print(json.dumps(len(found - known)))
        known |= found


def main(capability):
    JITFunction.run = note
    triton_launch.CHUNK = triton_gpu.CHUNK = 4  # as for more than 16 steps, in a quarter of the time
    start_all()
    seen = set()
    for kernel, args, options in started:
        made = source(kernel, args, options)
        if made.hash() in seen:
            continue
        seen.add(made.hash())
        compiled = compile(made, target=GPUTarget("cuda", capability, 32), options={name: options[name] for name in OPTIONS})
        ptx = compiled.asm["ptx"]
        found = {
            "kernel": kernel.__name__,
            "target": re.search(r"\.target (\w+)", ptx)[1],
            "cubin": len(compiled.asm["cubin"]),
            "fused": re.findall(r"\bfma\.\S+", ptx),
            "flushed": re.findall(r"\b\S+\.ftz\S*", ptx),
            "approximate": re.findall(r"\b\S+\.(?:approx|full)\S*", ptx),
            "atomic": re.findall(r"\b(?:atom|red)\.\S+", ptx),
            "wide": len(re.findall(r"\b(?:ld|st)\.global\.v[24]\S*", ptx)),
            "channels": next((a.shape[-3] for a in args if isinstance(a, torch.Tensor) and a.dim() in (4, 5)), 0),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    compare_sizes() if sys.argv[1] == "sizes" else main(int(sys.argv[1]))
