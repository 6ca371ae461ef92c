"""The cost of an inference in operations, bytes and joules: a spiking network as it fires, and its ReLU twin.

One image, or one recording, through a network whose batch norms are folded into the convolutions:

- a spike, or an integer k from ADD, is one accumulate, or k, for every weight that it meets;
- a convolution of what are no spikes, a current or averaged spikes, is multiply-accumulates, as its values show;
- the stem of a still image is multiply-accumulates, once; of frames of events, at every step;
- every neuron adds its current to its membrane at every step, and compares; SEW and membrane shortcuts are added.
  Pooling, which both networks do, is left out: of spikes it is an OR;
- weights come from DRAM once; activations are written and read once in on-chip memory, spikes in as few bits
  as their largest value needs, currents between blocks in 32; membranes, which a ReLU network does not have, are
  read and written in 32 bits at every step.
"""

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..engine.console import Console
from ..models.network import Network
from ..models.recorder import training_mode
from ..neurons import IF, Neuron
from ..progress import MinuteLines
from ..wording import count
from .structure import convolutions, owning_block

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
    """One convolution (or the last, linear layer), with the neurons behind it, for one image, all time steps. Neurons without a
    convolution, and blocks that add currents themselves, have a line of their own.

    twin_macs:   multiply-accumulates of the ReLU twin: weights times positions, borders counted exactly
    macs, acs:   multiply-accumulates and accumulates of the spiking network
    takes:       "spikes" (and integers from ADD), which are accumulated, "values", which are multiplied, or "" without weights
    rate:        mean of the input spikes, per value and time step; None of values
    max_input:   their largest value
    max_output:  largest value that leaves its neurons, after the connection
    neurons:     neurons of the layer; 0 where there are none
    outputs:     values that are written to memory at every step, each of `bits` bits
    """

    name: str
    twin_macs: float = 0.0
    macs: float = 0.0
    acs: float = 0.0
    takes: str = ""
    rate: float | None = None
    max_input: int | None = None
    max_output: int = 0
    neurons: int = 0
    weights: int = 0
    outputs: int = 0
    bits: int = 0


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
    """Operations of the spiking network and its ReLU twin for one image, and what they cost.

    not_counted:  modules with weights of a kind that is not counted, by name
    """

    layers: list[LayerOps]
    T: int
    neuron_adds: float
    connect_adds: float
    costs: list[EnergyBreakdown]
    not_counted: list[str]

    @property
    def synops(self) -> float:
        """Synaptic operations: accumulates of all layers."""
        return sum(layer.acs for layer in self.layers)


class _ConvCounts:
    """Sums over all images that one convolution saw."""

    def __init__(self) -> None:
        self.images = self.values = self.max_input = 0
        self.weights_met = 0.0  # in the window of each output position, borders left out
        self.weighted_input = 0.0  # each value times the weights that it meets
        self.total = 0.0
        self.takes_spikes = True

    def hook(self, conv: nn.Conv2d, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        x = inputs[0].detach()
        window = nn.Conv2d(
            *(1, 1, conv.kernel_size, conv.stride, conv.padding, conv.dilation),  # type: ignore[arg-type]
            bias=False,
            padding_mode=conv.padding_mode,
            device=x.device,
            dtype=torch.float64,
        )
        torch.nn.init.ones_(window.weight)
        fan_out = conv.out_channels // conv.groups  # weights that a value meets at each place of the window
        self.weights_met += (
            float(window(torch.ones_like(x[:1, :1], dtype=torch.float64)).sum()) * len(x) * conv.in_channels * fan_out
        )
        self.weighted_input += float(window(x.sum(1, keepdim=True, dtype=torch.float64)).sum()) * fan_out
        self.images += len(x)
        self.values += x.numel()
        self.total += float(x.sum(dtype=torch.float64))
        self.takes_spikes = self.takes_spikes and bool(((x >= 0) & (x == x.round())).all())
        self.max_input = max(self.max_input, math.ceil(float(x.max())))

    def layer_ops(self, name: str, conv: nn.Conv2d, *, samples: int, is_stem: bool) -> LayerOps:
        """The layer for one sample; it saw each at every time step, or once as the stem of a still image."""
        multiplies = is_stem or not self.takes_spikes
        return LayerOps(
            name,
            twin_macs=self.weights_met / self.images,
            macs=self.weights_met / samples if multiplies else 0.0,
            acs=0.0 if multiplies else self.weighted_input / samples,
            takes="values" if multiplies else "spikes",
            rate=self.total / self.values if self.takes_spikes else None,
            max_input=self.max_input if self.takes_spikes else None,
            weights=conv.weight.numel() + conv.out_channels,
        )


class _OutputCounts:
    """What leaves layers and blocks, and is written to memory: neurons by name, outputs with their largest value."""

    def __init__(self) -> None:
        self.neurons: dict[str, int] = {}
        self.outputs: dict[str, tuple[int, int, bool]] = {}  # values of a sample and step, the largest, whether all are spikes
        self.block_sums: set[str] = set()
        self.latest: Tensor | None = None

    def record_neurons(self, name: str, _module: nn.Module, _inputs: object, spikes: Tensor) -> None:
        self.neurons[name] = spikes[0, 0].numel()
        self.record_output(name, _module, _inputs, spikes)

    def record_output(self, name: str, _module: nn.Module, _inputs: object, out: Tensor) -> None:
        _, largest, spikes = self.outputs.get(name, (0, 0, True))
        spikes = spikes and bool(((out >= 0) & (out == out.round())).all())
        self.outputs[name] = self.neurons.get(name, out.shape[-3:].numel()), max(largest, math.ceil(float(out.max()))), spikes
        self.latest = out

    def record_block(self, name: str, block: nn.Module, inputs: object, out: Tensor) -> None:
        """A block's output that is not its last layer's: it connects by itself."""
        if out is not self.latest:
            self.block_sums.add(name)
            self.record_output(name, block, inputs, out)

    def add_to(self, layer: LayerOps) -> LayerOps:
        """The layer with what leaves it."""
        values, largest, spikes = self.outputs.get(layer.name, (0, 0, True))
        bits = max(1, largest).bit_length() if spikes else 32
        return layer._replace(
            neurons=self.neurons.get(layer.name, 0), max_output=largest if spikes else 0, outputs=values, bits=bits
        )


@torch.no_grad()
def count_operations(
    net: Network, batches: Iterable[Tensor], constants: EnergyConstants | None = None, *, quiet: bool = True
) -> EnergyReport:
    """Count the operations of the network on these samples, in evaluation mode; the network is left as it was.

    Shapes:  batches of images [N, C, H, W] or frames [T, N, C, H, W]
    quiet:   False: where standard error is no terminal, say there once a minute how far it is
    Raises:  ValueError for a network that does not spike, or no samples
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike; give its spiking twin, whose table has both")
    convs, spiking, written = convolutions(net), net.spiking_layers, _OutputCounts()
    counts = {name: _ConvCounts() for name in convs}
    samples, steps, lines = 0, net.T, MinuteLines(Console(quiet).minutely)
    with training_mode(net, training=False), ExitStack() as hooks:
        for name, conv in convs.items():
            hooks.enter_context(conv.register_forward_hook(counts[name].hook))
        for name, module in written_by(net).items():
            hooks.enter_context(module.register_forward_hook(partial(written.record_output, name)))
        for name, module in net.neurons.items():
            hooks.enter_context(module.register_forward_hook(partial(written.record_neurons, name)))
        for name, block in net.blocks.items():
            hooks.enter_context(block.register_forward_hook(partial(written.record_block, name)))
        for batch in batches:
            steps, size = (net.T, len(batch)) if batch.dim() == 4 else batch.shape[:2]
            samples += size
            net(batch)
            lines.at(samples, partial("operations of {} are counted".format, count(samples, "sample")))
    if not samples:
        raise ValueError("no samples: nothing was counted")
    used = {name: conv for name, conv in convs.items() if counts[name].images}
    stem = next(iter(used))
    rows = {name: counts[name].layer_ops(name, conv, samples=samples, is_stem=name == stem) for name, conv in used.items()}
    order = {name: position for position, (name, _) in enumerate(net.named_modules())}
    names = sorted({*rows, *written.outputs}, key=lambda name: order.get(f"{name}.conv", order.get(name, 0)))
    layers = [written.add_to(rows.get(name, LayerOps(name))) for name in names]
    layers += head_ops(net)
    neuron_adds = float(sum(layer.neurons for layer in layers) * steps)
    connects = [layer.neurons for layer in layers if getattr(spiking.get(layer.name), "connect", None)]
    connects += [written.outputs[name][0] for name in written.block_sums if net.blocks[name].meets]
    connect_adds = float(sum(connects) * steps)
    neurons = [module for module in net.modules() if isinstance(module, Neuron)]
    leaky = any(not isinstance(neuron, IF) for neuron in neurons)
    costs = energy_breakdowns(layers, steps, neuron_adds, connect_adds, constants or EnergyConstants(), leaky=leaky)
    return EnergyReport(layers, steps, neuron_adds, connect_adds, costs, not_counted(net))


def written_by(net: Network) -> dict[str, nn.Module]:
    """Layers outside of blocks, or with neurons, whose output goes to memory; pooling is left out."""
    outside = {name: layer for name, layer in net.conv_layers.items() if owning_block(net, name) is None}
    return outside | net.spiking_layers


def head_ops(net: Network) -> list[LayerOps]:
    """The linear layers of the head, once for one image."""
    found = []
    for name, module in net.head.named_modules():
        if isinstance(module, nn.Linear):
            macs = float(module.in_features * module.out_features)
            weights = module.weight.numel() + module.out_features
            found.append(LayerOps("head" + (name and f".{name}"), macs, macs, takes="values", weights=weights))
    return found


def not_counted(net: Network) -> list[str]:
    """Modules with weights that are no convolution, norm, neuron or linear layer of the head; sums that blocks do not tell."""
    known = (nn.Conv2d, _NormBase, nn.GroupNorm, Neuron)
    head = {module for module in net.head.modules() if isinstance(module, nn.Linear)}
    sums = [
        f"additions of the shortcut in {name} ({type(block).__name__})"
        for name, block in net.blocks.items()
        if block.meets == ""
    ]
    return sums + [
        f"{name} ({type(module).__name__})"
        for name, module in net.named_modules()
        if module._parameters and not isinstance(module, known) and module not in head
    ]


def energy_breakdowns(
    layers: list[LayerOps], T: int, neuron_adds: float, connect_adds: float, constants: EnergyConstants, *, leaky: bool
) -> list[EnergyBreakdown]:
    """The spiking network in 32-bit floating point and with 8-bit weights, its twin in 32, 8 and 4 bits.

    leaky:  whether neurons multiply, too
    """
    twin_macs, macs, acs = (sum(getattr(layer, key) for layer in layers) for key in ("twin_macs", "macs", "acs"))
    neurons, weights = sum(layer.neurons for layer in layers), sum(layer.weights for layer in layers)
    # what goes between layers is written and read once; spikes in the bits that their values need
    bits, outputs = sum(layer.outputs * layer.bits for layer in layers), sum(layer.outputs for layer in layers)
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
        activations = 2 * num_bytes * outputs * constants.memory_byte
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
