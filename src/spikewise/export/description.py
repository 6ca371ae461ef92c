"""What every file of a network says of it, and the size of its input."""

import dataclasses
import warnings
from typing import Any

import torch

from ..models.network import Network
from ..version import __version__


def describe(net: Network, steps: int, shape: tuple[int, int]) -> dict[str, Any]:
    """The network, its steps, its input and its classes, as JSON can hold them."""
    spec = net.input_spec
    return {
        "version": __version__,
        "model": net.spec.get("name", type(net).__name__),
        "T": steps,
        "shape": [net.in_channels, *shape],
        "class_names": list(net.class_names),
        "input": None if spec is None else dataclasses.asdict(spec),
    }


def require_size(net: Network, shape: tuple[int, int]) -> None:
    """Refuse a height and width in pixels that the network does not take.

    Raises:  ValueError
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the values of the input, which are not the user's here
        net.check_input(torch.zeros(1, 1, net.in_channels, *shape, dtype=net.dtype), dims=(5,))
