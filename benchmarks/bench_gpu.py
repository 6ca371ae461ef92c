"""Kernels on a CUDA GPU against a plain copy, which is as fast as memory: norm_fire and its parts, and the recurrence alone.

First the kernels are compared with the reference on the same GPU, at the sizes that are timed; where they differ no time is
reported. A line's `share_of_copy_bandwidth` counts what a kernel must move at least, so 1 is a kernel that costs no more than
its memory.

    .venv/bin/python benchmarks/bench_gpu.py [--rounds 30] [--batch 32] [--precision bfloat16]
"""

import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from runner import report, save, take_turns
from torch import Tensor

from spikewise.kernels import reference
from spikewise.kernels.calls import laid_out
from spikewise.kernels.connect import add
from spikewise.kernels.cuda import operators as triton_gpu
from spikewise.kernels.cuda import pooled as triton_pool_gpu
from spikewise.neurons import IF, LIF

CALLS = 10  # between two looks at the clock: a kernel is started while the one before it runs
WINDOW = (3, 2, 1)


@dataclass
class Options:
    """The shape of a layer [T, batch, channels, size, size], and of the current [fire_T, fire_batch, features]."""

    T: int = 4
    batch: int = 32
    channels: int = 64
    size: int = 56
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    fire_T: int = 500
    fire_batch: int = 16
    features: int = 16_384
    rounds: int = 30


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


class Layer:
    """A layer's tensors, and its kernels as functions of nothing."""

    def __init__(self, o: Options):
        dtype = getattr(torch, o.precision)
        shape = (o.T, o.batch, o.channels, o.size, o.size)
        self.y, self.grad = (laid_out(torch.randn(shape, device="cuda").to(dtype), inner=True) for _ in range(2))
        self.shortcut = laid_out((torch.rand(shape, device="cuda") < 0.2).to(dtype), inner=True)
        self.scale, self.shift = torch.rand(o.channels, device="cuda") + 0.5, torch.randn(o.channels, device="cuda")
        self.dynamics = IF().dynamics()
        self.abc = torch.tensor(self.dynamics[:3], device="cuda")
        self.rules, self.still = (0, 0, *self.dynamics[3:]), (-1, o.T, *self.dynamics[3:])
        self.frame, self.centre = self.y[0], torch.zeros_like(self.scale)
        self.packed = triton_pool_gpu.pack(self.shortcut, 2)
        self.place = triton_pool_gpu.fire_pool(self.frame, *self.numbers, *self.still, WINDOW)

    @property
    def numbers(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.scale, self.shift, self.abc

    def forward(self, planes: int = 0) -> tuple[Tensor, ...]:
        return triton_gpu.norm_fire(self.y, *self.numbers, self.shortcut, None, None, *self.rules, False, planes)

    def backward(self, wants: tuple[bool, ...] = (False,) * 4) -> tuple[Tensor, ...]:
        given = (self.grad, None, self.y, *self.numbers, None, None, None)
        return triton_gpu.norm_fire_backward(*given, *self.rules, self.centre, True, wants)

    def pooled(self) -> tuple[Tensor, ...]:
        return triton_pool_gpu.fire_pool(self.frame, *self.numbers, *self.still, WINDOW)

    def pooled_backward(self) -> tuple[Tensor, ...]:
        out, place = self.place
        given = (out, place, self.frame, *self.numbers)
        return triton_pool_gpu.fire_pool_backward(*given, *self.still, WINDOW, self.centre, True, False)

    def kernels(self, o: Options) -> dict[str, tuple[Callable[[], Any], float]]:
        """Each with what it moves at least, in tensors like y."""
        coefficients, grad, bits = torch.rand(3, o.channels, device="cuda"), self.grad.clone(), 8 * self.y.element_size()
        pooled_share = self.place[0].numel() / self.y.numel() * (1 + 8 / bits)  # pooled spikes, and a byte each
        return {
            "norm_stats": (lambda: triton_gpu.norm_stats(self.y, 2), 1),
            "norm_fire, ADD": (self.forward, 3),
            "norm_fire, ADD, 2 bit planes": (lambda: self.forward(2), 3 + 2 / bits),
            "norm_fire_backward": (self.backward, 3),
            "norm_fire_backward, PLIF": (lambda: self.backward((False, False, False, True)), 3),
            "through_statistics": (lambda: triton_gpu.through_statistics_(grad, self.y, self.centre, coefficients), 3),
            "fire_pool": (self.pooled, 1 / o.T + pooled_share),
            "fire_pool_backward": (self.pooled_backward, 2 / o.T + pooled_share),
            "pack, 2 planes": (lambda: triton_pool_gpu.pack(self.shortcut, 2), 1 + 2 / bits),
            "unpack, 2 planes": (lambda: triton_pool_gpu.unpack(self.packed, self.y.shape, 2, self.y.dtype), 1 + 2 / bits),
        }

    def differences(self) -> list[str]:
        """What is not as the reference has it."""
        # float32, whatever the storage: in float64 a membrane may lie on the other side of the threshold
        leaves = [tensor.float().clone().requires_grad_() for tensor in (self.y, self.scale, self.shift)]
        spikes, _ = reference.norm_fire(*leaves, self.dynamics, shortcut=self.shortcut.float(), connect=add)
        gradients = torch.autograd.grad(spikes, leaves, self.grad.float())
        grad_y, *_, (grad_shift, grad_scale) = self.backward()
        out, _, packed = self.forward(2)
        expected, _ = reference.norm_fire(self.y, *self.numbers[:2], self.dynamics, shortcut=self.shortcut, connect=add)
        mean, variance = triton_gpu.norm_stats(self.y, 2)
        exact_variance, exact_mean = torch.var_mean(self.y.double(), (0, 1, 3, 4), correction=0)
        still = {"repeat": len(self.y), "pool": WINDOW, "keep_v": False}
        pooled, _ = reference.norm_fire(self.frame, *self.numbers[:2], self.dynamics, **still)
        tolerance = max(1e-5, 4 * torch.finfo(self.y.dtype).eps)
        same = {
            "spikes": torch.equal(out, expected),
            "bit planes": torch.equal(triton_pool_gpu.unpack(packed, out.shape, 2, out.dtype), out),
            "pooled spikes": torch.equal(self.pooled()[0], pooled),
            "means": relative(mean + 1, exact_mean + 1) < 1e-6,
            "variances": relative(variance, exact_variance) < 1e-6,
            "gradients": all(
                relative(*pair) < tolerance for pair in zip((grad_y, grad_scale, grad_shift), gradients, strict=True)
            ),
            "gradients, a second time": all(map(torch.equal, self.backward(), self.backward())),
        }
        return [name for name, equal in same.items() if not equal]


class Currents:
    """The recurrence alone, LIF, as `bench_fire.py` has it on the CPU: one channel."""

    def __init__(self, steps: int, neurons: int):
        self.x, self.grad = (torch.randn(steps, neurons, 1, 1, 1, device="cuda") for _ in range(2))
        self.dynamics = LIF(tau=2.0).dynamics()
        self.one, self.zero = torch.ones(1, device="cuda"), torch.zeros(1, device="cuda")
        self.given = (self.x, self.one, self.zero, torch.tensor(self.dynamics[:3], device="cuda"), None, None, None)
        self.rules = (-1, 0, *self.dynamics[3:])

    def forward(self) -> tuple[Tensor, ...]:
        return triton_gpu.norm_fire(*self.given, *self.rules, False, 0)

    def backward(self) -> tuple[Tensor, ...]:
        return triton_gpu.norm_fire_backward(self.grad, None, *self.given, *self.rules, self.zero, True, (False,) * 4)

    def both(self) -> None:
        self.forward()
        self.backward()

    def differences(self) -> list[str]:
        leaf = self.x.requires_grad_()
        expected, _ = reference.fire(leaf, self.dynamics, keep_v=False)
        (grad,) = torch.autograd.grad(expected, leaf, self.grad)
        self.x.requires_grad_(False)
        same = {"spikes": torch.equal(self.forward()[0], expected), "gradients": relative(self.backward()[0], grad) < 1e-5}
        return [f"{name} of fire" for name, equal in same.items() if not equal]


def often(step: Callable[[], Any]) -> Callable[[], None]:
    def several() -> None:
        for _ in range(CALLS):
            step()
        torch.cuda.synchronize()

    return several


def timed(what: str, step: Callable[[], Any], moved: float, y: Tensor, rounds: int, **shape: Any) -> list[dict[str, Any]]:
    """A kernel that moves so many tensors like y at least, against a copy, which moves two."""
    into = torch.empty_like(y)
    seconds = take_turns({"spikewise": often(step), "copy": often(lambda: into.copy_(y))}, rounds)
    seconds = {name: [second / CALLS for second in each] for name, each in seconds.items()}
    lines = report(what, seconds, "spikewise", **shape)
    for line in lines:
        line["share_of_copy_bandwidth"] = round(moved / 2 / line["ratio"], 3)
        line["copy_GB_per_s"] = round(2 * y.nbytes / line["peer_s"] / 1e9)
        line["gpu"], line["triton"] = torch.cuda.get_device_name(), importlib.metadata.version("triton")
        print(f"{'':<58} {line['share_of_copy_bandwidth']:.0%} of the copy's bandwidth", file=sys.stderr)
    return lines


def main(o: Options) -> None:
    if not torch.cuda.is_available() or (reason := triton_gpu.reason_against(torch.empty(0, device="cuda"))):
        print(f"no CUDA GPU to measure: {reason if torch.cuda.is_available() else 'PyTorch sees none'}", file=sys.stderr)
        raise SystemExit(2)
    torch.manual_seed(0)
    layer = Layer(o)
    small = Currents(min(o.fire_T, 40), o.features)  # the reference keeps every step for its gradients
    if differences := layer.differences() + small.differences():
        raise SystemExit(f"the kernels and the reference differ in {', '.join(differences)}: no time is taken")
    shape = {"T": o.T, "batch": o.batch, "channels": o.channels, "size": o.size, "precision": o.precision}
    lines = []
    for what, (step, moved) in layer.kernels(o).items():
        lines += timed(what, step, moved, layer.y, o.rounds, **shape)
    del layer, small
    alone = Currents(o.fire_T, o.fire_batch * o.features)
    shape = {"T": o.fire_T, "batch": o.fire_batch, "features": o.features, "precision": "float32"}
    for what, step, moved in (
        ("fire, LIF, forward", alone.forward, 2),
        ("fire, LIF, backward", alone.backward, 3),
        ("fire, LIF, forward and backward", alone.both, 5),
    ):
        lines += timed(what, step, moved, alone.x, o.rounds, **shape)
    save("gpu", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
