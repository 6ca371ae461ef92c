"""A network before it has learnt: what its blocks fire, and how large the gradients are that reach them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.non_finite import BufferSnapshot
from ..models.network import Network
from ..models.recorder import in_mode, watched


class BlockAtStart(NamedTuple):
    """A block of a network in training mode, for one batch.

    changes_shape:  whether its shortcut is a convolution: between two of those lie the identity mapping areas
    branch:         mean of A, the branch's last neurons; of Spiking and Plain blocks, the same neurons as the output's
    output:         mean of O
    gradient:       norm of dL/dS, S the block's input
    gradient_out:   norm of dL/dO
    """

    name: str
    changes_shape: bool
    branch: float
    output: float
    gradient: float
    gradient_out: float


@contextmanager
def unchanged(net: Network, *, training: bool) -> Iterator[None]:
    """While open, the network is in training mode or not; behind, it is what it was, running estimates too."""
    buffers = BufferSnapshot(net)  # copies them
    try:
        with in_mode(net, training=training):
            yield
    finally:
        buffers.restore()


def measure(net: Network, images: Tensor, labels: Tensor) -> list[BlockAtStart]:
    """Rates and gradients of all blocks, in the order of depth; the network is left as it was.

    Shapes:  images [N, C, H, W] or frames [T, N, C, H, W]; labels [N]
    Raises:  ValueError for a network that does not spike
    """
    with unchanged(net, training=True), watched(net) as watches, torch.enable_grad():
        x = images.detach().requires_grad_()  # so that every block's input has a gradient
        loss = F.cross_entropy(net(x), labels)
        torch.autograd.grad(loss, x)
    found = []
    for name, block in net.blocks.items():
        branch, output = (float(torch.cat(of, 1).double().mean()) for of in (watches[name].branch, watches[name].output))
        gradients = watches[name].gradient_in, watches[name].gradient_out
        found.append(BlockAtStart(name, block.changes_shape, branch, output, *gradients))
    return found


def identity_areas(blocks: list[BlockAtStart]) -> list[list[BlockAtStart]]:
    """The runs of blocks whose shortcut is the identity."""
    areas: list[list[BlockAtStart]] = [[]]
    for block in blocks:
        if block.changes_shape:
            areas.append([])
        else:
            areas[-1].append(block)
    return [area for area in areas if area]
