"""Parts of a network that are not as `build_model` makes them: told in a weights file, and made again from it.

A file names its network by the options of `build_model`. Whoever then puts in another head, norm, neuron or connection has a
network that these options do not tell. Such parts are written down by their class and its arguments, where the class is one of
PARTS or NEURONS; what cannot be written down is refused when the network is saved.
"""

import functools
import inspect
import json
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from ..aliases import renamed
from ..kernels import CONNECT
from ..kernels.connect import resolve_connect
from ..neurons import NEURONS, Neuron
from ..wording import option
from .chain import TimeDropout, Vote
from .layers import ConvNormFire, MaxPool, SpikeConv
from .network import Network
from .registry import NEURON_OPTIONS, build_model, table_key
from .threshold_norm import ThresholdNorm2d

PARTS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(nn.Identity, nn.Sequential, nn.Flatten, nn.Linear, nn.Dropout, nn.Dropout2d, nn.Conv2d, SpikeConv),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d, ThresholdNorm2d),
        *(nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax),
        *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, MaxPool, TimeDropout, Vote),
    )
}
Description = dict[str, Any]


def changed_parts(net: Network, spec: dict[str, Any]) -> dict[str, Any]:
    """Which parts differ from those that `build_model` makes of `spec`: path of a module -> its description, and path of a
    connection -> its word in CONNECT.

    Raises:  ValueError that names a part which no description can tell
    """
    is_told = not any(callable(value) for value in spec.values())
    built, shapes = built_parts(json.dumps(spec)) if is_told else describe_built(build_empty(spec))
    mine = describe_all(net)
    parts: dict[str, Any] = {}
    for path, description in mine.items():
        if inside(path, parts) or description == built.get(path):
            continue
        module = net.get_submodule(path)
        if path not in built:
            raise ValueError(f"{path} is added to the network, which a file cannot tell; {ADVICE}")
        expected = built[path]
        if replaced := OWN_WAYS & module.__dict__.keys():
            raise ValueError(f"{path}: its {min(replaced)} was replaced, which a file cannot hold; {ADVICE}")
        if part_name(module) is not None:
            parts[path] = describe(module, path)
        elif isinstance(module, ConvNormFire) and {**description, "connect": None} == {**expected, "connect": None}:
            parts[f"{path}.connect"] = connect_word(module, path)
        else:
            kind = type(module).__name__
            raise ValueError(f"{path or 'the network'} is a {kind}, not {expected['kind']}, which a file cannot tell; {ADVICE}")
    for path in built:
        if path not in mine and not inside(path, parts):
            raise ValueError(f"{path} is missing, which a file cannot tell: put nn.Identity() there; or {ADVICE}")
    if parts:
        told = build_empty(spec)
        replace_parts(told, parts)
        shapes = tensor_shapes(told)
    if differing := [name for name, shape in (tensor_shapes(net).items() ^ shapes.items())]:
        raise ValueError(
            f"its tensor {min(differing)!r} is added, missing or of another shape, which a file cannot tell; {ADVICE}"
        )
    return parts


OWN_WAYS = {
    "forward",
    "step",
    "fire",
    "initial_state",
    "v_rest",
    "coefficients",
}  # that an object may have in place of its class's
ADVICE = "save net.state_dict() and load it into a network changed alike"


def replace_parts(net: Network, parts: dict[str, Any], given: Collection[str] = ()) -> None:
    """Put in the parts that a file tells, on the meta device: their tensors come with the others.

    given:   options that the caller of `load_pretrained` says
    Raises:  ValueError for what is no description of a part; for options that these parts would not follow
    """
    told = [path for path, part in parts.items() if isinstance(part, dict) and part.get("kind") in NEURONS]
    if told and (ignored := sorted(set(given) & NEURON_OPTIONS - {"T", "backend"})):
        raise ValueError(
            f"{option(ignored[0])} would not reach {told[0]} and {len(told) - 1} more, whose settings the file tells"
        )
    for path, description in parts.items():
        parent, _, name = path.rpartition(".")
        try:
            owner = net.get_submodule(parent)
            if isinstance(description, str) and name == "connect" and isinstance(owner, ConvNormFire):
                owner.connect = resolve_connect(description)
            else:
                part = make(description)
                for neuron in (module for module in part.modules() if isinstance(module, Neuron)):
                    neuron.backend = net.spec["backend"]
                if isinstance(part, Neuron):
                    part.to("meta")
                if name not in owner._modules:
                    raise KeyError("there is none of this name")
                owner._modules[name] = part
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"its part {path!r} cannot be made: {error}") from None
    net.assign_state_keys()


def build_empty(spec: dict[str, Any]) -> Network:
    """A network without memory; `zero_init` only sets weights."""
    known = set(build_model.__kwdefaults__ or {}) | {"num_classes", "name"}
    strange = sorted(set(spec) - known)
    if strange:
        raise ValueError(f"no option named {strange[0]!r}; options of build_model: {', '.join(sorted(known))}")
    if "num_classes" not in spec:
        raise ValueError(f"it doesn't say how many classes it has; say it: {option('num_classes')}")
    with torch.device("meta"):
        spec_now = {key: renamed(value) for key, value in spec.items()}  # quietly: a file is no mistake of its reader's
        net = build_model(**{**spec_now, "zero_init": False})
    net.spec = net.spec | {"zero_init": spec.get("zero_init", False)}
    return net


@functools.lru_cache(maxsize=8)
def built_parts(spec: str) -> tuple[dict[str, Description], dict[str, torch.Size]]:
    """`describe_built` of the network that these options, as JSON, make: kept, as every checkpoint asks."""
    return describe_built(build_empty(json.loads(spec)))


def describe_built(net: Network) -> tuple[dict[str, Description], dict[str, torch.Size]]:
    return describe_all(net), tensor_shapes(net)


def tensor_shapes(net: Network) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def describe_all(net: nn.Module) -> dict[str, Description]:
    """Every module by its path: its class and, where PARTS has it, what it was made with."""
    found: dict[str, Description] = {}
    for path, module in net.named_modules():
        name = part_name(module)
        found[path] = {"kind": name, **settings(module)} if name is not None else {"kind": type(module).__qualname__}
        if isinstance(module, ConvNormFire):
            found[path]["connect"] = table_key(module.connect, CONNECT)
        if name is None and isinstance(module, Neuron):  # of a user's own: told by the function that makes it
            found[path] |= settings(module)
        if replaced := OWN_WAYS & module.__dict__.keys():
            found[path]["replaced"] = sorted(replaced)
    return found


def describe(module: nn.Module, path: str) -> Description:
    """A part with all that is in it."""
    name = part_name(module)
    if name is None or OWN_WAYS & module.__dict__.keys():
        raise ValueError(f"{path} is a {type(module).__name__}, which a file cannot tell; {ADVICE}")
    description = {"kind": name, **settings(module)}
    if isinstance(module, nn.Sequential):
        description["parts"] = {key: describe(child, f"{path}.{key}") for key, child in module.named_children()}
    return description


def make(description: Any) -> nn.Module:
    """A part of its description, without memory."""
    if not isinstance(description, dict) or description.get("kind") not in PARTS.keys() | NEURONS.keys():
        kind = description.get("kind") if isinstance(description, dict) else description
        raise ValueError(f"a part {kind!r} is not known here: {', '.join((*PARTS, *NEURONS))}")
    arguments = {key: value for key, value in description.items() if key not in ("kind", "parts", "v_th_shape", "v_th_learned")}
    kind = {**PARTS, **NEURONS}[description["kind"]]
    with torch.device("meta"):
        if "v_th_shape" in description:
            v_th = torch.empty(description["v_th_shape"])
            arguments["v_th"] = nn.Parameter(v_th) if description.get("v_th_learned") else v_th
        if kind is nn.Sequential:
            part = nn.Sequential()
            for key, child in description.get("parts", {}).items():
                part.add_module(key, make(child))
            return part
        return kind(**arguments)


def part_name(module: nn.Module) -> str | None:
    """Its name in PARTS or NEURONS, if it is one of them as it is."""
    return next((name for table in (PARTS, NEURONS) for name, kind in table.items() if type(module) is kind), None)


def settings(module: nn.Module) -> Description:
    """What a part was made with: the arguments of its constructors that it keeps under their names."""
    found: Description = {}
    for kind in type(module).__mro__:
        parameters = inspect.signature(kind).parameters
        for name in parameters:
            if name not in ("device", "dtype", *getattr(module, "learned_settings", ())) and hasattr(module, name):
                value = getattr(module, name)
                if name == "backend" and isinstance(module, Neuron):
                    continue  # of the machine, not of the network
                found[name] = value is not None if name == "bias" else value
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break  # else the rest is an argument of the class above
    if isinstance(module, Neuron) and isinstance(module.v_th, Tensor):
        del found["v_th"]
        found |= {"v_th_shape": list(module.v_th.shape), "v_th_learned": isinstance(module.v_th, nn.Parameter)}
    if isinstance(module, MaxPool):
        found |= module.window._asdict()
    try:
        return json.loads(json.dumps(found))
    except TypeError:
        return {key: value if isinstance(value, int | float | str | None) else repr(value) for key, value in found.items()}


def connect_word(layer: ConvNormFire, path: str) -> str:
    word = table_key(layer.connect, CONNECT)
    if not isinstance(word, str):
        raise ValueError(f"{path}.connect is of your own, which a file cannot hold; add it to spikewise.CONNECT under a name")
    return word


def inside(path: str, parts: dict[str, Any]) -> bool:
    """Whether a module is within one that is replaced as a whole."""
    return any(path.startswith(f"{part}.") for part in parts)
