"""The table of networks, and the one function that builds them."""

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from .. import aliases
from ..kernels import CONNECT
from ..kernels.connect import ConnectFn, resolve_connect
from ..neurons import NEURONS, Neuron, neuron_kind
from ..wording import choice, option, unknown_name
from .chain import ChainNet
from .converted import ConvertedBlock
from .event_nets import EventNet
from .layers import POOL_KINDS
from .membrane_shortcut import MSBlock
from .network import Network, require_positive, scaled_channels
from .residual import (
    Block,
    PlainBlock,
    RBABlock,
    ReLUBlock,
    SEWBlock,
    SpikingBlock,
    ThresholdNormBlock,
    identity_branch_value,
    require_identity,
)
from .resnet import BOTTLENECK_DEPTHS, CIFAR_DEPTHS, CIFAR_WIDTHS, IMAGENET_DEPTHS, IMAGENET_WIDTHS, ResNet


class ModelEntry(NamedTuple):
    """A line of the table: which blocks, how many, and which options of `build_model` mean something for them.

    stages:  blocks per stage (images), or (channels, blocks) per stage (events)
    widths:  channels per stage (images)
    layers:  of a network without blocks, in the paper's notation
    stems:   the stems to choose from, the first is the default
    """

    family: str  # "imagenet", "cifar", "event" or "chain"
    block: type[Block] | None
    stages: tuple
    widths: tuple[int, ...] = ()
    bottleneck: bool = False
    stems: tuple[str, ...] = ()
    layers: str = ""

    @property
    def spiking(self) -> bool:
        return self.block is None or not issubclass(self.block, ReLUBlock)

    @property
    def default_neuron(self) -> str:
        if self.layers:
            return "PLIF" if "PLIF" in self.layers else "LIF"
        return "PLIF" if self.family == "event" else "IF"

    @property
    def options(self) -> set[str]:
        """The options of `build_model` that this network has."""
        of_block = (
            NEURON_OPTIONS - {"last_surrogate"}
            if self.block is None
            else next(BLOCK_OPTIONS[kind] for kind in self.block.__mro__ if kind in BLOCK_OPTIONS)
        )
        options = FAMILY_OPTIONS[self.family] | of_block | {"num_classes", "in_channels", "width"}
        return options if self.pools else options - {"pool"}

    @property
    def pools(self) -> bool:
        """Whether the network pools: the stem of MS-ResNets does not, as published; their first block halves the image."""
        carries_currents = self.block is not None and self.block.meets == "currents"
        return self.family == "event" or (self.family == "imagenet" and not carries_currents)


NEURON_OPTIONS = {"T", "neuron", "v_th", "v_reset", "tau", "decay_input", "surrogate", "alpha", "detach_reset"}
NEURON_OPTIONS |= {"last_surrogate", "backend"}
BLOCK_OPTIONS: dict[type[Block], set[str]] = {  # a class that is not here has those of the class it derives from
    Block: NEURON_OPTIONS | {"zero_init"},
    SEWBlock: NEURON_OPTIONS | {"connect", "zero_init"},
    PlainBlock: NEURON_OPTIONS,
    ConvertedBlock: NEURON_OPTIONS,
    ReLUBlock: {"zero_init"},
}
FAMILY_OPTIONS = {"imagenet": {"stem", "pool"}, "cifar": set(), "chain": set(), "event": {"stem", "pool", "num_blocks"}}


def imagenet_entry(block: type[Block], depth: int, widths: tuple[int, ...] = IMAGENET_WIDTHS) -> ModelEntry:
    """A ResNet of the ImageNet kind of these blocks: depth 18, 34, 50, 101, 104 or 152; widths, the channels of each stage."""
    require_depth(depth, IMAGENET_DEPTHS)
    return ModelEntry("imagenet", block, IMAGENET_DEPTHS[depth], widths, depth in BOTTLENECK_DEPTHS, ("7x7", "3x3"))


def cifar_entry(block: type[Block], depth: int) -> ModelEntry:
    """A ResNet of the CIFAR kind of these blocks: depth 20, 32, 44, 56 or 110."""
    require_depth(depth, CIFAR_DEPTHS)
    return ModelEntry("cifar", block, CIFAR_DEPTHS[depth], CIFAR_WIDTHS, stems=("3x3",))


def event_entry(block: type[Block], *stages: tuple[int, int]) -> ModelEntry:
    """A network for event cameras of these blocks: (channels, number of blocks) of each stage."""
    return ModelEntry("event", block, stages, stems=("1x1", "3x3"))


def chain_entry(layers: str) -> ModelEntry:
    return ModelEntry("chain", None, (), layers=layers)


def require_depth(depth: int, depths: Collection[int]) -> None:
    if depth not in depths:
        raise ValueError(f"there is no ResNet of depth {depth}; use {', '.join(map(str, depths))}")


MODELS: dict[str, ModelEntry] = {
    "sew_resnet18": imagenet_entry(SEWBlock, 18),
    "sew_resnet34": imagenet_entry(SEWBlock, 34),
    "sew_resnet50": imagenet_entry(SEWBlock, 50),
    "sew_resnet101": imagenet_entry(SEWBlock, 101),
    "sew_resnet152": imagenet_entry(SEWBlock, 152),
    "spiking_resnet18": imagenet_entry(SpikingBlock, 18),
    "spiking_resnet34": imagenet_entry(SpikingBlock, 34),
    "spiking_resnet50": imagenet_entry(SpikingBlock, 50),
    "spiking_resnet101": imagenet_entry(SpikingBlock, 101),
    "spiking_resnet152": imagenet_entry(SpikingBlock, 152),
    "plain_resnet18": imagenet_entry(PlainBlock, 18),
    "plain_resnet34": imagenet_entry(PlainBlock, 34),
    "ms_resnet18": imagenet_entry(MSBlock, 18),
    "ms_resnet34": imagenet_entry(MSBlock, 34),
    "ms_resnet104": imagenet_entry(MSBlock, 104),
    "tdbn_resnet17": imagenet_entry(ThresholdNormBlock, 18),  # its 17 convolutions beside the shortcuts'
    "tdbn_resnet34": imagenet_entry(ThresholdNormBlock, 34),
    "tdbn_resnet34_large": imagenet_entry(ThresholdNormBlock, 34, (128, 256, 512, 1024)),
    "tdbn_resnet50": imagenet_entry(ThresholdNormBlock, 50),
    "converted_resnet18": imagenet_entry(ConvertedBlock, 18),
    "converted_resnet34": imagenet_entry(ConvertedBlock, 34),
    "converted_resnet50": imagenet_entry(ConvertedBlock, 50),
    "converted_resnet101": imagenet_entry(ConvertedBlock, 101),
    "converted_resnet152": imagenet_entry(ConvertedBlock, 152),
    "resnet18": imagenet_entry(ReLUBlock, 18),
    "resnet34": imagenet_entry(ReLUBlock, 34),
    "resnet50": imagenet_entry(ReLUBlock, 50),
    "resnet101": imagenet_entry(ReLUBlock, 101),
    "resnet152": imagenet_entry(ReLUBlock, 152),
    "sew_resnet20": cifar_entry(SEWBlock, 20),
    "sew_resnet32": cifar_entry(SEWBlock, 32),
    "sew_resnet44": cifar_entry(SEWBlock, 44),
    "sew_resnet56": cifar_entry(SEWBlock, 56),
    "sew_resnet110": cifar_entry(SEWBlock, 110),
    "spiking_resnet20": cifar_entry(SpikingBlock, 20),
    "spiking_resnet32": cifar_entry(SpikingBlock, 32),
    "spiking_resnet44": cifar_entry(SpikingBlock, 44),
    "spiking_resnet56": cifar_entry(SpikingBlock, 56),
    "spiking_resnet110": cifar_entry(SpikingBlock, 110),
    "plain_resnet20": cifar_entry(PlainBlock, 20),
    "plain_resnet32": cifar_entry(PlainBlock, 32),
    "plain_resnet44": cifar_entry(PlainBlock, 44),
    "plain_resnet56": cifar_entry(PlainBlock, 56),
    "plain_resnet110": cifar_entry(PlainBlock, 110),
    "ms_resnet20": cifar_entry(MSBlock, 20),
    "ms_resnet32": cifar_entry(MSBlock, 32),
    "ms_resnet44": cifar_entry(MSBlock, 44),
    "ms_resnet56": cifar_entry(MSBlock, 56),
    "ms_resnet110": cifar_entry(MSBlock, 110),
    "converted_resnet20": cifar_entry(ConvertedBlock, 20),
    "converted_resnet32": cifar_entry(ConvertedBlock, 32),
    "converted_resnet44": cifar_entry(ConvertedBlock, 44),
    "converted_resnet56": cifar_entry(ConvertedBlock, 56),
    "converted_resnet110": cifar_entry(ConvertedBlock, 110),
    "resnet20": cifar_entry(ReLUBlock, 20),
    "resnet32": cifar_entry(ReLUBlock, 32),
    "resnet44": cifar_entry(ReLUBlock, 44),
    "resnet56": cifar_entry(ReLUBlock, 56),
    "resnet110": cifar_entry(ReLUBlock, 110),
    "rba_resnet20": cifar_entry(RBABlock, 20),
    "rba_resnet56": cifar_entry(RBABlock, 56),
    "rba_resnet110": cifar_entry(RBABlock, 110),
    "sew_7b": event_entry(SEWBlock, (32, 7)),
    "spiking_7b": event_entry(SpikingBlock, (32, 7)),
    "plain_7b": event_entry(PlainBlock, (32, 7)),
    "sew_wide7b": event_entry(SEWBlock, (64, 4), (128, 3)),
    "plif_net": chain_entry("{c128k3s1-BN-PLIF-MPk2s2}*5-DP-FC512-PLIF-DP-FC110-PLIF-APk10s10"),
    "lif_net": chain_entry("MPk4-c64k3-LIF-c128k3-LIF-APk2-c128k3-LIF-APk2-FC256-LIF-FC11"),
}


def build_model(
    name: str,
    *,
    num_classes: int,
    T: int = 4,
    connect: str | ConnectFn = "ADD",
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
    width: float = 1.0,
    backend: str = "auto",
) -> Network:
    """Build a network of the table MODELS, with fresh weights.

    num_classes:     size of the last layer
    T:               time steps for which a still image is shown; frame sequences bring their own
    connect:         g of E6, "ADD", "AND", "IAND" or a function of (a, s); SEW networks
    neuron:          a name of NEURONS, such as "IF" or "PLIF", or a class or function that makes a neuron of v_th, v_reset,
                     surrogate, alpha, detach_reset and backend; None is IF for images and PLIF for events, as published
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
    width:           channels of every stage, as a multiple of the published ones, above 0; rounded to whole channels
    backend:         kernels, a name of BACKENDS or "auto"
    Raises:          ValueError for a name, value or option that this network does not have
    """
    surrogate = aliases.renamed_by_user(surrogate)
    last_surrogate = aliases.renamed_by_user(last_surrogate)
    options = {key: value for key, value in locals().items() if key != "name"}
    entry = find_model(name)
    check_options(name, entry, options)
    block_options: dict[str, Any] = {}
    kwargs: dict[str, Any] = {"num_classes": num_classes, "T": T, "neuron": None}
    if entry.spiking:
        kind = neuron_kind(neuron or entry.default_neuron)
        own = {key: value for key, value in (("tau", tau), ("decay_input", decay_input)) if key in own_options(kind)}
        shared = {"v_th": v_th, "v_reset": v_reset, "alpha": alpha, "detach_reset": detach_reset, "backend": backend}
        require_keywords(kind, [*own, *shared, "surrogate"])
        make = partial(kind, **own, **shared)
        kwargs["neuron"] = block_options["neuron"] = partial(make, surrogate=surrogate)
        block_options["last_neuron"] = partial(make, surrogate=last_surrogate or surrogate)
    if "connect" in entry.options:
        block_options["connect"] = resolve_connect(connect)
        if zero_init:
            require_identity(identity_branch_value(block_options["connect"]))  # refuses before anything is built
    if in_channels is not None:
        kwargs["in_channels"] = in_channels
    if entry.block is None:
        net: Network = ChainNet(entry.layers, width=width, **kwargs)
    else:
        kwargs["stem"] = check_choice("stem", stem or entry.stems[0], entry.stems)
        kwargs["pool"] = check_choice("pool", pool, POOL_KINDS) if entry.pools else None
        net = build_residual(entry, width, num_blocks, **kwargs, block_options=block_options)
    if zero_init:
        net.zero_init_()
    net.spec = {"name": name, **options, "connect": table_key(connect, CONNECT), "neuron": table_key(neuron, NEURONS)}
    return net


def build_residual(
    entry: ModelEntry, width: float, num_blocks: int | None, *, block_options: dict[str, Any], **kwargs: Any
) -> Network:
    """A network of residual blocks: stages of them, as the entry says, of this width."""
    assert entry.block is not None, "a chain has none"
    if entry.family != "event":
        widths = tuple(scaled_channels(channels, width) for channels in entry.widths)
        return ResNet(
            entry.block, entry.stages, widths, block_options=block_options | {"bottleneck": entry.bottleneck}, **kwargs
        )
    stages = tuple((scaled_channels(channels, width), count) for channels, count in entry.stages)
    if num_blocks is not None:
        require_positive(num_blocks=num_blocks)
        if num_blocks > 16:
            raise ValueError(f"{option('num_blocks', num_blocks)}: each halves the frame, 16 need 65,536 pixels; use fewer")
        stages = ((stages[0][0], num_blocks),)
    return EventNet(entry.block, stages, block_options=block_options, **kwargs)


DEFAULTS = {
    key: parameter.default
    for key, parameter in inspect.signature(build_model).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}


def effective_options(entry: ModelEntry, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a network with what their None stands for; words of tables as the tables have them."""
    default = {"neuron": entry.default_neuron, "stem": (entry.stems or (None,))[0], "last_surrogate": options["surrogate"]}
    default |= (
        {"in_channels": 2, "num_blocks": sum(blocks for _, blocks in entry.stages)}
        if entry.family == "event"
        else {"in_channels": 3}
    )
    chosen = options | {key: value for key, value in default.items() if options[key] is None}
    return chosen | {"connect": table_key(chosen["connect"], CONNECT), "neuron": table_key(chosen["neuron"], NEURONS)}


def find_model(name: str) -> ModelEntry:
    if name not in MODELS:
        raise ValueError(unknown_name("model", name, sorted(MODELS), own=True))
    return MODELS[name]


def check_options(name: str, entry: ModelEntry, options: dict[str, Any]) -> None:
    """An option that this network does not have may only stand at its default."""
    for key, value in options.items():
        if key not in entry.options and value != DEFAULTS[key]:
            raise ValueError(f"{name} has no {option(key)}, given {value!r}; its options: {', '.join(sorted(entry.options))}")
    if options["num_blocks"] is not None and len(entry.stages) > 1:
        raise ValueError(
            f"{name} has no {option('num_blocks')}, given {options['num_blocks']!r}; its stages are {entry.stages}"
        )
    kind = neuron_kind(options["neuron"] or entry.default_neuron) if entry.spiking else None
    for key in ("tau", "decay_input"):
        if kind is None or options[key] == DEFAULTS[key] or key in own_options(kind):
            continue
        if kind not in NEURONS.values():
            given = option(key, options[key])
            own = getattr(kind, "__name__", "your neuron")
            raise ValueError(f"{given} would not reach a neuron of your own; say it there: neuron=partial({own}, {key}=...)")
        lacks = f"{table_key(kind, NEURONS)} has no {option(key)}, given {options[key]!r}"
        raise ValueError(f"{lacks}; use {option('neuron', 'LIF', 'PLIF')}")


def own_options(kind: Callable[..., Neuron]) -> set[str]:
    """Which of tau and decay_input a kind of the table takes; what makes neurons of its own gets none of them."""
    taken = set(inspect.signature(kind).parameters) if kind in NEURONS.values() else set()
    return {"tau", "decay_input"} & taken


def require_keywords(kind: Callable[..., Neuron], names: list[str]) -> None:
    """Refuse what makes neurons, but does not take what every neuron is given."""
    try:
        inspect.signature(kind).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise ValueError(
            f"neuron {getattr(kind, '__name__', kind)}: {error}; it is given {', '.join(names)}: "
            "take **options and hand them to Neuron.__init__"
        ) from None


def table_key(value: Any, table: dict[str, Any]) -> Any:
    """The word that stands for `value` in a table, if one does: a file can hold a word, but no function."""
    if isinstance(value, str):
        return value.upper() if value.upper() in table else value
    return next((word for word, entry in table.items() if entry is value), value)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{option(name, value)} is unknown; use {choice(map(repr, allowed))}")
    return value
