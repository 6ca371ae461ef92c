"""What an inference costs in operations, bytes and joules: a spiking network, as it was seen to fire, and its ReLU twin.

One image, or one recording, through a network whose batch norms are folded into the convolutions:

- a spike, or an integer k from ADD, is one accumulate, or k, for every weight that it meets;
- the stem of a still image is multiply-accumulates, once; frames of events are multiply-accumulates at every step;
- every neuron adds its current to its membrane at every step, and compares; SEW adds the shortcut. Pooling, which both do, is
  left out: of spikes it is an OR;
- weights come from DRAM once; activations are written and read once in on-chip memory, spikes in as few bits as their largest
  value needs, and membranes, which a ReLU network does not have, are read and written in 32 bits at every step.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import ConvNorm, ConvNormFire
from ..models.network import Network
from ..models.recorder import training_mode
from ..neurons import IF

HOROWITZ = 'M. Horowitz, "Computing\'s energy problem", ISSCC 2014, Fig. 1.1.9'
SOURCES = {  # of each constant
    "add_float32": f"{HOROWITZ}: 32-bit floating-point add",
    "multiply_float32": f"{HOROWITZ}: 32-bit floating-point multiply",
    "add_int8": f"{HOROWITZ}: 8-bit integer add",
    "multiply_int8": f"{HOROWITZ}: 8-bit integer multiply",
    "add_int32": f"{HOROWITZ}: 32-bit integer add",
    "add_int4": "no measurement: half of the 8-bit adder",
    "multiply_int4": "no measurement: a quarter of the 8-bit multiplier",
    "memory_byte": f"{HOROWITZ}: 20 pJ for 64 bits from a 32 KB cache",
    "dram_byte": f"{HOROWITZ}: 1,300 to 2,600 pJ for 64 bits from DRAM, here the lower one",
}


@dataclass(frozen=True)
class Joules:
    """Energy of one operation in picojoules, in 45 nm CMOS at 0.9 V; SOURCES says where each comes from."""

    add_float32: float = 0.9
    multiply_float32: float = 3.7
    add_int8: float = 0.03
    multiply_int8: float = 0.2
    add_int32: float = 0.1
    add_int4: float = 0.015
    multiply_int4: float = 0.05
    memory_byte: float = 20 / 8
    dram_byte: float = 1300 / 8

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0):
                raise ValueError(f"{entry.name}={value!r}; energies are picojoules, 0 or more")

    @classmethod
    def read(cls, file: Path) -> "Joules":
        """Constants from a JSON file; those that it doesn't name stay as they are."""
        known = ", ".join(SOURCES)
        try:
            given = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is no JSON: {error}; it may hold picojoules of {known}") from None
        if not isinstance(given, dict):
            raise ValueError(f"{file} holds no object of numbers; known: {known}")
        if unknown := [name for name in given if name not in SOURCES]:
            raise ValueError(f"{file}: {unknown[0]!r} is unknown; known: {known}")
        return cls(**given)


class Layer(NamedTuple):
    """One convolution (or the last, linear layer) for one image, all time steps.

    dense:       multiply-accumulates of the ReLU twin: weights times places, borders counted exactly
    multiplies:  multiply-accumulates of the spiking network
    accumulates: of the spiking network
    rate:        mean of what comes in, per value and time step; most, the largest
    most_out:    largest value that leaves its neurons, behind the connection
    neurons:     neurons behind it; 0 where there are none
    """

    name: str
    dense: float
    multiplies: float
    accumulates: float
    rate: float
    most: int
    most_out: int
    neurons: int
    weights: int


class Cost(NamedTuple):
    """One way to compute one image.

    operations, weights, activations, membranes: picojoules
    """

    what: str
    operations: float
    weights: float
    activations: float
    membranes: float

    @property
    def total(self) -> float:
        return self.operations + self.weights + self.activations + self.membranes


class Energy(NamedTuple):
    """What was counted and what it costs: of the spiking network and its ReLU twin, for one image."""

    layers: list[Layer]
    T: int
    neuron_adds: float
    connect_adds: float
    costs: list[Cost]

    @property
    def synaptic(self) -> float:
        """Accumulates of all layers."""
        return sum(layer.accumulates for layer in self.layers)


class _Seen:
    """What a convolution saw over all batches: sums over samples."""

    def __init__(self) -> None:
        self.dense = self.spikes_out = self.total = self.count = self.samples = 0.0
        self.most = self.most_out = 0
        self.outputs = 0


@torch.no_grad()
def count(net: Network, batches: Iterable[Tensor], joules: Joules | None = None) -> Energy:
    """Count what the network does on these samples, in evaluation mode; the network is left as it was.

    Shapes:  batches of images [N, C, H, W] or frames [T, N, C, H, W]
    Raises:  ValueError for a network that does not spike, or no samples
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike; give its spiking twin, whose table has both")
    joules = joules or Joules()
    layers = {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm)}
    seen = {name: _Seen() for name in layers}
    samples, steps, still = 0, net.T, True
    hooks = [module.conv.register_forward_hook(noting(seen[name])) for name, module in layers.items()]
    hooks += [module.register_forward_hook(noting_output(seen[name])) for name, module in layers.items()]
    try:
        with training_mode(net, training=False):
            for batch in batches:
                still = batch.dim() == 4
                steps = net.T if still else len(batch)
                samples += len(batch) if still else batch.shape[1]
                net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not samples:
        raise ValueError("no samples: nothing was counted")
    first = next(iter(layers))
    counted = []
    for name, module in layers.items():
        of, conv = seen[name], module.conv
        channels = conv.out_channels
        frames = of.count and of.total / of.count
        is_stem = name == first
        runs = 1 if is_stem and still else steps  # how often the twin's dense work is done here, per sample
        dense = of.dense * conv.in_channels * channels / samples / runs
        neurons = int(of.outputs * channels / samples / runs) if isinstance(module, ConvNormFire) else 0
        sums = of.spikes_out * channels / samples
        multiplies = dense * runs if is_stem else 0.0
        counted.append(
            Layer(
                name,
                dense,
                multiplies,
                0.0 if is_stem else sums,
                float(frames),
                of.most,
                of.most_out,
                neurons,
                conv.weight.numel() + channels,
            )
        )
    head = net.head
    work = float(head.in_features * head.out_features)
    counted.append(Layer("head", work, work, 0.0, 0.0, 0, 0, 0, head.weight.numel() + head.out_features))
    neuron_adds = float(sum(layer.neurons for layer in counted) * steps)
    connects = sum(layer.neurons for layer in counted if connected(layers.get(layer.name)))
    return Energy(
        counted, steps, neuron_adds, float(connects * steps), costs(net, counted, steps, neuron_adds, connects * steps, joules)
    )


def connected(layer: nn.Module | None) -> bool:
    return isinstance(layer, ConvNormFire) and layer.connect is not None


def noting(seen: _Seen) -> Any:
    """A hook that counts, exactly at the borders: how many weights each value that comes in meets, per output channel."""

    def note(conv: nn.Conv2d, given: tuple[Tensor, ...], out: Tensor) -> None:
        x = given[0].detach().float()
        ones = torch.ones(1, 1, *conv.kernel_size, device=x.device, dtype=torch.float64)
        stride, padding = conv.stride[0], int(conv.padding[0])
        per_place = F.conv2d(x.sum(1, keepdim=True).double(), ones, None, stride, padding)
        seen.spikes_out += float(per_place.sum())
        inside = torch.ones(1, 1, *x.shape[-2:], device=x.device, dtype=torch.float64)
        places = F.conv2d(inside, ones, None, stride, padding)
        seen.dense += float(places.sum()) * len(x)
        seen.total += float(x.sum(dtype=torch.float64))
        seen.count += x.numel()
        seen.most = max(seen.most, math.ceil(float(x.max())))
        seen.outputs += out.shape[-2] * out.shape[-1] * len(x)

    return note


def noting_output(seen: _Seen) -> Any:
    def note(_layer: nn.Module, _given: object, out: Tensor) -> None:
        seen.most_out = max(seen.most_out, math.ceil(float(out.max())))

    return note


def costs(net: Network, layers: list[Layer], T: int, neuron_adds: float, connects: float, joules: Joules) -> list[Cost]:
    """The spiking network in 32-bit floating point and with 8-bit weights, its twin in 32, 8 and 4 bits."""
    multiplies, accumulates = sum(layer.multiplies for layer in layers), sum(layer.accumulates for layer in layers)
    dense = sum(layer.dense for layer in layers)
    leaky = any(isinstance(m, ConvNormFire) and not isinstance(m.neuron, IF) for m in net.modules())
    neurons = sum(layer.neurons for layer in layers)
    # what goes between layers, once written and once read; of the spiking network in the bits that its values need
    bits = sum(layer.neurons * max(1, layer.most_out).bit_length() for layer in layers)
    spikes = 2 * T * bits / 8 * joules.memory_byte
    membranes = 2 * 4 * T * neurons * joules.memory_byte
    weights = sum(layer.weights for layer in layers)
    float_mac, int8_mac = joules.add_float32 + joules.multiply_float32, joules.multiply_int8 + joules.add_int32
    int4_mac = joules.multiply_int4 + joules.add_int32
    # adding the current and comparing; a leak multiplies, too
    neuron_float = 2 * joules.add_float32 + (joules.multiply_float32 if leaky else 0)
    neuron_int = 2 * joules.add_int32 + (joules.multiply_int8 if leaky else 0)
    found = [
        Cost(
            "spiking, float32",
            multiplies * float_mac + (accumulates + connects) * joules.add_float32 + neuron_adds * neuron_float,
            4 * weights * joules.dram_byte,
            spikes,
            membranes,
        ),
        Cost(
            "spiking, 8-bit weights",
            multiplies * int8_mac + (accumulates + connects) * joules.add_int32 + neuron_adds * neuron_int,
            weights * joules.dram_byte,
            spikes,
            membranes,
        ),
    ]
    for what, mac, bytes_each in (("float32", float_mac, 4.0), ("8 bits", int8_mac, 1.0), ("4 bits", int4_mac, 0.5)):
        activations = 2 * bytes_each * neurons * joules.memory_byte
        found.append(Cost(f"ReLU twin, {what}", dense * mac, bytes_each * weights * joules.dram_byte, activations, 0.0))
    return found


def verdict(energy: Energy) -> str:
    """Who needs less, said plainly."""
    by = {cost.what: cost.total for cost in energy.costs}
    said = []
    pairs = (
        ("spiking, float32", "ReLU twin, float32"),
        ("spiking, 8-bit weights", "ReLU twin, 8 bits"),
        ("spiking, 8-bit weights", "ReLU twin, 4 bits"),
    )
    for ours, theirs in pairs:
        if by[theirs]:
            ratio = by[ours] / by[theirs]
            said.append(f"{ours}: {ratio:.2f} of the {theirs}" + (", which needs less" if ratio > 1 else ""))
    return "; ".join(said)


def sources(joules: Joules) -> list[str]:
    """Every constant with its source, a line each; those that were replaced say so."""
    usual = Joules()
    return [
        f"{name} {value:g} pJ: "
        + (SOURCES[name] if value == getattr(usual, name) else f"replaced, by default {getattr(usual, name):g}")
        for name, value in vars(joules).items()
    ]
