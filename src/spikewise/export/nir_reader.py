"""NIR files of any program as modules of ours; what a file says that these cannot do is refused by the node's name."""

import contextlib
import io
import json
import math
from collections.abc import Callable, Iterable
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data.events.formats.reading import printable_errors
from ..data.hdf5 import get_child, read_dataset, require_sound_heaps
from ..data.messages import one_line
from ..models.layers import Fire, run_block
from ..models.stream_state import NeuronStates
from ..neurons import Neuron
from .nir import DT, require_nir, require_time_step, to_pair

MAX_EXPANSION = 1100  # gzip makes of a constant about a thousandth, and thresholds are constants
MAX_BYTES, MAX_ENTRIES, MAX_DEPTH = 2**32, 200_000, 5  # of all arrays; of groups and arrays; of groups in groups
MAX_NUMBERS = 2**30  # that a node gives per frame
ADVICE = "write it with nir 1.0.8 or newer (nir.write), or copy it again"


class NIRNeuron(Neuron):
    """The neuron of a NIR file, in steps of dt: v + dt (v_leak - v + r x) / tau of a LIF, v + dt r x of an IF.

    a, b, c:  of E1, numbers or one per channel
    Source:   Euler's method, as all importers have it; Pedersen et al., Neuromorphic intermediate representation, 2024
    """

    def __init__(self, a: float | Tensor, b: float | Tensor, c: float | Tensor, **threshold: Any):
        super().__init__(**threshold)
        for name, value in (("a", a), ("b", b), ("c", c)):
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def coefficients(self) -> tuple[Any, Any, Any]:
        return self.a, self.b, self.c


class Part(NamedTuple):
    """A node: the nodes whose sum it is given, and what computes it; None: it hands on what it is given."""

    name: str
    sources: tuple[str, ...]
    module: nn.Module | None


class NIRNetwork(nn.Module):
    """A NIR graph over time, from rest; `spikewise.models.stream` runs it piece by piece.

    Shapes:  frames [T, N, ...] of the file's input -> its output at every step, [T, N, ...]. Of files of ours the mean over
             the steps is the network's logits [N, classes, 1, 1]
    shape:   of a frame
    dt:      seconds of a time step
    facts:   what a file of ours says of its network: model, T, class_names, input
    Raises:  ValueError for frames of another shape, or that are not finite
    """

    def __init__(self, parts: list[Part], shape: tuple[int, ...], dt: float, facts: dict[str, Any]):
        super().__init__()
        self.way = [(part.name, part.sources) for part in parts]
        self.parts = nn.ModuleList(nn.Identity() if part.module is None else part.module for part in parts)
        self.shape, self.dt, self.facts = shape, dt, facts

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        if x.shape[2:] != torch.Size(self.shape):
            raise ValueError(f"given {list(x.shape)}; this graph takes frames [T, N, {', '.join(map(str, self.shape))}]")
        if not x.isfinite().all():
            raise ValueError("a frame holds NaN or infinities, which neurons would answer with silence")
        values: dict[str, Tensor] = {}
        for (name, sources), part in zip(self.way, self.parts, strict=True):
            given = sum((values[source] for source in sources[1:]), start=values[sources[0]]) if sources else x
            values[name] = run_block(part, given, states)
        return values[self.way[-1][0]]


@printable_errors()
def import_nir(path: str | Path, *, dt: float | None = None) -> NIRNetwork:
    """The graph of a NIR file, in evaluation mode.

    Known are Conv2d, Affine, Linear, Flatten, AvgPool2d, SumPool2d, IF and LIF, with any edges that make no circle. Neurons
    fire above the threshold, as NIR defines it, are set to v_reset by a spike, and begin there.

    dt:      seconds of a time step; None: as the file says
    Raises:  FileNotFoundError; ValueError for a file that is none or damaged, for what is not known, by the node's name, and
             for a file that does not say its time step
    """
    path = Path(path)
    graph = read_graph(path)
    try:
        facts = read_facts(graph)
        dt = graph.metadata.get("dt") if dt is None else dt
        if dt is None:
            raise ValueError(f"it does not say its time step; pass dt=, in seconds ({DT} is what most programs assume)")
        require_time_step(dt)
        parts, shape = to_parts(graph, float(dt))
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    return NIRNetwork(parts, shape, float(dt), facts).eval()


# From a file to a graph of the package nir -----------------------------------------------------------------------------------


def read_graph(path: Path) -> Any:
    """The nir.NIRGraph of a file, which may be anybody's: nothing outside it is read, and nothing far larger than it."""
    nir = require_nir()
    import h5py  # comes with nir

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a NIR file")
    try:
        require_sound_heaps(path)
        with h5py.File(path, "r") as file:
            tree = TreeReader(h5py, path.stat().st_size).read(get_child(h5py, file, "node"))
        tree["type_check"] = False  # the shapes are checked below, node by node
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            graph = nir.dict2NIRNode(tree)
    except Exception as error:  # whatever h5py and nir stumble over in a file that is none, or damaged
        raise ValueError(f"{path} is not a NIR file, or damaged: {one_line(error)}; {ADVICE}") from None
    if not isinstance(graph, nir.NIRGraph):
        raise ValueError(f"{path} holds one {type(graph).__name__} and no graph; {ADVICE}")
    return graph


class TreeReader:
    """Reads groups of an HDF5 file as dicts, within bounds."""

    def __init__(self, h5py: Any, file_bytes: int):
        self.h5py, self.file_bytes, self.bytes_left, self.entries_left = h5py, file_bytes, MAX_BYTES, MAX_ENTRIES

    def read(self, group: Any, depth: int = 0) -> dict[str, Any]:
        if not isinstance(group, self.h5py.Group):
            raise ValueError("it has no group `node`")
        if depth > MAX_DEPTH:
            raise ValueError(f"its groups lie more than {MAX_DEPTH} deep in one another")
        content: dict[str, Any] = {}
        for name in group.keys():  # noqa: SIM118  a group is no dict
            self.entries_left -= 1
            if self.entries_left < 0:
                raise ValueError(f"it has more than {MAX_ENTRIES:,} entries")
            child = get_child(self.h5py, group, name)
            content[name] = self.read_value(child) if isinstance(child, self.h5py.Dataset) else self.read(child, depth + 1)
        return content

    def read_value(self, node: Any) -> Any:
        if self.h5py.check_string_dtype(node.dtype) is not None:
            if node.size > MAX_ENTRIES or node.is_virtual or node.external:
                raise ValueError(f"{node.name} lies elsewhere, or has more than {MAX_ENTRIES:,} words")
            return node.asstr()[()]
        self.bytes_left -= node.nbytes
        if self.bytes_left < 0:
            raise ValueError(f"its arrays take more than {MAX_BYTES // 2**30} GiB")
        array = read_dataset(node, self.file_bytes, MAX_EXPANSION)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{node.name} holds {array.dtype} and no numbers")
        return array if array.ndim else array[()]


def read_facts(graph: Any) -> dict[str, Any]:
    """What a file of ours says of its network; {} of other files."""
    text = graph.metadata.get("spikewise", "{}")
    try:
        facts = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ValueError("what its metadata say under `spikewise` is damaged; remove it, or write the file again")
    return facts


# From a graph to parts -------------------------------------------------------------------------------------------------------


def to_parts(graph: Any, dt: float) -> tuple[list[Part], tuple[int, ...]]:
    """The nodes in an order in which each runs behind its sources, the output last; and the shape of a frame."""
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    ends = {end: [name for name, kind in kinds.items() if kind == end] for end in ("Input", "Output")}
    for end, names in ends.items():
        if len(names) != 1:
            raise ValueError(f"it has {len(names)} nodes of kind {end}; graphs with one are known")
    sources: dict[str, list[str]] = {name: [] for name in kinds}
    for source, target in graph.edges:
        if source not in kinds or target not in kinds:
            raise ValueError(f"its edge from {source!r} to {target!r} leads to a node that is not there")
        if source in sources[target]:
            raise ValueError(f"its edge from {source!r} to {target!r} is there twice")
        sources[target].append(source)
    heard = {source for given in sources.values() for source in given}
    for name, kind in kinds.items():
        if (kind == "Input") == bool(sources[name]) or (kind == "Output") == (name in heard):
            raise ValueError(f"node {name!r} ({kind}) is connected on one side only, or not at all")
    try:
        order = [name for name in TopologicalSorter(sources).static_order() if kinds[name] != "Output"] + ends["Output"]
    except CycleError as error:
        circle = " -> ".join(map(repr, error.args[1][:4]))
        known = "graphs without circles are known; run it in the program that wrote it"
        raise ValueError(f"it is recurrent ({circle} ...), and {known}") from None
    weights = [np.asarray(node.weight).dtype for node in graph.nodes.values() if hasattr(node, "weight")]
    dtype = torch.float64 if np.dtype(np.float64) in weights else torch.float32
    shapes: dict[str, tuple[int, ...]] = {}
    parts = []
    for name in order:
        node, given = graph.nodes[name], [shapes[source] for source in sources[name]]
        shapes[name], module = fit(name, node, given, Making(dt, dtype))
        parts.append(Part(name, tuple(sources[name]), module))
    return parts, shapes[order[0]]


class Making(NamedTuple):
    """How nodes become modules."""

    dt: float
    dtype: torch.dtype


def fit(name: str, node: Any, given: list[tuple[int, ...]], how: Making) -> tuple[tuple[int, ...], nn.Module | None]:
    """The shape that a node gives, and its module.

    Raises:  ValueError that names the node
    """
    kind = type(node).__name__
    if kind not in ("Input", "Output", *MAKERS):
        raise ValueError(f"node {name!r} is a {kind}; known are {', '.join(MAKERS)}")
    if len(set(given)) > 1:
        shapes = ", ".join(map(str, sorted(set(given))))
        raise ValueError(f"node {name!r} ({kind}) is given the shapes {shapes}, which have no sum")
    try:
        if kind == "Input":
            return require_shape(int(side) for side in np.asarray(node.input_type["input"]).reshape(-1)), None
        if kind == "Output":
            return given[0], None
        module = MAKERS[kind](node, given[0], how)
        if isinstance(module, Fire):
            return given[0], module
        shape = module(torch.empty(0, *given[0], dtype=how.dtype)).shape[1:]  # of no samples: nothing is computed
        return require_shape(shape), module
    except (ValueError, TypeError, RuntimeError, LookupError, OverflowError, AttributeError) as error:
        what = f"does not fit its input {given[0]}" if given else "has no shape"
        raise ValueError(f"node {name!r} ({kind}) {what}: {one_line(error)}") from None


def require_shape(sides: Iterable[int]) -> tuple[int, ...]:
    shape = tuple(sides)
    if not shape or min(shape) < 1 or math.prod(shape) > MAX_NUMBERS:
        raise ValueError(f"frames of the shape {shape}; sides of 1 or more are known, and up to {MAX_NUMBERS:,} numbers")
    return shape


def make_conv(node: Any, shape: tuple[int, ...], how: Making) -> nn.Module:
    weight = tensor(node.weight, how)
    if weight.dim() != 4:
        raise ValueError(f"its weights are {list(weight.shape)}")
    padding = node.padding if isinstance(node.padding, str) else to_pair(node.padding)
    stride, dilation, groups = to_pair(node.stride), to_pair(node.dilation), int(node.groups)
    kernel = (weight.shape[2], weight.shape[3])
    conv = nn.Conv2d(weight.shape[1] * groups, len(weight), kernel, stride, padding, dilation, groups, device="meta")
    return with_tensors(conv, weight=weight, bias=tensor(node.bias, how))


def make_linear(node: Any, shape: tuple[int, ...], how: Making) -> nn.Module:
    weight = tensor(node.weight, how)
    if weight.dim() != 2:
        raise ValueError(f"its weights are {list(weight.shape)}")
    bias = tensor(node.bias, how) if hasattr(node, "bias") else None
    linear = nn.Linear(weight.shape[1], len(weight), bias=bias is not None, device="meta")
    return with_tensors(linear, weight=weight, **({} if bias is None else {"bias": bias}))


def make_flatten(node: Any, shape: tuple[int, ...], how: Making) -> nn.Module:
    """NIR counts a frame's dimensions without the batch."""
    return nn.Flatten(*(dim + 1 if dim >= 0 else dim for dim in (int(node.start_dim), int(node.end_dim))))


def make_pool(kind: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda node, shape, how: kind(to_pair(node.kernel_size), to_pair(node.stride), to_pair(node.padding))


def make_neuron(node: Any, shape: tuple[int, ...], how: Making) -> nn.Module:
    """Neurons of E1; NIR's fire above the threshold, ours at it: at the next number."""
    if len(shape) not in (1, 3):
        raise ValueError("neurons of [features] and of [channels, height, width] are known")
    threshold = per_channel(node.v_threshold, shape, "v_threshold")
    bits = np.float64 if how.dtype == torch.float64 else np.float32
    v_th = np.nextafter(threshold.astype(bits), np.array(np.inf, bits))
    v_reset = per_channel(node.v_reset, shape, "v_reset")
    if v_reset.size > 1:
        raise ValueError("v_reset differs between channels; one number is known")
    r = per_channel(node.r, shape, "r")
    if hasattr(node, "tau"):
        leak = how.dt / per_channel(node.tau, shape, "tau")
        if not (np.isfinite(leak).all() and (leak > 0).all() and (leak <= 1).all()):
            raise ValueError(f"tau must be dt={how.dt:g} seconds or more")
        coefficients = (1 - leak, r * leak, per_channel(node.v_leak, shape, "v_leak") * leak)
    else:
        coefficients = (np.ones(()), r * how.dt, np.zeros(()))
    neuron = NIRNeuron(*(number(value, how) for value in coefficients), v_th=number(v_th, how), v_reset=float(v_reset))
    return Fire(lambda: neuron)


MAKERS: dict[str, Callable[[Any, tuple[int, ...], Making], nn.Module]] = {
    "Conv2d": make_conv,
    "Affine": make_linear,
    "Linear": make_linear,
    "Flatten": make_flatten,
    "AvgPool2d": make_pool(nn.AvgPool2d),
    "SumPool2d": make_pool(partial(nn.AvgPool2d, divisor_override=1)),
    "IF": make_neuron,
    "LIF": make_neuron,
}


def tensor(array: Any, how: Making) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(array)).to(how.dtype)
    if not found.isfinite().all():
        raise ValueError("its weights hold NaN or infinities")
    return found


def with_tensors(module: nn.Module, **tensors: Tensor) -> nn.Module:
    """A module of the meta device with these tensors.

    Raises:  ValueError for one of another shape
    """
    for name, value in tensors.items():
        if value.shape != getattr(module, name).shape:
            raise ValueError(f"its {name} is {list(value.shape)} and should be {list(getattr(module, name).shape)}")
        setattr(module, name, nn.Parameter(value, requires_grad=False))
    return module


def per_channel(array: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """One number of all neurons [], or of each channel [C]; float64.

    Raises:  ValueError for an array of another shape, and for neurons of a channel that differ
    """
    values = np.asarray(array, np.float64)
    if values.size > 1 and values.shape != shape:
        raise ValueError(f"{what} has the shape {values.shape}")
    rows = values.reshape(-1, 1) if values.size == 1 else values.reshape(shape[0], -1)
    if not np.isfinite(rows).all() or (rows != rows[:, :1]).any():
        raise ValueError(f"{what} is not finite, or differs within a channel; one number per channel is known")
    channels = rows[:, 0]
    return channels[0].copy() if (channels == channels[0]).all() else channels


def number(value: np.ndarray, how: Making) -> float | Tensor:
    return float(value) if value.ndim == 0 else torch.from_numpy(value).to(how.dtype)
