"""A network's tensors under the names of other libraries, and what is lost or changes its meaning on the way."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import disk
from .key_maps import published_names, spikingjelly_names, torchvision_names
from .network import Network
from .parts import changed_parts
from .registry import DEFAULTS, effective_options, find_model
from .residual import SEWBlock
from .tensor_file import serialize

Names = Callable[[Network], dict[str, str]]
NAMES: dict[str, Names] = {
    "authors": published_names,
    "spikingjelly": spikingjelly_names,
    "torchvision": torchvision_names,
}
SUFFIXES = (".pth", ".pt", ".safetensors")
BUILT_THERE = {"stem": "7x7", "pool": "max", "width": 1.0, "in_channels": 3}  # by the image networks of all three
OTHER_IAND = (
    "SpikingJelly's bottleneck block computes A (1 - S) for IAND, the paper and this library S (1 - A): the same weights give "
    "other answers there (here, connect=lambda a, s: a * (1 - s) is theirs)"
)


class Conversion(NamedTuple):
    """Tensors under the names of another library.

    tensors:  name -> tensor, in the order of the network
    renamed:  how many of them have another name there
    untold:   options of the network that such a file cannot hold, with their values
    remarks:  what is other there, a sentence each
    """

    tensors: dict[str, Tensor]
    renamed: int
    untold: dict[str, Any]
    remarks: list[str]


def convert(net: Network, to: str) -> Conversion:
    """The network's tensors as another library names them, each exactly once.

    to:      "authors", "spikingjelly" (0.0.0.0.14 and later, 2.0 included) or "torchvision"
    Raises:  ValueError for a network that they do not have, or with a part that `build_model` did not make
    """
    if to not in NAMES:
        raise ValueError(f"there are no names of {to!r}; use {', '.join(NAMES)}")
    if net.spec and (parts := changed_parts(net, net.spec | {"num_classes": net.num_classes})):
        raise ValueError(f"its {min(parts)} was replaced: no network of another library has such a part")
    tensors = rename_tensors(net, to)
    renamed = sum(ours != theirs for ours, theirs in zip(net.state_dict(), tensors, strict=True))
    return Conversion(tensors, renamed, untold_options(net, to), remarks(net, to))


def rename_tensors(net: Network, to: str) -> dict[str, Tensor]:
    """The network's tensors under the names of another library, in the network's order."""
    names, state = NAMES[to](net), net.state_dict()
    assert len({*names.values()}) == len(state) == len(names), "names are one to one"
    tensors = {names[name]: tensor for name, tensor in state.items()}
    if to == "spikingjelly":  # PLIF's w is a scalar there
        tensors = {name: tensor.reshape(()) if name.endswith(".w") else tensor for name, tensor in tensors.items()}
    return tensors


def untold_options(net: Network, to: str) -> dict[str, Any]:
    """What of a network neither names nor shapes tell."""
    entry = find_model(net.spec["name"])
    told = {"num_classes", "in_channels", "stem", "width", "num_blocks", "backend", "zero_init"}
    options = effective_options(entry, net.spec) | {"T": net.T}
    asked = ("T", "connect", "neuron")  # also where they are the defaults here: others have other ones
    untold = [name for name in options if name in entry.options - told and (name in asked or net.spec[name] != DEFAULTS[name])]
    name = {"name": net.spec["name"]} if to == "torchvision" and entry.spiking else {}
    return name | {name: word_of(options[name]) for name in untold}


def word_of(option: Any) -> Any:
    """An option as it is, or the name of a function or class of the user's own."""
    return getattr(option, "__name__", "its own") if callable(option) else option


def remarks(net: Network, to: str) -> list[str]:
    """What another library's network of these names computes otherwise, or does not have."""
    entry, found = find_model(net.spec["name"]), []
    options = effective_options(entry, net.spec)
    if to == "torchvision" and net.spiking:
        found.append("torchvision's network has ReLU where this one has neurons: the weights fit there, the answers are others")
    if to == "spikingjelly" and swaps_iand(net):
        found.append(OTHER_IAND)
    if entry.family == "imagenet":
        other = [f"{name}={options[name]!r}" for name, value in BUILT_THERE.items() if options.get(name, value) != value]
        if other:
            found.append(f"no function there builds a network with {', '.join(other)}: change theirs before you load this")
    if to == "authors" and entry.family == "imagenet" and options["neuron"] != "IF":
        found.append(f"the authors' image networks have IF neurons, this one {options['neuron']}")
    if to == "spikingjelly":
        found.append(
            "SpikingJelly's network takes frames [T, N, C, H, W] in step mode 'm' and answers at each step: average over T; to "
            "train it on, say its surrogate function and detach_reset, whose defaults are others there"
        )
    return found


def swaps_iand(net: Network) -> bool:
    """Whether SpikingJelly's block of this kind takes g's two operands in the other order, where that matters."""
    bottlenecks = [block for block in net.blocks.values() if isinstance(block, SEWBlock) and block.num_layers == 3]
    return bool(bottlenecks) and net.spec.get("connect") == "IAND"


def write_tensors(net: Network, to: str, out: Path) -> Conversion:
    """Write `convert`'s tensors into a file: .safetensors, or .pth as torch.save writes it.

    A .pth under the authors' names holds what their checkpoints do: "model", and "args" with connect_f and T.
    Raises:  ValueError as `convert`, and for another suffix; nothing is written
    """
    if out.suffix not in SUFFIXES:
        raise ValueError(f"OUT={out} has another ending; use NAME{', NAME'.join(SUFFIXES)}")
    converted = convert(net, to)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in converted.tensors.items()}
    if out.suffix == ".safetensors":
        disk.atomic_write(out.absolute(), bytes(serialize(tensors)))
        return converted
    content: dict[str, Any] = dict(tensors)
    if to == "authors":
        content = {
            "model": tensors,
            "args": {"model": net.spec["name"], "connect_f": converted.untold.get("connect"), "T": net.T},
        }
    with io.BytesIO() as file:
        torch.save(content, file)
        disk.atomic_write(out.absolute(), file.getvalue())
    return converted
