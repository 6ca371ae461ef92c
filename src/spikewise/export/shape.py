"""The size of the input of a network that is exported."""

import warnings

import torch

from ..models.network import Network


def require_size(net: Network, shape: tuple[int, int]) -> None:
    """Refuse a height and width in pixels that the network does not take.

    Raises:  ValueError
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the values of the input, which are not the user's here
        net.check_input(torch.zeros(1, 1, net.in_channels, *shape, dtype=net.dtype), dims=(5,))
