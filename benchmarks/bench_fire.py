"""The recurrence alone, forward and backward, against SpikingJelly's torch backend; and its time against T and batch.

Once as a user calls it, through autograd, and once as its two kernels with outputs that are there already: a tensor of half a
gigabyte is often new memory, whose pages the system fills with zeros, which takes longer than the arithmetic and varies most.
SpikingJelly's tensors, one per time step, come from memory it has freed in the rounds that warm it up.

.venv/bin/pip install --no-deps spikingjelly==2.0.0 loguru h5py
.venv/bin/python benchmarks/bench_fire.py
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from peers import spikingjelly
from runner import parse_options, report, save, take_turns
from torch import Tensor

from spikewise.kernels import get_backend, reference
from spikewise.kernels.cpu.launch import call_native, num_partial_rows
from spikewise.kernels.cpu.norm_fire import Call
from spikewise.kernels.spec import FireSpec, FireTensors
from spikewise.neurons import LIF

PREALLOCATED = "spikewise, preallocated"


@dataclass
class Options:
    """The shape of the current [T, N, features]."""

    T: int = 500
    batch: int = 16
    features: int = 16_384
    rounds: int = 5
    scaling: bool = True  # time against T and batch, too


def contestants(x: Tensor, upstream: Tensor, *, peer: bool) -> dict[str, Callable[[], object]]:
    ours = LIF(tau=2.0)

    def fused() -> None:
        spikes = ours(x)
        torch.autograd.grad(spikes, x, upstream)

    steps: dict[str, Callable[[], object]] = {"spikewise": fused}
    if peer:
        steps[PREALLOCATED] = into_memory(x.detach(), upstream)
        sj = spikingjelly()
        theirs = sj.neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=sj.surrogate.ATan(), step_mode="m")

        def stepped() -> None:
            theirs.reset()
            torch.autograd.grad(theirs(x), x, upstream)

        steps["SpikingJelly torch"] = stepped
    into = torch.empty_like(x)
    steps["copy"] = lambda: into.copy_(x.detach())
    return steps


def into_memory(x: Tensor, upstream: Tensor) -> Callable[[], None]:
    """The two kernels behind `fused`, with the same outputs every time."""
    coefficients, one, zero = torch.tensor(LIF(tau=2.0).coefficients()), torch.ones(1), torch.zeros(1)
    frames, gradient = (tensor.flatten(1)[..., None, None, None] for tensor in (x, upstream))  # [T, n, 1, 1, 1]
    spikes, grad_x = torch.zeros_like(frames), torch.zeros_like(frames)
    call = Call(FireTensors(frames, one, zero, coefficients), FireSpec())
    sums = torch.empty(num_partial_rows(call.args.space), 2, 1)
    call.point(out=spikes, grad_out=gradient, grad_y=grad_x, center=zero, partial=sums)

    def step() -> None:
        call_native("norm_fire", call.args, x.dtype)
        call_native("norm_fire_backward", call.args, x.dtype)

    step()
    leaf = x.clone().requires_grad_()
    expected = LIF(tau=2.0)(leaf)
    if not (
        torch.equal(spikes.view_as(x), expected)
        and torch.equal(grad_x.view_as(x), torch.autograd.grad(expected, leaf, upstream)[0])
    ):
        raise SystemExit("the kernels alone and the neuron differ: no time is taken")
    return step


def main(o: Options) -> None:
    small = torch.randn(9, 3, 40)
    neuron = LIF(tau=2.0).params()
    if not torch.equal(get_backend("cpu", small).fire(small, neuron)[0], reference.fire(small, neuron)[0]):
        raise SystemExit("the fused kernel and the reference differ: no time is taken")
    x = torch.randn(o.T, o.batch, o.features, requires_grad=True)
    upstream = torch.randn(o.T, o.batch, o.features)
    shape = {"T": o.T, "batch": o.batch, "features": o.features}
    seconds = take_turns(contestants(x, upstream, peer=True), o.rounds)
    what = "fire, LIF, forward and backward, fp32"
    lines = report(what, {name: s for name, s in seconds.items() if name != "spikewise"}, PREALLOCATED, **shape)
    lines += report(what, {name: s for name, s in seconds.items() if name != PREALLOCATED}, "spikewise", **shape)
    # forward reads x and writes spikes, backward reads x and the gradient and writes one: 5 tensors; a copy moves 2
    for line in lines:
        if line["peer"] == "copy":
            line["share_of_copy_bandwidth"] = round(2.5 / line["ratio"], 3)
    save("fire", lines)
    del x, upstream, seconds
    if not o.scaling:
        return
    lines = []
    for T, batch in [(T, 8) for T in (1, 2, 4, 8, 16, 32, 64)] + [(8, batch) for batch in (1, 2, 4, 16, 32, 64)]:
        x = torch.randn(T, batch, 65_536, requires_grad=True)
        seconds = take_turns(contestants(x, torch.randn(T, batch, 65_536), peer=False), o.rounds)
        lines += report(f"fire, T = {T}, batch {batch}", seconds, "spikewise", T=T, batch=batch, features=65_536)
    save("fire", lines)


if __name__ == "__main__":
    main(parse_options(Options))
