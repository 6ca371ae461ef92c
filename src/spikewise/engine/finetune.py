"""A run that begins with trained weights: which network they are, what of them is taken, and what does not learn."""

import dataclasses
import hashlib
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from ..config import Config, Model
from ..models import Network
from ..models.parts import changed_parts
from ..models.weights import load_pretrained, resolve_weights_file


def adopt_network(config: Config, told: Collection[str] = ()) -> Config:
    """The config with the network that its `weights` hold.

    told:    fields of the config's model that hold nevertheless: what a file does not tell (connect), or T
    Raises:  FileNotFoundError, ValueError as `load_pretrained`; ValueError for a network with parts that no config can say
    """
    assert config.weights is not None
    net = load_source(config.weights, {name: getattr(config.model, name) for name in told})
    if others := [path for path in changed_parts(net, net.spec) if path.partition(".")[0] != net.head_name]:
        raise ValueError(f"{config.weights}: its {others[0]} was replaced, which no config can say: train it in Python")
    fields = {field.name for field in dataclasses.fields(Model)}
    return dataclasses.replace(config, model=Model(**{key: value for key, value in net.spec.items() if key in fields}))


def load_source(weights: str, model: dict[str, Any]) -> Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_pretrained(weights, **model)


def load_initial_weights(net: Network, config: Config) -> str:
    """Give a fresh network the weights of its config, all but the head's where the classes are others; and say what was taken.

    Raises:  ValueError for weights of another network
    """
    assert config.weights is not None
    source = load_source(config.weights, vars(config.model))
    if source.in_channels != net.in_channels:
        raise ValueError(f"{config.weights} takes {source.in_channels} channels, {config.data.name} has {net.in_channels}")
    keeps_head = source.num_classes == net.num_classes
    state = {
        name: tensor for name, tensor in source.state_dict().items() if keeps_head or name.partition(".")[0] != net.head_name
    }
    net.load_state_dict(state, strict=keeps_head)
    old, new = source.num_classes, net.num_classes
    new_head = "" if keeps_head else f", all but its head of {old} classes; the head of {new} is new"
    return f"weights of {config.weights}{new_head}"


def describe_weights(config: Config) -> dict[str, str]:
    """Where the initial weights came from: the file, and its sha256."""
    if config.weights is None:
        return {}
    file = resolve_weights_file(Path(config.weights))
    with file.open("rb") as opened:
        return {"file": str(file.resolve()), "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def frozen_modules(net: Network, names: str) -> list[nn.Module]:
    """The modules of a comma-separated list: their weights get no gradient.

    Raises:  ValueError for a name that is no module, and where nothing is left to learn
    """
    modules = []
    for name in filter(None, (word.strip() for word in names.split(","))):
        try:
            modules.append(net.get_submodule(name))
        except AttributeError:
            known = ", ".join(child for child, _ in net.named_children())
            raise ValueError(f"freeze={names!r}: there is no {name!r}; use {known}, or parts of these") from None
        modules[-1].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError(f"freeze={names!r} leaves nothing to learn; leave out the head at least")
    return modules
