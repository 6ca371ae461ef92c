"""NIR files: a network as a graph of convolutions, neurons and pooling that other simulators and chips read.

docs/nir.md says what is written, and which programs compute the same numbers from it; `nir_reader.py` reads such graphs.
"""

import importlib
import io
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import disk
from ..kernels import CONNECT
from ..models.calls import is_plain
from ..models.chain import TimeDropout
from ..models.folding import fold_norms
from ..models.layers import ConvNorm, ConvNormFire, MaxPool, SpikeConvNorm
from ..models.membrane_shortcut import MSBlock
from ..models.network import Network
from ..models.residual import PlainBlock, SEWBlock, SpikingBlock, ThresholdNormBlock
from ..neurons import IF, LIF, PLIF
from .description import describe, require_size
from .walk import require_known_layout, require_unwatched, walk

DT = 1e-4  # seconds per time step, which SpikingJelly and snnTorch assume
INPUT, OUTPUT = "input", "output"
OR_ONNX = "or write ONNX, NAME.onnx"


class Signal(NamedTuple):
    """What flows between nodes: the sum of what these nodes give, of this shape [C, H, W]."""

    sources: tuple[str, ...]
    shape: tuple[int, int, int]


class GraphBuilder:
    """Writes nodes and edges, layer by layer; edges in the order in which nodes run."""

    def __init__(self, nir: ModuleType, shape: tuple[int, int, int], dt: float, dtype: torch.dtype):
        self.nir, self.dt, self.dtype = nir, dt, dtype
        self.nodes: dict[str, Any] = {INPUT: nir.Input(input_type={"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, x: Signal, shape: tuple[int, int, int]) -> Signal:
        """A node that is given x; its name is free of dots, which PyTorch does not take."""
        name = base = name.replace(".", "_")
        number = 1
        while name in self.nodes:  # a pooling that several blocks share
            number, name = number + 1, f"{base}_{number + 1}"
        self.nodes[name] = node
        self.edges += [(source, name) for source in x.sources]
        return Signal((name,), shape)

    @staticmethod
    def join(x: Signal, other: Signal) -> Signal:
        """The sum of both: two edges into whatever is given it."""
        assert x.shape == other.shape, "branch and shortcut are of one shape"
        assert not set(x.sources) & set(other.sources), "NIR has no edge twice"
        return Signal(x.sources + other.sources, x.shape)

    def conv(self, conv: Any, x: Signal, name: str) -> Signal:
        if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(f"{name}: NIR has ordinary convolutions padded with zeros, no {conv}; {OR_ONNX[3:]}")
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
        node = self.nir.Conv2d(
            input_shape=x.shape[1:],
            weight=to_numpy(conv.weight),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=to_numpy(bias.to(conv.weight.dtype)),
        )
        height, width = (
            (side + 2 * int(pad) - dilation * (kernel - 1) - 1) // stride + 1
            for side, pad, dilation, kernel, stride in zip(
                x.shape[1:], conv.padding, conv.dilation, conv.kernel_size, conv.stride, strict=True
            )
        )
        return self.add(f"{name}.conv", node, x, (conv.out_channels, height, width))

    def fire(self, neuron: Any, x: Signal, name: str) -> Signal:
        if type(neuron) not in (IF, LIF, PLIF):
            kind = type(neuron).__name__
            known = "IF, LIF and PLIF"
            raise ValueError(f"{name}: NIR export knows {known}, not {kind}; train with one (--model.neuron), {OR_ONNX}")
        if neuron.v_reset is None:
            raise ValueError(
                f"{name}: NIR's neurons are set to v_reset by a spike, and a soft reset (v_reset=None) cannot be written; "
                f"train with a hard one (--model.v-reset 0), {OR_ONNX}"
            )
        spread = {"v_threshold": below(neuron.v_th, x.shape, self.dtype), "v_reset": np.full(x.shape, float(neuron.v_reset))}
        if type(neuron) is IF:
            node = self.nir.IF(r=np.full(x.shape, 1 / self.dt), **spread)
        else:
            tau = neuron.tau
            spread |= {"tau": np.full(x.shape, tau * self.dt), "v_leak": spread["v_reset"].copy()}
            node = self.nir.LIF(r=np.full(x.shape, 1.0 if neuron.decay_input else tau), **spread)
        return self.add(f"{name}.neuron", node, x, x.shape)

    def pool(self, pool: Any, x: Signal, name: str) -> Signal:
        if isinstance(pool, nn.Identity | TimeDropout):
            return x
        if isinstance(pool, MaxPool | nn.MaxPool2d):
            raise ValueError(f"{name}: NIR has no max pooling; train with average pooling (--model.pool avg), {OR_ONNX}")
        plain = type(pool) is nn.AvgPool2d and not pool.ceil_mode and pool.count_include_pad and not pool.divisor_override
        if not plain:
            raise ValueError(f"{name}: NIR has average pooling that counts the padding, no {pool}; {OR_ONNX[3:]}")
        kernel, stride, padding = (to_pair(value) for value in (pool.kernel_size, pool.stride, pool.padding))
        node = self.nir.AvgPool2d(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding))
        height, width = (
            (side + 2 * pad - size) // step + 1
            for side, pad, size, step in zip(x.shape[1:], padding, kernel, stride, strict=True)
        )
        return self.add(name, node, x, (x.shape[0], height, width))

    def layer(self, layer: Any, x: Signal, name: str) -> Signal:
        if not any(is_plain(layer, kind) for kind in (ConvNorm, SpikeConvNorm, ConvNormFire)):
            raise ValueError(f"{name}: NIR export knows a convolution with its norm there, not a {type(layer).__name__}")
        x = self.conv(layer.conv, x, name)
        return self.fire(layer.neuron, x, name) if isinstance(layer, ConvNormFire) else x

    def block(self, block: Any, x: Signal, name: str) -> Signal:
        """A residual block; where branch and shortcut are added, both become edges into the next nodes."""
        if type(block) not in (SEWBlock, SpikingBlock, ThresholdNormBlock, PlainBlock, MSBlock):
            known = "SEW, Spiking, td-BN, Plain and MS blocks"
            raise ValueError(f"{name}: NIR export knows {known}, no {type(block).__name__}; {OR_ONNX[3:]}")
        if isinstance(block, SEWBlock) and block.connect is not CONNECT["ADD"]:
            own = "one of your own"
            word = next((repr(word) for word, connect in CONNECT.items() if connect is block.connect), own)
            raise ValueError(
                f"{name}: NIR adds what arrives at a node and multiplies nothing, so connect={word} cannot be written; "
                f"train with ADD (--model.connect ADD), {OR_ONNX}"
            )
        hidden = self.fire(block.fire.neuron, x, f"{name}.fire") if isinstance(block, MSBlock) else x
        for number, layer in enumerate(block.branch[:-1], start=1):
            hidden = self.layer(layer, hidden, f"{name}.conv{number}")
        last, place = block.last_layer, f"{name}.conv{len(block.branch)}"
        if not isinstance(block, SpikingBlock):
            hidden = self.layer(last, hidden, place)
            return hidden if isinstance(block, PlainBlock) else self.join(hidden, self.shortcut(block, x, name))
        hidden = self.join(self.conv(last.conv, hidden, place), self.shortcut(block, x, name))
        return self.fire(last.neuron, hidden, place)

    def shortcut(self, block: Any, x: Signal, name: str) -> Signal:
        return x if block.shortcut is None else self.layer(block.shortcut, x, f"{name}.shortcut")

    def head(self, head: Any, x: Signal) -> None:
        """The mean over space and the linear layer: a sum, and a convolution of one pixel that divides it.

        All importers know both; NIR's Flatten counts dimensions with the batch in some and without in others, and of its
        Affine nirtorch drops the bias.
        """
        if type(head) is not nn.Linear:
            raise ValueError(f"the head is a {type(head).__name__}; NIR export knows a linear one, {OR_ONNX}")
        channels, height, width = x.shape
        if height * width > 1:
            window = np.array([height, width])
            node = self.nir.SumPool2d(kernel_size=window, stride=window, padding=np.array([0, 0]))
            x = self.add("sum_over_space", node, x, (channels, 1, 1))
        conv = nn.Conv2d(channels, head.out_features, 1).to(head.weight)
        conv.weight.data = (head.weight / (height * width))[:, :, None, None]
        conv.bias = nn.Parameter(torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias)
        x = self.conv(conv, x, "head")
        self.add(OUTPUT, self.nir.Output(output_type={"output": np.array(x.shape)}), x, x.shape)


@torch.no_grad()
def to_nir(net: Network, *, shape: tuple[int, int], dt: float = DT) -> Any:
    """The network in evaluation mode as a nir.NIRGraph of one time step: a frame [C, H, W] in, scores [classes, 1, 1] out.

    The logits of the network are the mean of the scores over all frames. Norms are folded into the convolutions.

    shape:    height and width of the frames in pixels
    dt:       seconds of a time step, above 0: it is in the neurons' numbers, and as `dt` in the metadata
    Raises:   ValueError for what NIR cannot say, by the name of the layer, and where the package nir is missing
    """
    nir = require_nir()
    require_known_layout(net, "NIR export")
    require_unwatched(net)
    require_size(net, shape)
    require_time_step(dt)
    facts = describe(net, net.T, shape)
    net = fold_norms(net).cpu()
    net = net if net.dtype == torch.float64 else net.float()
    build = GraphBuilder(nir, (net.in_channels, *shape), dt, net.dtype)
    build.head(net.head, walk(net, build, Signal((INPUT,), (net.in_channels, *shape))))
    return nir.NIRGraph(build.nodes, build.edges, metadata={"dt": float(dt), "spikewise": json.dumps(facts)})


def export_nir(net: Network, path: str | Path, **how: Any) -> Path:
    """Write `to_nir` of a network into a file.

    Raises:  as `to_nir`; nothing is written then
    """
    path = Path(path)
    if path.suffix != ".nir":
        raise ValueError(f"{path} does not end in .nir")
    graph = to_nir(net, **how)
    with io.BytesIO() as content:
        require_nir().write(content, graph)
        disk.atomic_write(path, content.getvalue())
    return path


def require_nir() -> ModuleType:
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ValueError(f"NIR files need the package {error.name}: pip install 'spikewise[nir]'") from None


def require_time_step(dt: Any) -> None:
    if not (isinstance(dt, int | float) and math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt={dt!r} is no time step; use seconds above 0, such as {DT}")


def below(v_th: float | Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    """The largest number below the threshold, for each neuron, float64: ours fire at it, those of NIR above theirs."""
    threshold = to_numpy(torch.as_tensor(v_th, dtype=dtype))
    largest = np.nextafter(threshold, np.array(-np.inf, threshold.dtype)).astype(np.float64)
    return np.broadcast_to(largest if largest.size == 1 else largest.reshape(-1, 1, 1), shape).copy()


def to_numpy(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy())


def to_pair(value: Any) -> tuple[int, int]:
    """Height and width of a window, a stride or a padding, given as one number or as two.

    Raises:  ValueError, TypeError for anything else
    """
    height, width = np.broadcast_to(np.asarray(value).reshape(-1), 2).tolist()
    return int(height), int(width)
