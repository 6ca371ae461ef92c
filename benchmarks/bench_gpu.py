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
from runner import parse_options, report, save, take_turns
from torch import Tensor

from spikewise.kernels import NormParams, reference
from spikewise.kernels.connect import add
from spikewise.kernels.layout import to_layout
from spikewise.kernels.spec import (
    Connect,
    FireBackwardOutput,
    FireGrads,
    FireOutput,
    FireSpec,
    FireTensors,
    GradSpec,
    PoolWindow,
)
from spikewise.kernels.triton import launch, unavailable_reason
from spikewise.kernels.triton.norm_fire import batch_norm_backward_, norm_fire, norm_fire_backward, norm_stats
from spikewise.kernels.triton.packing import pack, unpack
from spikewise.neurons import IF, LIF

DEVICE = "cpu" if launch.is_interpreted() else "cuda"
CALLS = 10  # between two looks at the clock: a kernel is started while the one before it runs
WINDOW = PoolWindow(3, 2, 1)


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
        dtype, shape = getattr(torch, o.precision), (o.T, o.batch, o.channels, o.size, o.size)
        random = (torch.randn(shape, device=DEVICE), torch.randn(shape, device=DEVICE), torch.rand(shape, device=DEVICE) < 0.2)
        self.y, self.grad, self.shortcut = (to_layout(x.to(dtype), channels_last=True) for x in random)
        self.scale, self.shift = torch.rand(o.channels, device=DEVICE) + 0.5, torch.randn(o.channels, device=DEVICE)
        self.center, self.neuron = torch.zeros_like(self.scale), IF().params()
        numbers = (self.scale, self.shift, torch.tensor(self.neuron[:3], device=DEVICE))
        self.tensors, self.spec = FireTensors(self.y, *numbers, self.shortcut), FireSpec(connect=Connect.ADD)
        self.still, self.pool = FireTensors(self.y[0], *numbers), FireSpec(repeat_steps=o.T, pool=[*WINDOW])
        self.planes, self.pooled = pack(self.shortcut, 2), norm_fire(self.still, self.pool)

    def forward(self, planes: int = 0) -> FireOutput:
        return norm_fire(self.tensors, self.spec._replace(num_planes=planes))

    def backward(self, *, coefficients: bool = False) -> FireBackwardOutput:
        grads, want = FireGrads(self.grad, None, self.center), GradSpec(True, want_coefficients=coefficients)
        return norm_fire_backward(grads, self.tensors, self.spec, want)

    def pooled_backward(self) -> FireBackwardOutput:
        grads = FireGrads(self.pooled.out, None, self.center, self.pooled.pool_indices)
        return norm_fire_backward(grads, self.still, self.pool, GradSpec(True))

    def kernels(self, o: Options) -> dict[str, tuple[Callable[[], Any], float]]:
        """Each with what it moves at least, in tensors like y."""
        sums, grad, bits = torch.rand(2, o.channels, device=DEVICE), self.grad.clone(), 8 * self.y.element_size()
        norm = (self.center, torch.ones_like(self.scale), self.scale, sums, self.y.numel() // o.channels)
        pooled_share = self.pooled.out.numel() / self.y.numel() * (1 + 8 / bits)  # pooled spikes, and a byte each
        return {
            "norm_stats": (lambda: norm_stats(self.y, 2), 1),
            "norm_fire, ADD": (self.forward, 3),
            "norm_fire, ADD, 2 bit planes": (lambda: self.forward(2), 3 + 2 / bits),
            "norm_fire_backward": (self.backward, 3),
            "norm_fire_backward, PLIF": (lambda: self.backward(coefficients=True), 3),
            "batch_norm_backward_": (lambda: batch_norm_backward_(grad, self.y, *norm), 3),
            "norm_fire, pooled": (lambda: norm_fire(self.still, self.pool), 1 / o.T + pooled_share),
            "norm_fire_backward, pooled": (self.pooled_backward, 2 / o.T + pooled_share),
            "pack, 2 planes": (lambda: pack(self.shortcut, 2), 1 + 2 / bits),
            "unpack, 2 planes": (lambda: unpack(self.planes, self.y.shape, self.y.dtype, True), 1 + 2 / bits),
        }

    def by_reference(self, y: Tensor, scale: Tensor, shift: Tensor, **options: Any) -> Tensor:
        norm = NormParams(scale, shift, 0.0, torch.zeros_like(shift), torch.ones_like(scale))
        return reference.norm_fire(y, norm, self.neuron, return_membrane=False, **options)[0]

    def differences(self) -> list[str]:
        """What is not as the reference has it."""
        # float32, whatever the storage: in float64 a membrane may lie on the other side of the threshold
        leaves = [tensor.float().clone().requires_grad_() for tensor in (self.y, self.scale, self.shift)]
        spikes = self.by_reference(*leaves, shortcut=self.shortcut.float(), connect=add)
        gradients = torch.autograd.grad(spikes, leaves, self.grad.float())
        found, again, got = self.backward(), self.backward(), self.forward(2)
        grad_shift, grad_scale = found.channel_sums
        expected = self.by_reference(self.y, self.scale, self.shift, shortcut=self.shortcut, connect=add)
        pooled = self.by_reference(self.y[0], self.scale, self.shift, repeat_steps=len(self.y), pool=WINDOW)
        mean, variance = norm_stats(self.y, 2)
        exact_variance, exact_mean = torch.var_mean(self.y.double(), (0, 1, 3, 4), correction=0)
        tolerance = max(1e-5, 4 * torch.finfo(self.y.dtype).eps)
        same = {
            "spikes": torch.equal(got.out, expected),
            "bit planes": torch.equal(unpack(got.planes, got.out.shape, got.out.dtype, True), got.out),
            "pooled spikes": torch.equal(self.pooled.out, pooled),
            "means": relative(mean + 1, exact_mean + 1) < 1e-6,
            "variances": relative(variance, exact_variance) < 1e-6,
            "gradients": all(
                relative(*pair) < tolerance for pair in zip((found.grad_y, grad_scale, grad_shift), gradients, strict=True)
            ),
            "gradients, a second time": all(map(torch.equal, found, again)),
        }
        return [name for name, equal in same.items() if not equal]


class Currents:
    """The recurrence alone, LIF, as `bench_fire.py` has it on the CPU: one channel."""

    def __init__(self, steps: int, neurons: int):
        self.x, self.grad = (torch.randn(steps, neurons, 1, 1, 1, device=DEVICE) for _ in range(2))
        self.neuron = LIF(tau=2.0).params()
        one, zero = torch.ones(1, device=DEVICE), torch.zeros(1, device=DEVICE)
        self.tensors = FireTensors(self.x, one, zero, torch.tensor(self.neuron[:3], device=DEVICE))
        self.grads = FireGrads(self.grad, None, zero)

    def forward(self) -> FireOutput:
        return norm_fire(self.tensors, FireSpec())

    def backward(self) -> FireBackwardOutput:
        return norm_fire_backward(self.grads, self.tensors, FireSpec(), GradSpec(True))

    def both(self) -> None:
        self.forward()
        self.backward()

    def differences(self) -> list[str]:
        leaf = self.x.clone().requires_grad_()
        expected, _ = reference.fire(leaf, self.neuron, return_membrane=False)
        (grad,) = torch.autograd.grad(expected, leaf, self.grad)
        same = {"spikes": torch.equal(self.forward().out, expected), "gradients": relative(self.backward().grad_y, grad) < 1e-5}
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
    reason = unavailable_reason() if torch.cuda.is_available() else "PyTorch sees none"  # the interpreter needs none
    if reason:
        print(f"no CUDA GPU to measure: {reason}", file=sys.stderr)
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
    main(parse_options(Options))
