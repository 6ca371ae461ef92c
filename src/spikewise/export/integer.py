"""From a trained network to an integer program: norms folded, weights in 8 bits, thresholds in the units of the sums.

docs/integer.md says what the program computes; `integer_runner.py` runs it.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import disk
from ..kernels import CONNECT
from ..models.chain import TimeDropout
from ..models.converted import ConvertedBlock, ScaledShortcut
from ..models.folding import fold_norms
from ..models.layers import ConvNorm, ConvNormFire, MaxPool
from ..models.membrane_shortcut import MSBlock
from ..models.network import Network
from ..models.residual import PlainBlock, SEWBlock, SpikingBlock, ThresholdNormBlock
from ..neurons import IF, LIF, PLIF
from .description import require_size
from .integer_runner import (
    ADD,
    AND,
    CONV,
    FEATURES,
    FIRE,
    IAND,
    LARGEST,
    LEAK_BITS,
    MAXPOOL,
    SUMPOOL,
    Operation,
    Program,
    write_program,
)
from .walk import require_known_layout, walk

LARGEST_WEIGHT = 127
MAX_BITS = 8


@dataclass(frozen=True)
class Buffer:
    """Where whole numbers are kept.

    unit:   what 1 stands for, in each channel [C]
    bound:  the largest magnitude that it can hold
    size:   height and width
    """

    number: int
    unit: np.ndarray
    bound: int
    size: tuple[int, int]

    def windows(self, kernel: int, stride: int, padding: int) -> tuple[int, int]:
        """Height and width of what windows over it give."""
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in self.size)
        return height, width


class Builder:
    """Writes a program, operation by operation."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.buffers = 1

    def emit(
        self,
        kind: int,
        sources: tuple[Buffer, ...],
        numbers: tuple[int, ...] = (),
        *,
        unit: np.ndarray,
        bound: int,
        size: tuple[int, int] | None = None,
        **tables: Any,
    ) -> Buffer:
        """An operation on one buffer, or on two, whose result has this unit and bound."""
        target = Buffer(self.buffers, unit, bound, size or sources[0].size)
        self.buffers += 1
        self.operations.append(Operation(kind, sources[0].number, sources[-1].number, target.number, numbers, **tables))
        return target

    def conv(self, layer: nn.Conv2d, x: Buffer, unit: np.ndarray | None = None, name: str = "") -> Buffer:
        """The convolution, in units of its own or in `unit`."""
        if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise ValueError(f"{name}: the integer runner knows ordinary convolutions only, no groups and no dilation")
        weights = scaled_weights(layer, x)
        unit = weight_unit(weights) if unit is None else unit
        table = np.rint(weights / unit[:, None, None, None])
        bias = np.zeros(len(unit)) if layer.bias is None else layer.bias.detach().double().numpy()
        bias = np.rint(bias / unit)
        bound = int((np.abs(table).sum((1, 2, 3)) * x.bound + np.abs(bias)).max())
        require_bound(bound, name)
        tables = {"weights": table.astype(np.int8), "bias": bias.astype(np.int32)}
        stride, padding = layer.stride[0], int(layer.padding[0])
        size = x.windows(layer.kernel_size[0], stride, padding)
        return self.emit(CONV, (x,), (stride, padding), unit=unit, bound=bound, size=size, **tables)

    def fire(self, neuron: Any, x: Buffer, name: str) -> Buffer:
        """The neurons, on currents in the units of x."""
        if type(neuron) not in (IF, LIF, PLIF):
            raise ValueError(f"{name}: the integer runner knows IF, LIF and PLIF, not {type(neuron).__name__}")
        a, b, _ = (float(value) for value in neuron.coefficients())
        leak = round((1 - a) * 2**LEAK_BITS)
        bits = 0 if not leak else max(0, min(MAX_BITS, int(math.log2(LARGEST / max(x.bound, 1)))))
        v_th = torch.as_tensor(neuron.v_th, dtype=torch.float64).detach().numpy()
        levels = np.stack([np.broadcast_to(value, x.unit.shape) / x.unit for value in (v_th, neuron.v_rest)]) * 2**bits
        if np.abs(levels).max() > LARGEST:
            raise ValueError(
                f"{name}: a threshold is {np.abs(levels[0]).max():.3g} times the unit of its weights, too far apart"
            )
        table = np.rint(levels).astype(np.int32)
        decay_input = int(bool(leak) and b != 1.0)
        numbers = (leak, bits, decay_input, int(neuron.v_reset is None))
        return self.emit(FIRE, (x,), numbers, unit=np.ones_like(x.unit), bound=1, weights=table)

    def add(self, x: Buffer, other: Buffer, unit: np.ndarray) -> Buffer:
        """X + other, in `unit`."""
        mine, theirs = (np.rint(buffer.unit / unit) for buffer in (x, other))
        bound = int((mine * x.bound + theirs * other.bound).max())
        require_bound(bound, "a sum of two branches")
        plain = (mine == 1).all() and (theirs == 1).all()
        table = np.empty(0, np.int32) if plain else np.stack([mine, theirs]).astype(np.int32)
        return self.emit(ADD, (x, other), unit=unit, bound=bound, weights=table)

    def pool(self, pool: nn.Module, x: Buffer, name: str) -> Buffer:
        if isinstance(pool, MaxPool):
            size = x.windows(*pool.window)
            return self.emit(MAXPOOL, (x,), tuple(pool.window), unit=x.unit, bound=x.bound, size=size)
        if isinstance(pool, nn.AvgPool2d):
            window = tuple(int(value) for value in (pool.kernel_size, pool.stride, pool.padding))  # type: ignore[arg-type]
            area = window[0] ** 2
            return self.emit(SUMPOOL, (x,), window, unit=x.unit / area, bound=x.bound * area, size=x.windows(*window))
        if isinstance(pool, nn.Identity | TimeDropout):
            return x
        raise ValueError(f"{name}: the integer runner knows max and average pooling, not {type(pool).__name__}")

    def layer(self, layer: Any, x: Buffer, name: str) -> Buffer:
        """Convolution and neurons."""
        require_usual(layer, ConvNormFire, name)
        return self.fire(layer.neuron, self.conv(layer.conv, x, name=name), name)

    def block(self, block: Any, x: Buffer, name: str) -> Buffer:
        """A residual block of the paper."""
        hidden = x
        for number, layer in enumerate(block.branch[:-1], start=1):
            hidden = self.layer(layer, hidden, f"{name}.conv{number}")
        last, place = block.last_layer, f"{name}.conv{len(block.branch)}"
        require_usual(last, ConvNormFire, place)
        if isinstance(block, SpikingBlock):
            return self.fire(last.neuron, self.spiking_sum(block, hidden, x, place), place)
        a = self.layer(last, hidden, place)
        if isinstance(block, PlainBlock):
            return a
        s = x if block.shortcut is None else self.layer(block.shortcut, x, f"{name}.shortcut")
        if last.connect is CONNECT["ADD"]:
            return self.add(a, s, np.minimum(a.unit, s.unit))
        kind = {CONNECT["AND"]: AND, CONNECT["IAND"]: IAND}.get(last.connect)
        if kind is None:
            raise ValueError(f"{name}: the integer runner knows ADD, AND and IAND, no other connection")
        return self.emit(kind, (a, s), unit=s.unit, bound=s.bound)

    def spiking_sum(self, block: Any, hidden: Buffer, x: Buffer, name: str) -> Buffer:
        """The currents of branch and shortcut (E8), in one unit."""
        conv = block.last_layer.conv
        if block.shortcut is None or isinstance(block.shortcut, ScaledShortcut):
            unit = weight_unit(scaled_weights(conv, hidden))
            if block.shortcut is not None:
                x = replace(x, unit=x.unit * float(block.shortcut.factor))
            return self.add(self.conv(conv, hidden, unit, name), x, unit)
        require_usual(block.shortcut, ConvNorm, f"{name.rpartition('.')[0]}.shortcut")
        unit = weight_unit(scaled_weights(conv, hidden), scaled_weights(block.shortcut.conv, x))
        return self.add(self.conv(conv, hidden, unit, name), self.conv(block.shortcut.conv, x, unit, name), unit)


def require_usual(layer: Any, kind: type, name: str) -> None:
    if not isinstance(layer, kind):
        raise ValueError(f"{name}: the integer runner knows a {kind.__name__} there, not a {type(layer).__name__}")


def scaled_weights(layer: nn.Conv2d, x: Buffer) -> np.ndarray:
    """Weights of what the numbers of x count, float64."""
    return layer.weight.detach().double().numpy() * x.unit[None, :, None, None]


def weight_unit(*weights: np.ndarray) -> np.ndarray:
    """The unit in which the largest weight of each output channel is 127; 1 where there is none."""
    largest = np.max([np.abs(table).max((1, 2, 3)) for table in weights], axis=0)
    return np.where(largest > 0, largest / LARGEST_WEIGHT, 1.0)


def require_bound(bound: int, name: str) -> None:
    if bound > LARGEST:
        raise ValueError(
            f"{name}: sums could reach {bound:,}, more than 32 bits hold together with a membrane; use fewer channels"
        )


@torch.no_grad()
def to_integers(net: Network, *, shape: tuple[int, int], input_unit: float = 1.0, input_bound: int = 255) -> Program:
    """The network as an integer program.

    shape:        height and width of the frames
    input_unit:   what 1 of the whole numbers of the input stands for: 1 of event counts, 1 / 255 of images from 0 to 1
    input_bound:  the largest magnitude of these numbers
    Raises:       ValueError for what has no integer form, by the name of the layer
    """
    require_known_layout(net, "the integer runner")
    for name, block in net.blocks.items():
        if type(block) not in (SEWBlock, SpikingBlock, ThresholdNormBlock, ConvertedBlock, PlainBlock):
            reason = ", whose shortcuts carry currents" if isinstance(block, MSBlock) else ""
            known = "SEW, Spiking, td-BN, converted and Plain blocks"
            raise ValueError(f"{name}: the integer runner knows {known}, no {type(block).__name__}{reason}")
    if type(net.head) is not nn.Linear:
        raise ValueError(f"the integer runner knows a linear last layer, not {type(net.head).__name__}")
    require_size(net, shape)
    if not input_unit > 0 or not 1 <= input_bound <= 2**15:
        raise ValueError(
            f"input_unit={input_unit!r}, input_bound={input_bound!r}; use a unit above 0, a bound of 1 to {2**15:,}"
        )
    net, build = fold_norms(net).double().cpu(), Builder()
    x = walk(net, build, Buffer(0, np.full(net.in_channels, input_unit), input_bound, shape))
    build.emit(FEATURES, (x,), unit=x.unit, bound=x.bound)
    weights = net.head.weight.numpy() * x.unit / math.prod(x.size)
    unit = np.abs(weights).max() / LARGEST_WEIGHT or 1.0
    bias = np.zeros(len(weights)) if net.head.bias is None else net.head.bias.numpy()
    head, head_bias = np.rint(weights / unit).astype(np.int8), np.rint(bias / unit).astype(np.int32)
    return Program((net.in_channels, *shape), build.buffers, build.operations, head, head_bias)


def input_range(net: Network) -> tuple[float, int]:
    """Unit and bound of the input of a network that says what it was trained on.

    Counts of events as they are; time surfaces, and pixels from 0 to 1, in 255 levels; normalized pixels in 127 on
    either side; 1 and 255, where it does not say it.

    Raises:  ValueError for voxel grids, which are fractions without an upper bound
    """
    spec = net.input_spec
    if spec is None:
        return 1.0, 255
    if spec.kind == "events":
        representation = spec.frame_spec.representation
        if representation == "voxel_grid":
            raise ValueError("whole numbers can't hold a voxel_grid, on which this network was trained; train it on counts")
        return (1 / 255 if representation == "time_surface" else 1.0), 255
    if spec.kind == "images":
        return 1 / 255, 255
    assert spec.mean is not None and spec.std is not None, "photographs are normalized"
    ends = [abs((end - mean) / std) for mean, std in zip(spec.mean, spec.std, strict=True) for end in (0, 1)]
    return max(ends) / 127, 127


def quantize_input(x: Tensor, unit: float, bound: int = 255) -> np.ndarray:
    """Frames or images as the whole numbers that a program takes: round(x / unit), at most `bound` in magnitude."""
    return np.clip(np.rint(x.double().numpy() / unit), -bound, bound).astype(np.int32)


def export_integers(net: Network, path: str | Path, **how: Any) -> Path:
    """Write `to_integers` of a network into a file."""
    disk.atomic_write(Path(path), write_program(to_integers(net, **how)))
    return Path(path)
