"""The table of networks, and the one function that builds them."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..kernels import CONNECT
from ..kernels.connect import Connect
from ..neurons import NEURONS, Neuron
from .event_nets import EventNet
from .layers import POOLS
from .network import Network, require_positive
from .residual import Block, PlainBlock, ReLUBlock, SEWBlock, SpikingBlock, branch_of_identity, resolve_connect
from .resnet import BOTTLENECKS, CIFAR_DEPTHS, CIFAR_WIDTHS, IMAGENET_DEPTHS, IMAGENET_WIDTHS, ResNet


class Architecture(NamedTuple):
    """A line of the table: which blocks, how many, and which options of `build_model` mean something for them.

    stages:  blocks per stage (images), or (channels, blocks) per stage (events)
    stems:   the stems to choose from, the first is the default
    """

    kind: str  # "imagenet", "cifar" or "event"
    block: type[Block]
    stages: tuple
    bottleneck: bool = False
    stems: tuple[str, ...] = ()

    @property
    def spiking(self) -> bool:
        return self.block is not ReLUBlock

    @property
    def options(self) -> set[str]:
        """The options of `build_model` that this network has."""
        return OPTIONS_OF_KIND[self.kind] | OPTIONS_OF_BLOCK[self.block] | {"num_classes", "in_channels"}


NEURON_OPTIONS = {"T", "neuron", "v_th", "v_reset", "tau", "decay_input", "surrogate", "alpha", "detach_reset"}
NEURON_OPTIONS |= {"last_surrogate", "backend"}
OPTIONS_OF_BLOCK: dict[type[Block], set[str]] = {
    SEWBlock: NEURON_OPTIONS | {"connect", "zero_init"},
    SpikingBlock: NEURON_OPTIONS | {"zero_init"},
    PlainBlock: NEURON_OPTIONS,
    ReLUBlock: {"zero_init"},
}
OPTIONS_OF_KIND = {"imagenet": {"stem", "pool"}, "cifar": set(), "event": {"stem", "pool", "num_blocks"}}


def imagenet(block: type[Block], depth: int) -> Architecture:
    return Architecture("imagenet", block, IMAGENET_DEPTHS[depth], depth in BOTTLENECKS, ("7x7", "3x3"))


def cifar(block: type[Block], depth: int) -> Architecture:
    return Architecture("cifar", block, CIFAR_DEPTHS[depth], stems=("3x3",))


def event(block: type[Block], *stages: tuple[int, int]) -> Architecture:
    return Architecture("event", block, stages, stems=("1x1", "3x3"))


MODELS: dict[str, Architecture] = {
    "sew_resnet18": imagenet(SEWBlock, 18),
    "sew_resnet34": imagenet(SEWBlock, 34),
    "sew_resnet50": imagenet(SEWBlock, 50),
    "sew_resnet101": imagenet(SEWBlock, 101),
    "sew_resnet152": imagenet(SEWBlock, 152),
    "spiking_resnet18": imagenet(SpikingBlock, 18),
    "spiking_resnet34": imagenet(SpikingBlock, 34),
    "spiking_resnet50": imagenet(SpikingBlock, 50),
    "spiking_resnet101": imagenet(SpikingBlock, 101),
    "spiking_resnet152": imagenet(SpikingBlock, 152),
    "plain_resnet18": imagenet(PlainBlock, 18),
    "plain_resnet34": imagenet(PlainBlock, 34),
    "resnet18": imagenet(ReLUBlock, 18),
    "resnet34": imagenet(ReLUBlock, 34),
    "resnet50": imagenet(ReLUBlock, 50),
    "resnet101": imagenet(ReLUBlock, 101),
    "resnet152": imagenet(ReLUBlock, 152),
    "sew_resnet20": cifar(SEWBlock, 20),
    "sew_resnet32": cifar(SEWBlock, 32),
    "sew_resnet44": cifar(SEWBlock, 44),
    "sew_resnet56": cifar(SEWBlock, 56),
    "sew_resnet110": cifar(SEWBlock, 110),
    "spiking_resnet20": cifar(SpikingBlock, 20),
    "spiking_resnet32": cifar(SpikingBlock, 32),
    "spiking_resnet44": cifar(SpikingBlock, 44),
    "spiking_resnet56": cifar(SpikingBlock, 56),
    "spiking_resnet110": cifar(SpikingBlock, 110),
    "plain_resnet20": cifar(PlainBlock, 20),
    "plain_resnet32": cifar(PlainBlock, 32),
    "plain_resnet44": cifar(PlainBlock, 44),
    "plain_resnet56": cifar(PlainBlock, 56),
    "plain_resnet110": cifar(PlainBlock, 110),
    "resnet20": cifar(ReLUBlock, 20),
    "resnet32": cifar(ReLUBlock, 32),
    "resnet44": cifar(ReLUBlock, 44),
    "resnet56": cifar(ReLUBlock, 56),
    "resnet110": cifar(ReLUBlock, 110),
    "sew_7b": event(SEWBlock, (32, 7)),
    "spiking_7b": event(SpikingBlock, (32, 7)),
    "plain_7b": event(PlainBlock, (32, 7)),
    "sew_wide7b": event(SEWBlock, (64, 4), (128, 3)),
}


def build_model(
    name: str,
    *,
    num_classes: int,
    T: int = 4,
    connect: str | Connect = "ADD",
    neuron: str | Callable[..., Neuron] | None = None,
    v_th: float = 1.0,
    v_reset: float | None = 0.0,
    tau: float = 2.0,
    decay_input: bool = True,
    surrogate: str = "atan",
    alpha: float = 2.0,
    last_surrogate: str | None = None,
    detach_reset: bool = True,
    stem: str | None = None,
    pool: str = "max",
    zero_init: bool = False,
    in_channels: int | None = None,
    num_blocks: int | None = None,
    backend: str = "auto",
) -> Network:
    """Build a network of the table MODELS, with fresh weights.

    num_classes:     size of the last layer
    T:               time steps for which a still image is shown; frame sequences bring their own
    connect:         g of E6, "ADD", "AND", "IAND" or a function of (a, s); SEW networks
    neuron:          "IF", "LIF", "PLIF", or a function that makes a neuron of v_th, v_reset, surrogate, alpha, detach_reset
                     and backend; None is IF for images and PLIF for events, as published
    v_th, v_reset:   threshold and reset potential; v_reset=None is the soft reset
    tau:             membrane time constant in time steps, > 1; LIF and (at the start) PLIF
    decay_input:     whether LIF and PLIF divide their input by tau
    surrogate:       slope of the firing step, a name of SURROGATES; alpha, its slope parameter
    last_surrogate:  the surrogate of the last neurons of each block (the paper's A.5); None: the same
    detach_reset:    whether gradients ignore the reset's dependence on the spike
    stem:            "7x7" or, for small images, "3x3" (ImageNet kind); "1x1" or "3x3" (events)
    pool:            "max" or "avg": the stem's pooling (ImageNet kind), that between blocks (events)
    zero_init:       the last norm of every block starts at 0 (E9): SEW blocks start as the identity, whatever the neuron;
                     Spiking blocks only with IF at rest 0 and v_th <= 1, with leaky neurons they start silent
    in_channels:     None is 3 for images and 2 for events
    num_blocks:      blocks of a 7B network, None is 7; each halves the frame
    backend:         kernels, a name of BACKENDS or "auto"
    Raises:          ValueError for a name, value or option that this network does not have
    """
    given = {key: value for key, value in locals().items() if key != "name"}
    architecture = find_architecture(name)
    refuse_foreign_options(name, architecture, given)
    kind, block, stages = architecture.kind, architecture.block, architecture.stages
    block_options: dict[str, Any] = {}
    how: dict[str, Any] = {"num_classes": num_classes, "T": T, "neuron": None, "block_options": block_options}
    if architecture.spiking:
        make = partial(
            neuron_factory(neuron or ("PLIF" if kind == "event" else "IF"), tau, decay_input),
            **{"v_th": v_th, "v_reset": v_reset, "alpha": alpha, "detach_reset": detach_reset, "backend": backend},
        )
        how["neuron"] = block_options["neuron"] = partial(make, surrogate=surrogate)
        block_options["last_neuron"] = partial(make, surrogate=last_surrogate or surrogate)
    if block is SEWBlock:
        block_options["connect"] = resolve_connect(connect)
        if zero_init:
            branch_of_identity(block_options["connect"])  # refuses before anything is built
    if in_channels is not None:
        how["in_channels"] = in_channels
    how["stem"] = choose("stem", stem or architecture.stems[0], architecture.stems)
    how["pool"] = choose("pool", pool, POOLS)
    if kind == "event":
        if num_blocks is not None:
            require_positive(num_blocks=num_blocks)
            if num_blocks > 16:
                raise ValueError(f"num_blocks={num_blocks}: each halves the frame, so that 16 need 65,536 pixels; use fewer")
            ((channels, _),) = stages
            stages = ((channels, num_blocks),)
        net: Network = EventNet(block, stages, **how)
    else:
        block_options["bottleneck"] = architecture.bottleneck
        net = ResNet(block, stages, IMAGENET_WIDTHS if kind == "imagenet" else CIFAR_WIDTHS, **how)
    if zero_init:
        net.silence()
    net.spec = {"name": name, **given, "connect": name_of(connect, CONNECT), "neuron": name_of(neuron, NEURONS)}
    return net


DEFAULTS = {
    key: parameter.default
    for key, parameter in inspect.signature(build_model).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}


def find_architecture(name: str) -> Architecture:
    if name not in MODELS:
        near = difflib.get_close_matches(str(name).lower(), MODELS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no model named {name!r}; {hint}known: {', '.join(sorted(MODELS))}")
    return MODELS[name]


def refuse_foreign_options(name: str, architecture: Architecture, given: dict[str, Any]) -> None:
    """An option that this network does not have may only stand at its default."""
    for key, value in given.items():
        if key not in architecture.options and value != DEFAULTS[key]:
            raise ValueError(f"{name} has no {key!r}, given {value!r}; its options: {', '.join(sorted(architecture.options))}")
    if given["num_blocks"] is not None and len(architecture.stages) > 1:
        raise ValueError(f"{name} has no 'num_blocks', given {given['num_blocks']!r}; its stages are {architecture.stages}")
    if callable(given["neuron"]) and given["neuron"] not in NEURONS.values():
        for key in ("tau", "decay_input"):
            if given[key] != DEFAULTS[key]:
                raise ValueError(
                    f"{key}={given[key]!r} would not reach a neuron that is a function; give it to the function itself"
                )
    elif given["neuron"] in ("IF", NEURONS["IF"]) or (given["neuron"] is None and architecture.kind != "event"):
        for key in ("tau", "decay_input"):
            if given[key] != DEFAULTS[key]:
                raise ValueError(f"IF has no {key!r}, given {given[key]!r}; use neuron='LIF' or 'PLIF'")


def neuron_factory(neuron: str | Callable[..., Neuron], tau: float, decay_input: bool) -> Callable[..., Neuron]:
    """A function that makes one layer's neurons from the options that all neurons share."""
    if callable(neuron) and neuron not in NEURONS.values():
        return neuron
    if not isinstance(neuron, str | type) or (isinstance(neuron, str) and neuron not in NEURONS):
        raise ValueError(f"no neuron named {neuron!r}; known: {', '.join(NEURONS)}")
    kind: Callable[..., Neuron] = NEURONS[neuron] if isinstance(neuron, str) else neuron
    return kind if kind is NEURONS["IF"] else partial(kind, tau, decay_input=decay_input)


def name_of(value: Any, table: dict[str, Any]) -> Any:
    """The word that stands for `value` in a table, if one does: a file can hold a word, but no function."""
    if isinstance(value, str):
        return value.upper() if value.upper() in table else value
    return next((word for word, entry in table.items() if entry is value), value)


def choose(option: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is unknown; use {' or '.join(repr(word) for word in allowed)}")
    return value
