"""Triton's kernels, as the launchers start them, compiled for GPUs that need not be there: test_triton.py runs this file.

Prints one line of JSON per kernel: its name, the target, and what was found in its machine code. What a change does to the
registers of a layer's: python tests/kernels/triton_compile.py 90 4 bfloat16 fixed
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from spikewise.kernels.spec import Connect, FireGrads, FireSpec, FireTensors, GradSpec, PoolWindow, Surrogate
from spikewise.kernels.triton import norm_fire as launchers
from spikewise.kernels.triton.max_pool import max_pool, max_pool_backward
from spikewise.kernels.triton.norm_fire import (
    batch_norm_affine,
    batch_norm_backward_,
    norm_fire,
    norm_fire_backward,
    norm_stats,
)
from spikewise.kernels.triton.packing import pack, unpack

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
MOVES = r"\b{}\.global(?:\.\w+)*?(?:\.v(\d))?\.[busf](\d+)"  # a load or store of so many values of so many bits
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
    surrogates = iter([*Surrogate] * 2)
    cases = [(4, torch.float32, 64, 0), (4, torch.bfloat16, 64, 2), (6, torch.float16, 3, 1), (2, torch.float32, 1, 0)]
    for connect, (steps, dtype, channels, planes) in zip(Connect, cases, strict=True):
        y = torch.zeros(steps, 1, channels, 8, 8, dtype=dtype)
        numbers, shortcut = (torch.ones(channels), torch.ones(channels)), y if connect else None
        rules = FireSpec(surrogate=next(surrogates), detach_reset=False, connect=connect, num_planes=planes)
        start_fire(
            FireTensors(y, *numbers, torch.ones(3), shortcut, y, torch.zeros(y.shape[1:])),
            rules._replace(return_membrane=True),
            GradSpec(connect > Connect.ADD, True, True, True),
        )
        start_fire(
            FireTensors(y[0], *numbers, None, shortcut),
            rules._replace(v_reset=None, surrogate=next(surrogates), detach_reset=True, repeat_steps=steps),
            GradSpec(connect > Connect.ADD),
        )
        if connect <= Connect.ADD:
            start_rest(y, numbers)


def start_fire(tensors, spec, want):
    out, v_last, _, indices = norm_fire(tensors, spec)
    per_channel = tensors.scale, tensors.shift
    grads = FireGrads(out, v_last if spec.return_membrane else None, *per_channel, indices if spec.pool else None)
    norm_fire_backward(grads, tensors, spec, want)


def start_rest(y, numbers):
    """What is no norm_fire of a sequence: statistics, pooling, packing."""
    window = (3, 2, 1)
    norm_stats(y, 2)
    batch_norm_affine(y, *numbers, 1e-5)
    batch_norm_backward_(y, y, *numbers[:1] * 3, y[:, :, 0].numel())
    start_fire(FireTensors(y[0], *numbers), FireSpec(repeat_steps=4, pool=PoolWindow(*window)), GradSpec())
    out, indices = max_pool(y[0], *window)
    max_pool_backward(out, indices, y[0].shape, *window)
    unpack(pack(y, 2), y.shape, y.dtype, True)


def start_one(batch, size):
    """A layer's kernels, for one batch and image size."""
    y, numbers = torch.zeros(4, batch, 64, size, size, dtype=torch.bfloat16), (torch.ones(64), torch.ones(64))
    start_fire(FireTensors(y, *numbers, None, y), FireSpec(connect=Connect.ADD, num_planes=2), GradSpec())
    start_rest(y, numbers)


def compare_sizes():
    """Prints how many kernels a layer needs, then how many more the same one does with other batches and image sizes."""
    compile_only(90)
    for batch, size in ((2, 8), (1, 4), (3, 7), (5, 33), (32, 14)):
        before = len(compiled)
        start_one(batch, size)
        print(len(compiled) - before, flush=True)


def registers(ptx, target):
    """Of a thread, and bytes that do not fit and go to memory, as NVIDIA's assembler says."""
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        options = ["-v", "--fmad=false", "--gpu-name", target, "--output-file", "/dev/null"]
        said = subprocess.run([PTXAS, *options, file.name], capture_output=True, text=True, check=True).stderr
    return int(re.search(r"Used (\d+) registers", said)[1]), sum(map(int, re.findall(r"(\d+) bytes spill", said)))


def facts(name, kernel, channels):
    """What was found in a kernel's machine code. loads, stores: how many of so many bytes."""
    ptx = kernel.asm["ptx"]
    target = re.search(r"\.target (\w+)", ptx)[1]
    moves = {what: [int(n or 1) * int(bits) // 8 for n, bits in re.findall(MOVES.format(what), ptx)] for what in ("ld", "st")}
    used, spilled = registers(ptx, target)
    return {
        "kernel": name,
        "target": target,
        "cubin": len(kernel.asm["cubin"]),
        "fused": re.findall(r"\bfma\.\S+", ptx),
        "flushed": re.findall(r"\b\S+\.ftz\S*", ptx),
        "approximate": re.findall(r"\b\S+\.(?:approx|full)\S*", ptx),
        "atomic": re.findall(r"\b(?:atom|red)\.\S+", ptx),
        "channels": channels,
        "registers": used,
        "spilled": spilled,
        "barriers": len(re.findall(r"\bbar(?:rier)?(?:\.\w+)*\.sync\b", ptx)),
        "loads": {size: moves["ld"].count(size) for size in set(moves["ld"])},
        "stores": {size: moves["st"].count(size) for size in set(moves["st"])},
    }


def start_layer(steps, dtype, learned):
    """A layer with ADD as networks have it, 64 channels, planes of its output."""
    y, per_channel = torch.zeros(steps, 2, 64, 8, 8, dtype=dtype), (torch.ones(64), torch.ones(64))
    coefficients = torch.ones(3) if learned else None
    spec = FireSpec(connect=Connect.ADD, num_planes=2)
    start_fire(FireTensors(y, *per_channel, coefficients, y), spec, GradSpec(want_coefficients=learned))
    norm_stats(y, 2)
    batch_norm_backward_(y, y, *per_channel, per_channel[0], y[:, :, 0].numel())


def main(capability, steps="", dtype="", coefficients=""):
    compile_only(int(capability))
    if steps:
        start_layer(int(steps), getattr(torch, dtype), coefficients == "learned")
    else:
        launchers.STEPS_PER_CHUNK = launchers.FORWARD_STEPS = 4  # as for more than 16 steps, in a quarter of the time
        start_all()
    for each in compiled.values():
        print(json.dumps(facts(*each)))


if __name__ == "__main__":
    compare_sizes() if sys.argv[1] == "sizes" else main(*sys.argv[1:])
