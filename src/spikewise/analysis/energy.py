"""The cost of an inference in operations, bytes and joules: a spiking network as it fires, and its ReLU twin.

One image, or one recording, through a network whose batch norms are folded into the convolutions:

- a spike, or an integer k from ADD, is one accumulate, or k, for every weight that it meets;
- the stem of a still image is multiply-accumulates, once; of frames of events, at every step;
- every neuron adds its current to its membrane at every step, and compares; SEW adds the shortcut. Pooling,
  which both networks do, is left out: of spikes it is an OR;
- weights come from DRAM once; activations are written and read once in on-chip memory, spikes in as few bits
  as their largest value needs; membranes, which a ReLU network does not have, are read and written in 32 bits
  at every step.
"""

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.layers import ConvNorm
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
class EnergyConstants:
    """Energy of one operation in picojoules, in 45 nm CMOS at 0.9 V; SOURCES cites each."""

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
    def read(cls, file: Path) -> "EnergyConstants":
        """Constants from a JSON file; those that it does not name keep their defaults."""
        known = ", ".join(SOURCES)
        try:
            constants = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is no JSON: {error}; it may hold picojoules of {known}") from None
        if not isinstance(constants, dict):
            raise ValueError(f"{file} holds no object of numbers; known: {known}")
        if unknown := [name for name in constants if name not in SOURCES]:
            raise ValueError(f"{file}: {unknown[0]!r} is unknown; known: {known}")
        return cls(**constants)


class LayerOps(NamedTuple):
    """One convolution (or the last, linear layer) for one image, all time steps.

    twin_macs:   multiply-accumulates of the ReLU twin: weights times positions, borders counted exactly
    macs, acs:   multiply-accumulates and accumulates of the spiking network
    rate:        mean of the input, per value and time step
    max_input:   its largest value
    max_output:  largest value that leaves its neurons, after the connection
    neurons:     neurons of the layer; 0 where there are none
    """

    name: str
    twin_macs: float
    macs: float
    acs: float
    rate: float
    max_input: int
    max_output: int
    neurons: int
    weights: int


class EnergyBreakdown(NamedTuple):
    """One way to compute one image: picojoules of its operations, weights, activations and membranes."""

    what: str
    operations: float
    weights: float
    activations: float
    membranes: float

    @property
    def total(self) -> float:
        return self.operations + self.weights + self.activations + self.membranes


class EnergyReport(NamedTuple):
    """Operations of the spiking network and its ReLU twin for one image, and what they cost."""

    layers: list[LayerOps]
    T: int
    neuron_adds: float
    connect_adds: float
    costs: list[EnergyBreakdown]

    @property
    def synops(self) -> float:
        """Synaptic operations: accumulates of all layers."""
        return sum(layer.acs for layer in self.layers)


class _ConvCounts:
    """Sums over all images that one convolution saw."""

    def __init__(self) -> None:
        self.images = self.values = self.outputs = self.max_input = self.max_output = 0
        self.weights_met = 0.0  # in the window of each output position, borders left out: of one input and one output channel
        self.weighted_input = 0.0  # each value times the weights that it meets: of one output channel
        self.total = 0.0

    def hook(self, layer: ConvNorm, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        conv = layer.conv
        x = inputs[0].detach().float().flatten(0, -4)  # [T, N, C, H, W] or [N, C, H, W] -> images
        window = torch.ones(1, 1, *conv.kernel_size, device=x.device, dtype=torch.float64)
        image = torch.ones(1, 1, *x.shape[-2:], device=x.device, dtype=torch.float64)
        stride, padding = conv.stride[0], int(conv.padding[0])
        weights_met = F.conv2d(image, window, None, stride, padding)
        self.weighted_input += float(F.conv2d(x.sum(1, keepdim=True).double(), window, None, stride, padding).sum())
        self.weights_met += float(weights_met.sum()) * len(x)
        self.outputs += weights_met.numel() * len(x)
        self.images += len(x)
        self.values += x.numel()
        self.total += float(x.sum(dtype=torch.float64))
        self.max_input = max(self.max_input, math.ceil(float(x.max())))
        self.max_output = max(self.max_output, math.ceil(float(output.max())))

    def layer_ops(self, name: str, layer: ConvNorm, *, samples: int, is_stem: bool, spiking: bool) -> LayerOps:
        """The layer for one sample; it saw each at every time step, or once as the stem of a still image."""
        channels = layer.conv.out_channels
        twin_macs = self.weights_met * layer.conv.in_channels * channels / self.images
        return LayerOps(
            name,
            twin_macs=twin_macs,
            macs=twin_macs * self.images / samples if is_stem else 0.0,
            acs=0.0 if is_stem else self.weighted_input * channels / samples,
            rate=self.total / self.values,
            max_input=self.max_input,
            max_output=self.max_output,
            neurons=int(self.outputs * channels / self.images) if spiking else 0,
            weights=layer.conv.weight.numel() + channels,
        )


@torch.no_grad()
def count_operations(net: Network, batches: Iterable[Tensor], constants: EnergyConstants | None = None) -> EnergyReport:
    """Count the operations of the network on these samples, in evaluation mode; the network is left as it was.

    Shapes:  batches of images [N, C, H, W] or frames [T, N, C, H, W]
    Raises:  ValueError for a network that does not spike, or no samples
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike; give its spiking twin, whose table has both")
    convs, spiking = net.conv_layers, net.spiking_layers
    counts = {name: _ConvCounts() for name in convs}
    samples, steps = 0, net.T
    with training_mode(net, training=False), ExitStack() as hooks:
        for name, layer in convs.items():
            hooks.enter_context(layer.register_forward_hook(counts[name].hook))
        for batch in batches:
            steps, size = (net.T, len(batch)) if batch.dim() == 4 else batch.shape[:2]
            samples += size
            net(batch)
    if not samples:
        raise ValueError("no samples: nothing was counted")
    stem, head = next(iter(convs)), net.head
    layers = [
        counts[name].layer_ops(name, conv, samples=samples, is_stem=name == stem, spiking=name in spiking)
        for name, conv in convs.items()
    ]
    macs = float(head.in_features * head.out_features)
    layers.append(LayerOps("head", macs, macs, 0.0, 0.0, 0, 0, 0, head.weight.numel() + head.out_features))
    neuron_adds = float(sum(layer.neurons for layer in layers) * steps)
    connects = (layer.neurons for layer in layers if layer.name in spiking and spiking[layer.name].connect)
    connect_adds = float(sum(connects) * steps)
    leaky = any(not isinstance(layer.neuron, IF) for layer in spiking.values())
    costs = energy_breakdowns(layers, steps, neuron_adds, connect_adds, constants or EnergyConstants(), leaky=leaky)
    return EnergyReport(layers, steps, neuron_adds, connect_adds, costs)


def energy_breakdowns(
    layers: list[LayerOps], T: int, neuron_adds: float, connect_adds: float, constants: EnergyConstants, *, leaky: bool
) -> list[EnergyBreakdown]:
    """The spiking network in 32-bit floating point and with 8-bit weights, its twin in 32, 8 and 4 bits.

    leaky:  whether neurons multiply, too
    """
    twin_macs, macs, acs = (sum(getattr(layer, key) for layer in layers) for key in ("twin_macs", "macs", "acs"))
    neurons, weights = sum(layer.neurons for layer in layers), sum(layer.weights for layer in layers)
    # what goes between layers is written and read once; spikes in the bits that their values need
    bits = sum(layer.neurons * max(1, layer.max_output).bit_length() for layer in layers)
    spikes = 2 * T * bits / 8 * constants.memory_byte
    membranes = 2 * 4 * T * neurons * constants.memory_byte
    spiking = (
        ("float32", 4, constants.add_float32, constants.multiply_float32),
        ("8-bit weights", 1, constants.add_int32, constants.multiply_int8),
    )
    twins = (
        ("float32", 4.0, constants.add_float32 + constants.multiply_float32),
        ("8 bits", 1.0, constants.multiply_int8 + constants.add_int32),
        ("4 bits", 0.5, constants.multiply_int4 + constants.add_int32),
    )
    costs = []
    for what, weight_bytes, add, multiply in spiking:
        update = 2 * add + (multiply if leaky else 0)  # add the current and compare
        operations = macs * (add + multiply) + (acs + connect_adds) * add + neuron_adds * update
        costs.append(
            EnergyBreakdown(f"spiking, {what}", operations, weight_bytes * weights * constants.dram_byte, spikes, membranes)
        )
    for what, num_bytes, mac in twins:
        weight_cost = num_bytes * weights * constants.dram_byte
        activations = 2 * num_bytes * neurons * constants.memory_byte
        costs.append(EnergyBreakdown(f"ReLU twin, {what}", twin_macs * mac, weight_cost, activations, 0.0))
    return costs


def compare_with_twin(report: EnergyReport) -> str:
    """Which network needs less energy, in one line."""
    totals = {cost.what: cost.total for cost in report.costs}
    pairs = (
        ("spiking, float32", "ReLU twin, float32"),
        ("spiking, 8-bit weights", "ReLU twin, 8 bits"),
        ("spiking, 8-bit weights", "ReLU twin, 4 bits"),
    )
    return "; ".join(
        f"{ours}: {totals[ours] / totals[twin]:.2f} of the {twin}"
        + (", which needs less" if totals[ours] > totals[twin] else "")
        for ours, twin in pairs
        if totals[twin]
    )


def constant_sources(constants: EnergyConstants) -> list[str]:
    """Every constant with its source, a line each; replaced ones are marked."""
    defaults = vars(EnergyConstants())
    return [
        f"{name} {value:g} pJ: " + (SOURCES[name] if value == defaults[name] else f"replaced, by default {defaults[name]:g}")
        for name, value in vars(constants).items()
    ]
