"""A run that begins with trained weights: which network they are, what of them is taken, and what does not learn."""

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from ..config import Config
from ..data.input_spec import class_changes, match_classes
from ..models import Network
from ..models.parts import changed_parts
from ..models.weights import load_pretrained, resolve_weights_file
from ..wording import count, option
from .build import model_config
from .run.folder import ENVIRONMENT


def adopt_network(config: Config, told: Collection[str] = ()) -> Config:
    """The config with the network that its `weights` hold.

    told:    fields of the config's model that hold nevertheless: what a file does not tell (connect), or T
    Raises:  FileNotFoundError, ValueError as `load_pretrained`; ValueError for a network with parts that no config can say
    """
    assert config.weights is not None
    net = load_source(config.weights, {name: getattr(config.model, name) for name in told})
    return dataclasses.replace(config, model=model_config(net))


def load_source(weights: str, model: dict[str, Any]) -> Network:
    """The network of a weights file.

    Raises:  as `load_pretrained`; ValueError for one with parts, but a head, that no config can say
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = load_pretrained(weights, **model)
    if others := [path for path in changed_parts(net, net.spec) if path.partition(".")[0] != net.head_name]:
        raise ValueError(f"{weights}: its {others[0]} was replaced, which no config can say: train it in Python")
    return net


def load_initial_weights(net: Network, config: Config) -> tuple[str, bool]:
    """Give a fresh network the weights of its config, all but the head's where the classes are others.

    Returns: what to say of it, and whether the head is new
    Raises:  ValueError for weights of another network
    """
    assert config.weights is not None
    source = load_source(config.weights, vars(config.model))
    if source.in_channels != net.in_channels:
        channels = f"{count(source.in_channels, 'channel')}, {config.data.name} has {net.in_channels}"
        raise ValueError(f"{config.weights} takes {channels}")
    state, ours, head = source.state_dict(), net.state_dict(), f"{net.head_name}."
    of_head = {name: tensor for name, tensor in state.items() if name.startswith(head)}
    keeps_head = {name: tensor.shape for name, tensor in of_head.items()} == {
        name: tensor.shape for name, tensor in ours.items() if name.startswith(head)
    }
    if keeps_head and source.class_names and source.class_names != net.class_names:
        keeps_head = set(source.class_names) == set(net.class_names)
        if keeps_head:  # the same classes in another order
            order = list(match_classes(source.class_names, net.class_names, config.data.name))
            state |= {name: tensor[order] for name, tensor in of_head.items()}
    net.load_state_dict(
        {name: tensor for name, tensor in state.items() if keeps_head or name not in of_head}, strict=keeps_head
    )
    if keeps_head:
        return f"weights of {config.weights}{other_pixels(source, net)}", False
    old, new = source.num_classes, net.num_classes
    said = f"weights of {config.weights}, all but its head of {count(old, 'class')}; the head of {new} is new"
    if source.class_names and (
        classes := class_changes(source.class_names, net.class_names, added="added", missing="left out")
    ):
        said += f": {classes}"
    return said + other_pixels(source, net), True


def other_pixels(source: Network, net: Network) -> str:
    """What to say where weights were trained on photographs normalized otherwise than a run does; else ""."""
    theirs, ours = source.input_spec, net.input_spec
    if theirs is None or ours is None or {theirs.kind, ours.kind} != {"photographs"}:
        return ""
    if (theirs.mean, theirs.std) == (ours.mean, ours.std):
        return ""
    options = " ".join(f"--data.{name} {','.join(map(str, getattr(theirs, name) or ()))}" for name in ("mean", "std"))
    return f"; these were trained with {options}, which is not what this run normalizes with"


def describe_weights(config: Config) -> dict[str, Any]:
    """Where the initial weights came from: the file, its sha256, and under "weights" the same of the run that made it."""
    if config.weights is None:
        return {}
    file = resolve_weights_file(config.weights)
    with file.open("rb") as opened:
        described: dict[str, Any] = {"file": str(file.resolve()), "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError):  # of no run, or of one that began fresh
        described["weights"] = json.loads((Path(config.weights) / ENVIRONMENT).read_bytes())["weights"]
    return described


def frozen_modules(net: Network, names: str) -> list[nn.Module]:
    """The modules of a comma-separated list: their weights get no gradient.

    Raises:  ValueError for a name that is no module, has no weights or is given twice, and where nothing is left to learn
    """
    modules: list[nn.Module] = []
    known = ", ".join(child for child, module in net.named_children() if has_weights(module))
    for name in filter(None, (word.strip() for word in names.split(","))):
        try:
            module = net.get_submodule(name)
        except AttributeError:
            raise ValueError(f"{option('freeze', names)}: there is no {name!r}; use {known}, or parts of these") from None
        if not has_weights(module):
            raise ValueError(f"{option('freeze', names)}: {name!r} has no weights; use {known}, or parts of these")
        if module in modules:
            raise ValueError(f"{option('freeze', names)}: {name!r} is given twice; name it once")
        modules.append(module.requires_grad_(False))
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError(f"{option('freeze', names)} leaves nothing to learn; leave out the head at least")
    return modules


def has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def describe_frozen(net: Network, names: str, new_head: bool) -> str:
    """What does not learn, and how much does, in one line.

    new_head:  whether the head begins with fresh weights
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in net.parameters()]
    learning = sum(size for size, learns in sizes if learns)
    said = f"frozen: {names}; {learning:,} of {count(sum(size for size, _ in sizes), 'parameter')} learn"
    frozen_head = has_weights(net.head) and not any(parameter.requires_grad for parameter in net.head.parameters())
    if new_head and frozen_head:
        said += (
            f"; {net.head_name}, the head, is new and stays as it is drawn: take it out of {option('freeze')} if it is to learn"
        )
    return said
